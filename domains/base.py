"""What a domain must say about itself, and the conventions everything else relies on.

Perspective law. A value is in [-1, 1] and is seen from the player to move in that state: +1 is a sure win for the
one who moves next, -1 a sure loss. The player to move is stored per state (`to_move`) and never assumed to
alternate. `outcome` of a finished state obeys the same law: the player to move there is the one who would move next,
so after a winning move in an alternating game the outcome is -1.

Action law. Actions are the integers 0 .. num_actions - 1, fixed for the domain. `legal_actions` lists those allowed
in a state; a finished state has none. Nothing downstream may choose another.

Text law. `parse(format(state)) == state` for every reachable state, and `parse` refuses everything else with a
`StateError` that names the place of the fault. `parse_action(action_name(a)) == a` for every action.

A domain without a simulator (one-step: a text to a label) sets `has_simulator = False`; value lookahead and search
are then skipped. `escalade domains check` tests all of this on any domain (`domains/conformance.py`).
"""

from __future__ import annotations

import math
import unicodedata
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from escalade.domains.errors import ActionError, NoSimulatorError
from escalade.domains.kernels import RowKernels, check_kernels
from escalade.domains.solver import Solver

S = TypeVar("S")

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
KeyArray = NDArray[np.uint64]

RUNGS = ("policy", "value", "reason", "search", "human")
"""Every rung there is, in the order of the default ladder, cheapest first."""


@dataclass(frozen=True)
class Symmetry:
    """A relabelling of states and actions that leaves the rules unchanged.

    name: what a person calls it, such as "mirror".
    observations: maps encoded states `[B, *O]` float32 to those of the relabelled states, same shape.
    actions: `[A]` int64, the relabelled action of each action.
    """

    name: str
    observations: Callable[[FloatArray], FloatArray]
    actions: IntArray


@runtime_checkable
class Domain(Protocol[S]):
    """What is decided. Inherit from it: only the methods marked abstract need writing.

    States may be any value with `==`; they are never mutated. `S` is their type.
    """

    name: str
    num_actions: int
    """A, the size of the fixed action space."""
    observation_shape: tuple[int, ...]
    """O, the shape of one encoded state."""
    has_simulator: bool = True
    bag_of_features: bool = False
    """Whether an observation says which of very many features a state has, such as hashed n-grams of a text, nearly all
    zero. What makes a state unlike others is then that its features are rare (`neural/novelty.py`)."""
    max_plies: int | None = None
    """No game from the initial state has more actions; None: not known. Training then bounds games by what random ones
    take (`escalade.domains.lengths`)."""
    ladder: tuple[str, ...] = RUNGS
    """The order in which rungs are tried for this domain, unless a run says otherwise."""

    # What a state is

    @abstractmethod
    def parse(self, source: Any) -> S:
        """The state that a text (or JSON value) means. Raises StateError if it means none."""
        ...

    @abstractmethod
    def format(self, state: S) -> str:
        """The canonical text of a state, the inverse of `parse`."""
        ...

    @abstractmethod
    def legal_actions(self, state: S) -> Sequence[int]:
        """The allowed actions in ascending order; empty only in a finished state."""
        ...

    @abstractmethod
    def encode(self, states: Sequence[S]) -> FloatArray:
        """What a network sees: float32 `[B, *observation_shape]`, from the view of each state's player to move."""
        ...

    def proof_text(self, state: S) -> str | None:
        """Where teaching and proof are kept apart, states with the same text are one state: what is left of a text
        without case and punctuation, say. None, the default: states that a network sees alike are."""
        return None

    # The simulator; all of it is needed when `has_simulator`

    def initial_state(self) -> S:
        """The state a game starts from."""
        raise NoSimulatorError(f"domain '{self.name}' has no simulator, so no initial state")

    def step(self, state: S, action: int) -> S:
        """The state after a legal action. Raises ActionError for an illegal one."""
        raise NoSimulatorError(f"domain '{self.name}' has no simulator, so no next state")

    def is_terminal(self, state: S) -> bool:
        """Whether the state is finished."""
        return False

    def outcome(self, state: S) -> float:
        """Result of a finished state in [-1, 1], from the view of its player to move."""
        raise NoSimulatorError(f"domain '{self.name}' has no simulator, so no outcome")

    def to_move(self, state: S) -> int:
        """The player to move, 0 or 1. One-player domains keep 0."""
        return 0

    def ending_actions(self, state: S) -> Mapping[int, float] | None:
        """The actions that end the game at once and their outcomes, from the view of the player to move in `state`.

        Search then never overlooks a win in one. None, the default, says that this is not known cheaply; search then
        finds it out as it goes.
        """
        return None

    def proven_actions(self, state: S) -> Mapping[int, float] | None:
        """Actions whose exact worth the rules prove without a search, and that worth to the player to move: such as
        which moves lose by zugzwang, where a domain knows. A sound proof, never an estimate; actions that end the game
        may be among them.

        Search then does not look further there. None, the default: nothing is known.
        """
        return None

    def solver(self) -> Solver | None:
        """An exact solver of the game (`domains/solver.py`); None, the default, where there is none. It is asked for
        once for each domain object, and kept."""
        return None

    def rungs_for(self, state: S) -> Sequence[str] | None:
        """The rungs that may decide this state; None, the default: all of the ladder. For rules of the domain's own,
        such as that large refunds are for people. What is left out is skipped, and the decision says so (`rule`)."""
        return None

    # Words

    def describe(self, state: S) -> str:
        """The state as told to a language model or a person: what is decided, and how things stand."""
        return self.format(state)

    def notation(self) -> str:
        """How a state is written, in one sentence, for who has to write one, such as an agent that calls a tool. Empty,
        the default, where the examples are enough."""
        return ""

    def examples(self) -> Sequence[str]:
        """Texts of unfinished states that show how states are written. The default: with a simulator, the state after
        the first legal action and after that once more; without one, none."""
        if not self.has_simulator:
            return ()
        state, found = self.initial_state(), ""
        for _ in range(2):
            legal = self.legal_actions(state)
            if len(legal) == 0 or self.is_terminal(state := self.step(state, legal[0])):
                break
            found = self.format(state)
        return (found,) if found else ()

    def action_name(self, action: int) -> str:
        """What a person types for an action."""
        return str(action)

    def parse_action(self, text: str) -> int:
        """The action a person named, in whichever of Unicode's canonical forms. Raises ActionError for an unknown
        name."""
        wanted = str(text).strip()
        names = [self.action_name(action) for action in range(self.num_actions)]
        if wanted in names:
            return names.index(wanted)
        alike = unicodedata.normalize("NFC", wanted)
        for action, name in enumerate(names):
            if unicodedata.normalize("NFC", name) == alike:
                return action
        raise ActionError(f"'{wanted[:40]}' is not an action of {self.name}")

    # Structure

    def symmetries(self) -> Sequence[Symmetry]:
        """Symmetries of the rules other than the identity."""
        return ()


@runtime_checkable
class ArrayDomain(Domain[S], Protocol[S]):
    """The fast path: the same rules as kernels over rows of integers, which search uses where it finds them.

    One state is one row of `row_width` int64; `kernels` say the same as the plain methods (the conformance kit checks).
    The methods below call the kernels on arrays `[B, row_width]`, for who wants results in new arrays.
    """

    row_width: int
    kernels: RowKernels

    @abstractmethod
    def to_rows(self, states: Sequence[S]) -> IntArray:
        """States as int64 `[B, row_width]`."""
        ...

    def step_rows(self, rows: IntArray, actions: IntArray) -> IntArray:
        """`[B, row_width]` after legal actions `[B]`."""
        out = np.empty_like(rows)
        check_kernels(self).step(_contiguous(rows), _contiguous(actions), out)
        return out

    def rules_rows(self, rows: IntArray) -> tuple[BoolArray, BoolArray, FloatArray, NDArray[np.int8]]:
        """legal `[B, A]` bool (all False where finished), terminal `[B]` bool, outcome `[B]` float32
        (0 where not finished), player to move `[B]` int8."""
        count = len(rows)
        legal = np.empty((count, self.num_actions), np.bool_)
        terminal, outcome, to_move = np.empty(count, np.bool_), np.empty(count, np.float32), np.empty(count, np.int8)
        check_kernels(self).rules(_contiguous(rows), legal, terminal, outcome, to_move)
        return legal, terminal, outcome, to_move

    def encode_rows(self, rows: IntArray) -> FloatArray:
        """The same as `encode`, of unfinished states."""
        out = np.empty((len(rows), math.prod(self.observation_shape)), np.float32)
        check_kernels(self).encode(_contiguous(rows), out)
        return out.reshape(len(rows), *self.observation_shape)

    def ends_rows(self, rows: IntArray) -> FloatArray:
        """`[B, A]` float32: outcomes of the actions that end the game, from the view of the player to move in the row;
        NaN for all other actions."""
        out = np.full((len(rows), self.num_actions), np.nan, np.float32)
        if self.kernels.ends is not None:
            check_kernels(self).ends(_contiguous(rows), out)
            return out
        legal, _, _, to_move = self.rules_rows(rows)
        which, actions = np.nonzero(legal)
        _, over, outcome, then_to_move = self.rules_rows(self.step_rows(rows[which], actions))
        turned = np.where(then_to_move != to_move[which], -outcome, outcome)
        out[which[over], actions[over]] = turned[over]
        return out

    def proofs_rows(self, rows: IntArray) -> FloatArray:
        """`[B, A]` float32: the worth of actions that is proven without a search, to the player to move in the row; NaN
        for all others."""
        out = np.full((len(rows), self.num_actions), np.nan, np.float32)
        if self.kernels.proofs is not None:
            check_kernels(self).proofs(_contiguous(rows), out)
        return out

    def playout_rows(self, rows: IntArray, keys: KeyArray) -> FloatArray:
        """`[B]` float32: the outcome of one uniformly random game from each row, from the view of the player to move
        in that row. `keys` `[B]` uint64 are the random seeds: equal key and row, equal result."""
        out = np.empty(len(rows), np.float32)
        check_kernels(self).playout(_contiguous(rows), _contiguous(keys), out)
        return out


def array_domain(domain: Domain[S]) -> ArrayDomain[S] | None:
    """The domain as an `ArrayDomain`, if it is one. As `isinstance` says, in a hundredth of the time."""
    return cast("ArrayDomain[S]", domain) if isinstance(getattr(domain, "kernels", None), RowKernels) else None


A = TypeVar("A", bound=np.generic)


def _contiguous(array: NDArray[A]) -> NDArray[A]:
    """The same array as kernels want it: C-ordered, and writeable in type though not written to."""
    return np.require(array, requirements=("C", "W"))


def legal_mask(domain: Domain[Any], states: Sequence[Any]) -> BoolArray:
    """Legal actions of each state as bool `[B, A]`."""
    mask = np.zeros((len(states), domain.num_actions), dtype=np.bool_)
    for row, state in enumerate(states):
        mask[row, list(domain.legal_actions(state))] = True
    return mask
