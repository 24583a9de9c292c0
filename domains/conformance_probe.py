"""What the laws of conformance are checked on: the states that random games reach, and careful calls into a domain."""

from __future__ import annotations

import contextlib
import copy
import operator
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MAX_PLIES = 1000
MAX_STATES = 2000
"""States a law is checked on, chosen at random from those reached; kernels are checked on `MAX_ROWS`."""
MAX_ROWS = 5000
MAX_VISITS = 50_000
"""Plies after which no further game is begun."""
MAX_TRIES = 20_000
"""Actions tried, over all states, to learn which of them end the game."""

DEFAULT_TEXTS = ("hello", "Where is my card?", "a", "0", "Was kostet das? 東京 👋", "two\nlines", "x " * 500)
"""Tried where a domain has no simulator and no states are given."""


Cases = Generator[None, None, str | None]
"""What the check of a law is: it yields once per case tried and may return a remark."""


class LawBroken(Exception):
    """The law does not hold. The text is one sentence: the counterexample and the fix."""


class Abrupt(Exception):
    """Something raised in a domain that is no ordinary exception. The text is its name and text."""


class LawSkipped(Exception):
    """The law cannot be checked. The text is the reason."""


@dataclass(frozen=True)
class Law:
    """name: the law in plain words. needs: names of laws without which its check would tell nothing."""

    name: str
    check: Callable[[Probe], Cases]
    needs: tuple[str, ...] = ()


@dataclass
class Game:
    """One random game. `actions[i]` led from `states[i]` to `states[i + 1]`; `over`: the last state is finished."""

    states: list[Any]
    actions: list[int] = field(default_factory=list)
    over: bool = False


class Probe:
    """A domain under test, with the states reached in it."""

    def __init__(
        self, domain: Any, texts: list[str], games: int, seed: int, max_plies: int, last_mover_loses: bool
    ) -> None:
        self.domain = domain
        self.texts = texts
        self.num_games = games
        self.seed = seed
        self.max_plies = max_plies
        self.last_mover_loses = last_mover_loses
        try:
            name = domain.name
        except Exception:  # noqa: BLE001 - the first law reports it
            name = None
        self.name = name if isinstance(name, str) and name.isidentifier() else type(domain).__name__
        self.games: list[Game] = []
        self.trouble = ""
        """Why playing had to stop, if it had to."""
        self._open: list[Any] = []
        self._finished: list[Any] = []
        self._endings: list[tuple[Any, dict[int, float]]] = []

    # Calls

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the domain. Whatever it raises breaks the law that is being checked."""
        try:
            return self.dare(method, *arguments)
        except Exception as error:
            raise LawBroken(f"{self.call(method, *arguments)} raised {told(error)}; it must answer here") from error

    def dare(self, method: str, *arguments: Any) -> Any:
        """Call a method of the domain and let its exceptions through. Those that would end the program (SystemExit, a
        panic in a compiled module) come as Abrupt; only an interrupt by the user does end it."""
        try:
            return getattr(self.domain, method)(*arguments)
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise Abrupt(told(error)) from error

    def call(self, method: str, *arguments: Any) -> str:
        """A call as text, for a message."""
        return f"{method}({', '.join(self._shown(method, argument) for argument in arguments)})"

    def show(self, state: Any) -> str:
        """A state as text, for a message."""
        try:
            return short(str(self.dare("format", state)))
        except Exception:  # noqa: BLE001 - a broken format is reported by its own law
            return short(state)

    def legal(self, state: Any) -> list[int]:
        """The legal actions of a state, sorted, and without what is no action: their own law reports that."""
        return tidy_actions(self.ask("legal_actions", fresh(state)), self.domain.num_actions)

    def same(self, left: Any, right: Any) -> bool:
        """Whether two states are equal. Raises LawBroken if they cannot be compared."""
        try:
            return bool(left == right)
        except Exception as error:
            raise LawBroken(
                f"comparing two states by == raised {told(error)}; make states of a type with a plain =="
            ) from error

    def encoded(self, states: Sequence[Any]) -> np.ndarray[Any, Any]:
        """`encode` of any number of states, in batches of at most 256."""
        parts = [
            self.ask("encode", [fresh(state) for state in states[at : at + 256]]) for at in range(0, len(states), 256)
        ]
        return np.concatenate(parts)

    def random(self, salt: int) -> np.random.Generator:
        """A generator of its own for one purpose, so that laws do not depend on each other."""
        return np.random.default_rng([self.seed, salt])

    # States

    def open_states(self, limit: int = MAX_STATES) -> list[Any]:
        """States that are not finished: copies, the starting states first. Raises LawSkipped if there are none."""
        return self._some(self._open, limit)

    def finished_states(self, limit: int = MAX_STATES) -> list[Any]:
        """States that are finished; may be empty."""
        return [fresh(state) for state in thin(self._finished, limit, self.random(1))]

    def states(self, limit: int = MAX_STATES) -> list[Any]:
        """Open and finished ones. Raises LawSkipped if there are none."""
        if not self._open and self._finished:
            return self.finished_states(limit)
        return self._some(self._open, limit) + self.finished_states(limit // 4)

    def endings(self) -> list[tuple[Any, dict[int, float]]]:
        """Unfinished states and what is brought, by `step`, by each action there that ends the game. Those before the
        last action of a game come first, as in long games hardly any other has such actions."""
        if not self._endings:
            last = [game.states[-2] for game in self.games if game.over and game.actions]
            tries, found = 0, []
            for state in [*thin(last, MAX_STATES // 4, self.random(8)), *self.open_states()]:
                legal = self.legal(state)
                brought = ((action, self.brought(state, action)) for action in legal)
                found.append((fresh(state), {action: end for action, end in brought if end is not None}))
                tries += len(legal)
                if tries >= MAX_TRIES:
                    break
            self._endings = found
        return self._endings

    def brought(self, state: Any, action: int) -> float | None:
        """What an action brings the player who takes it, if it ends the game."""
        after = self.ask("step", fresh(state), action)
        if not self.ask("is_terminal", fresh(after)):
            return None
        outcome = float(self.ask("outcome", fresh(after)))
        return outcome if self.ask("to_move", after) == self.ask("to_move", state) else 0.0 - outcome

    def needs_simulator(self) -> None:
        if not self.domain.has_simulator:
            raise LawSkipped("the domain has no simulator (has_simulator is False)")

    def reach(self) -> None:
        """Play the games, or parse the texts where there is no simulator. Stops at the first trouble and keeps it."""
        rng = self.random(0)
        try:
            starts = self._parsed()
            if self.domain.has_simulator:
                given = len(starts)
                starts += [self.ask("initial_state") for _ in range(self.num_games)]
                # Given states once each, then games from the start until there are enough.
                visits = 0
                for number, start in enumerate(starts):
                    if visits < MAX_VISITS or number < given:
                        visits += len(self.play(start, rng, keep=True).states)
            else:
                self._open = starts
        except LawBroken as fault:
            self.trouble = str(fault)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - such as an answer that cannot be iterated over
            self.trouble = f"an answer could not be used: {told(error)}"

    def play(self, start: Any, rng: np.random.Generator, *, keep: bool = False) -> Game:
        """One uniformly random game from a state. Ends early after `max_plies`, or where no action is legal."""
        game = Game([start])
        if keep:
            self.games.append(game)
        while True:
            state = game.states[-1]
            game.over = bool(self.ask("is_terminal", fresh(state)))
            if keep:
                (self._finished if game.over else self._open).append(state)
            legal = [] if game.over else self.legal(state)
            if not legal or len(game.actions) >= self.max_plies:
                return game
            action = legal[int(rng.integers(len(legal)))]
            game.actions.append(action)
            game.states.append(self.ask("step", fresh(state), action))

    def _parsed(self) -> list[Any]:
        """The states that the texts mean. Texts that are refused are left to the laws about `parse`."""
        found = []
        for text in self.texts or (() if self.domain.has_simulator else DEFAULT_TEXTS):
            with contextlib.suppress(Exception):
                found.append(self.dare("parse", text))
        return found

    def _some(self, states: list[Any], limit: int) -> list[Any]:
        if not states:
            why = "no state could be reached" if self.domain.has_simulator else "no state to check: give some as states"
            raise LawSkipped(why)
        return [fresh(state) for state in thin(states, limit, self.random(2))]

    def _shown(self, method: str, argument: Any) -> str:
        if isinstance(argument, np.ndarray):
            return f"array {list(argument.shape)}"
        if isinstance(argument, list) and method != "parse":
            return f"[{self.show(argument[0])}]" if len(argument) == 1 else f"[{len(argument)} states]"
        if isinstance(argument, int) or method in ("parse", "parse_action"):
            return short(argument)
        return self.show(argument)


def tidy_actions(actions: Iterable[Any], num_actions: int) -> list[int]:
    """Those that are actions at all, sorted, each once."""
    found = set()
    for action in actions:
        try:
            number = operator.index(action)
        except TypeError:
            continue
        if 0 <= number < num_actions:
            found.add(number)
    return sorted(found)


def fresh(state: Any) -> Any:
    """A copy to hand to a domain, so that one that changes it spoils nothing but its own law."""
    try:
        return copy.deepcopy(state)
    except Exception:  # noqa: BLE001 - some states cannot be copied; then the law about changes says so
        return state


def thin(items: list[Any], limit: int, rng: np.random.Generator) -> list[Any]:
    """At most `limit` of the items, chosen at random, in their order; the first is always among them."""
    if len(items) <= limit:
        return items
    chosen = rng.choice(len(items) - 1, size=limit - 1, replace=False) + 1
    return [items[0], *(items[int(index)] for index in np.sort(chosen))]


def told_end(end: float | None) -> str:
    """What an action does, as `Probe.brought` gives it, for a message."""
    return "does not end the game" if end is None else f"brings its mover {end}"


def kind_of(value: Any) -> str:
    """The name of a value's type, with its module unless that is built in."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def told(error: BaseException) -> str:
    """An exception in one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - even its text may fail
        text = ""
    text = text[:200].encode("utf-8", "backslashreplace").decode()  # half a surrogate pair cannot be printed
    return text if isinstance(error, Abrupt) else f"{type(error).__name__}: {text}".removesuffix(": ")


def short(value: Any) -> str:
    """A value in at most 60 characters."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a state's own repr may fail
        shown = f"a {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
