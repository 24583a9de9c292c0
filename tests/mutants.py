"""What mutants for the conformance kit are made of: a right domain, and a way to get one thing wrong."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from escalade.domains.base import Domain, Symmetry
from escalade.domains.line_game import LineState
from escalade.domains.tic_tac_toe import TicTacToe

GAME = TicTacToe()


@dataclass
class Board:
    """A state that can be changed, so that a domain can do wrong by it."""

    moves: str


class EqualToAll(Board):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


@functools.cache
def position(state_moves: str) -> LineState:
    return GAME.parse(state_moves)


class Plain(Domain[Board]):
    """Tic-tac-toe without kernels, with states that can be changed. Right in everything."""

    name = "plain"
    num_actions = 9
    observation_shape = (3, 3, 3)

    def parse(self, source: Any) -> Board:
        return Board(GAME.parse(source).moves)

    def format(self, state: Board) -> str:
        return state.moves

    def legal_actions(self, state: Board) -> Sequence[int]:
        return GAME.legal_actions(position(state.moves))

    def encode(self, states: Sequence[Board]) -> Any:
        return GAME.encode([position(state.moves) for state in states])

    def initial_state(self) -> Board:
        return Board("")

    def step(self, state: Board, action: int) -> Board:
        return Board(GAME.step(position(state.moves), action).moves)

    def is_terminal(self, state: Board) -> bool:
        return GAME.is_terminal(position(state.moves))

    def outcome(self, state: Board) -> float:
        return GAME.outcome(position(state.moves))

    def to_move(self, state: Board) -> int:
        return len(state.moves) % 2

    def describe(self, state: Board) -> str:
        return f"Moves so far: {state.moves}"

    def action_name(self, action: int) -> str:
        return GAME.action_name(action)

    def symmetries(self) -> Sequence[Symmetry]:
        return GAME.symmetries()


def breaks(law: str, words: str, base: type = Plain, **changes: Any) -> Any:
    """A mutant for the table below: `law` begins the name of the law that must fail, `words` stand in what is told.

    `changes` are attributes, or functions that are given the right method first and then what it is called with.
    """
    body = {}
    for name, change in changes.items():
        body[name] = _method(getattr(base, name), change) if callable(change) else change
    mutant = type("Mutant", (base,), body)
    return pytest.param(mutant, law, words, id=re.sub(r"\W+", "-", f"{law}: {words}"))


def _method(right: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *arguments: change(functools.partial(right, self), *arguments)
