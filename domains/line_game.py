"""What tic-tac-toe and Connect Four share: two players take turns to occupy cells, a full line wins, and a state is
written as the moves that led to it.

Cells are bits of one integer a player. A game supplies its move characters, where a move lands, and its lines.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from escalade.domains.base import ArrayDomain, FloatArray, IntArray
from escalade.domains.errors import ActionError, StateError


class LineState(NamedTuple):
    """One position. `moves`: the move characters so far; `mine`, `theirs`: cells of the player to move and of the
    other, as bits; `to_move`: 0 for the player who began, 1 for the other."""

    moves: str
    mine: int
    theirs: int
    to_move: int


class LineGame(ArrayDomain[LineState]):
    """Two players, no chance, no hidden information; see the module's text."""

    move_characters: str
    """The character of each action, in order of the action space."""
    move_noun: str
    """What one move names: "cell" or "column"."""
    num_cells: int
    row_width = 3
    """mine, theirs, to_move."""

    @abstractmethod
    def landing(self, occupied: int, action: int) -> int:
        """The bit that a move takes, 0 if there is no room for it."""
        ...

    @abstractmethod
    def has_line(self, cells: int) -> bool:
        """Whether these cells hold a winning line."""
        ...

    @abstractmethod
    def winning_cells(self, cells: int) -> int:
        """The cells, as bits, each of which would complete a line of these cells."""
        ...

    @abstractmethod
    def full_reason(self, action: int) -> str:
        """Why a move without room is refused, such as "column 4 is full"."""
        ...

    # States as text

    def parse(self, source: Any) -> LineState:
        """Play the moves in the text; white space around them is ignored.

        Raises StateError with the 1-based place in the text of the first impossible move. Reading stops there, so a
        long text costs no more than a long game.
        """
        what = f"{self.move_noun}s {self.move_characters[0]}-{self.move_characters[-1]}"
        if not isinstance(source, str):
            raise StateError(
                f"a {self.name} state is a text of {what} in the order played, such as '{self.move_characters[:2]}', "
                f"not {_kind(source)}"
            )
        before = len(source) - len(source.lstrip())
        state = self.initial_state()
        for number, character in enumerate(source.strip(), start=1):
            action = self.move_characters.find(character)
            # repr: a line break or half a surrogate pair would spoil the message.
            where = f"{self.name} state refused at move {number} ({character!r})"
            if action < 0:
                raise StateError(f"{where}: a move is one of the {what}", position=before + number)
            if self.is_terminal(state):
                raise StateError(f"{where}: the game was over after move {number - 1}", position=before + number)
            if not self.landing(state.mine | state.theirs, action):
                raise StateError(f"{where}: {self.full_reason(action)}", position=before + number)
            state = self.step(state, action)
        return state

    def format(self, state: LineState) -> str:
        return state.moves

    # Rules

    def initial_state(self) -> LineState:
        return LineState("", 0, 0, 0)

    def to_move(self, state: LineState) -> int:
        return state.to_move

    def legal_actions(self, state: LineState) -> Sequence[int]:
        if self.has_line(state.theirs):
            return []
        occupied = state.mine | state.theirs
        return [action for action in range(self.num_actions) if self.landing(occupied, action)]

    def step(self, state: LineState, action: int) -> LineState:
        action = self._plain(action)
        if self.is_terminal(state):
            raise ActionError(f"action {action} is not legal: the {self.name} game '{state.moves}' is over")
        bit = self.landing(state.mine | state.theirs, action)
        if not bit:
            raise ActionError(f"action {action} is not legal after '{state.moves}': {self.full_reason(action)}")
        moves = state.moves + self.move_characters[action]
        return LineState(moves, state.theirs, state.mine | bit, 1 - state.to_move)

    def is_terminal(self, state: LineState) -> bool:
        return len(state.moves) == self.num_cells or self.has_line(state.theirs)

    def outcome(self, state: LineState) -> float:
        # Only the player who just moved can have a line: a loss for the one to move.
        return -1.0 if self.has_line(state.theirs) else 0.0

    def ending_actions(self, state: LineState) -> Mapping[int, float]:
        ends: dict[int, float] = {}
        wins = self.winning_cells(state.mine)
        full = len(state.moves) + 1 == self.num_cells
        if (wins or full) and not self.has_line(state.theirs):
            occupied = state.mine | state.theirs
            for action in range(self.num_actions):
                bit = self.landing(occupied, action)
                if bit & wins:
                    ends[action] = 1.0
                elif bit and full:
                    ends[action] = 0.0
        return ends

    # Words

    def action_name(self, action: int) -> str:
        return self.move_characters[self._plain(action)]

    def turn_text(self, state: LineState, request: str) -> str:
        """The last line of a description: whose turn it is and what is asked, or how the game ended."""
        me, other = "XO"[state.to_move], "OX"[state.to_move]
        if self.is_terminal(state):
            return f"The game is over: {other} has won." if self.outcome(state) else "The game is over: a draw."
        return f"You are {me} and it is your turn. {request}"

    # Rows

    def to_rows(self, states: Sequence[LineState]) -> IntArray:
        return np.array([(s.mine, s.theirs, s.to_move) for s in states], dtype=np.int64).reshape(-1, 3)

    def encode(self, states: Sequence[LineState]) -> FloatArray:
        """float32 `[B, *observation_shape]`, from the mover's view; the game's class says what."""
        return self.encode_rows(self.to_rows(states))

    def _plain(self, action: object) -> int:
        """An action as a plain int, so that no NumPy scalar gets into a state. Raises ActionError if it is none."""
        try:
            number = operator.index(action)  # type: ignore[arg-type]
        except TypeError:
            number = -1
        if isinstance(action, bool) or not 0 <= number < self.num_actions:
            raise ActionError(f"{action!r} is not an action of {self.name}: those are 0 to {self.num_actions - 1}")
        return number


def _kind(value: object) -> str:
    """The JSON name of a value's type, for an error message."""
    names = {
        dict: "an object",
        list: "a list",
        type(None): "null",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), f"a value of type {type(value).__name__}")
