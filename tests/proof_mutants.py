"""Domains that prove what is not so, or prove it wrongly: mutants for the conformance kit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mutants import GAME, breaks
from numba import njit

from escalade.domains.connect_four import ConnectFour
from escalade.domains.line_game import LineState
from escalade.domains.tic_tac_toe import TicTacToe

C4 = ConnectFour()
PROOFS, KERNEL = "proven_actions agrees", "proofs_rows agrees"


class Proving(TicTacToe):
    """Tic-tac-toe that proves what ends the game. Right in everything, and quicker to check than Connect Four."""

    kernels = GAME.kernels._replace(proofs=GAME.kernels.ends)

    def proven_actions(self, state: LineState) -> Mapping[int, float]:
        return self.ending_actions(state)


# Methods


def with_a_taken_cell(right: Any, state: LineState) -> Any:
    return right(state) | ({int(state.moves[0]) - 1: 1.0} if state.moves else {})


def first_players_view(right: Any, state: LineState) -> Any:
    return {action: -value if state.to_move else value for action, value in right(state).items()}


def mapped(key: Callable[[Any], Any] = int, value: Callable[[Any], Any] = float) -> Callable[..., Any]:
    return lambda right, state: {key(action): value(worth) for action, worth in right(state).items()}


def hoping(player: int, worth: float, plies: range = range(9)) -> Callable[..., Any]:
    """One player takes every action that does not end the game to be worth so much."""

    def proven_actions(right: Any, state: LineState) -> Any:
        hopes = state.to_move == player and len(state.moves) in plies
        return (dict.fromkeys(GAME.legal_actions(state), worth) | GAME.ending_actions(state)) if hopes else None

    return proven_actions


def lost_at_once_turned_round(right: Any, state: LineState) -> Any:
    ends = C4.ending_actions(state)
    return {action: worth if action in ends else -worth for action, worth in right(state).items()}


PLAIN_PROOFS = [
    breaks(PROOFS, "is a list; give a dict", TicTacToe, proven_actions=lambda _, state: GAME.legal_actions(state)),
    breaks(PROOFS, "holds numpy.int64: float; give plain ints", Proving, proven_actions=mapped(key=np.int64)),
    breaks(PROOFS, "holds int: numpy.float32; give plain ints", Proving, proven_actions=mapped(value=np.float32)),
    breaks(PROOFS, "holds int: bool; give plain ints to plain", Proving, proven_actions=mapped(value=bool)),
    breaks(PROOFS, "which is not legal there", Proving, proven_actions=with_a_taken_cell),
    breaks(PROOFS, "holds -1, which is not legal", TicTacToe, proven_actions=lambda *_: {-1: 0.0}),
    breaks(PROOFS, "is worth 1.5; values are in", Proving, proven_actions=mapped(value=lambda worth: 1.5 * worth)),
    breaks(PROOFS, "is worth nan; values are", Proving, proven_actions=mapped(value=lambda worth: worth or np.nan)),
    breaks(
        *(PROOFS, "is worth -1.0, and by what follows it is worth 1.0", Proving),
        proven_actions=mapped(value=lambda worth: -worth),
    ),
    breaks(PROOFS, "is worth -1.0, and by what", Proving, proven_actions=first_players_view),
    # Refuted by how the other player can end the game next, by what is proven next, by all that can happen next.
    breaks(PROOFS, "is worth 0.0, and by what follows it is worth -1.0;", TicTacToe, proven_actions=hoping(0, 0.0)),
    breaks(
        PROOFS,
        "is worth 1.0, and by what follows it is worth -1.0;",
        TicTacToe,
        proven_actions=hoping(1, 1.0, range(4)),
    ),
    breaks(PROOFS, "is worth -1.0, and by what follows it is", TicTacToe, proven_actions=hoping(1, -1.0, range(7, 8))),
    breaks(PROOFS, "and by what follows it is worth", ConnectFour, proven_actions=lost_at_once_turned_round),
]


# Kernels

C4_ENDS, C4_PROOFS = C4.kernels.ends, C4.kernels.proofs
OWN_ENDS = GAME.kernels.ends


@njit
def forgetful(rows, out):
    """Sets the entries of legal actions only."""
    found = np.empty_like(out)
    OWN_ENDS(rows, found)
    for b in range(rows.shape[0]):
        for a in range(9):
            if not ((rows[b, 0] | rows[b, 1]) >> a) & 1:
                out[b, a] = found[b, a]


@njit
def overwriting(rows, out):
    OWN_ENDS(rows, out)
    for b in range(rows.shape[0]):
        rows[b, 2] = 0


@njit
def turned_round(rows, out):
    """What is lost at once is won and the other way round, but for what ends the game."""
    C4_PROOFS(rows, out)
    ends = np.empty_like(out)
    C4_ENDS(rows, ends)
    for b in range(rows.shape[0]):
        for a in range(7):
            out[b, a] = out[b, a] if ends[b, a] == ends[b, a] else -out[b, a]


@njit
def forgetting_full_columns(rows, out):
    found = np.empty_like(out)
    C4_PROOFS(rows, found)
    for b in range(rows.shape[0]):
        for a in range(7):
            if not ((rows[b, 0] | rows[b, 1]) >> (7 * a + 5)) & 1:
                out[b, a] = found[b, a]


def proofs_rows_in_place(right: Any, rows: Any) -> Any:
    found = right(rows)
    rows[:, 2] = 0
    return found


def finished_too(right: Any, rows: Any) -> Any:
    return np.where(GAME.rules_rows(rows)[1][:, None], np.float32(0), right(rows))


def taken_cells_too(right: Any, rows: Any) -> Any:
    return np.where((rows[:, :1] | rows[:, 1:2]) >> np.arange(9) & 1 > 0, np.float32(1), right(rows))


def c4_method(right: Any, state: LineState) -> Any:
    """That of the right game: the inherited one asks the mutant's own kernel."""
    return C4.proven_actions(state)


KERNEL_PROOFS = [
    breaks(KERNEL, "gives float64", Proving, proofs_rows=lambda right, rows: right(rows).astype(np.float64)),
    breaks(KERNEL, "give float32", Proving, proofs_rows=lambda right, rows: right(rows)[:, :8]),
    breaks(KERNEL, "proofs_rows changed the rows", Proving, proofs_rows=proofs_rows_in_place),
    breaks(KERNEL, "changed the rows it", Proving, kernels=Proving.kernels._replace(proofs=overwriting)),
    breaks(
        *(KERNEL, "is not proven, and proven_actions that it is worth", Proving),
        proofs_rows=lambda right, rows: np.full_like(right(rows), np.nan),
    ),
    breaks(
        *(KERNEL, "is worth -1.0, and proven_actions that it is worth 1.0", Proving),
        proofs_rows=lambda right, rows: -right(rows),
    ),
    breaks(
        *(KERNEL, "is worth 0.0, and proven_actions that it is not proven", Proving),
        proofs_rows=lambda right, rows: np.nan_to_num(right(rows)),
    ),
    breaks(KERNEL, "is worth 0.0, and the game is over", Proving, proofs_rows=finished_too),
    breaks(KERNEL, "is worth 1.0, and proven_actions that it is not", Proving, proofs_rows=taken_cells_too),
    breaks(KERNEL, "is worth 0.0, and proven_actions that", Proving, proven_actions=lambda *_: None),
    breaks(KERNEL, "leaves out[b, ", Proving, kernels=Proving.kernels._replace(proofs=forgetful)),
    breaks(
        *(KERNEL, "leaves out[b, 4] as it was; set every entry, to NaN where the action is not proven", ConnectFour),
        kernels=C4.kernels._replace(proofs=forgetting_full_columns),
    ),
    breaks(
        *(KERNEL, "is worth 1.0, and proven_actions that it is worth -1.0", ConnectFour),
        proven_actions=c4_method,
        kernels=C4.kernels._replace(proofs=turned_round),
    ),
]
PROOF_MUTANTS = [*PLAIN_PROOFS, *KERNEL_PROOFS]
