"""What zugzwang promises in Connect Four, against brute force; and the solver's table under contention."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.domains.connect_four import BOTTOM, ConnectFour
from escalade.domains.line_game import LineState
from escalade.search.connect_four_threats import find_threats, safe_moves, zugzwang_bounds
from escalade.search.solve_connect_four import ConnectFourSolver

GAME = ConnectFour()


def brute_force(state: LineState, known: dict[tuple[int, int], int]) -> int:
    """Plain minimax; `known` only spares what was computed before."""
    key = (state.mine, state.theirs)
    if key not in known:
        if GAME.is_terminal(state):
            known[key] = (len(state.moves) + 1) // 2 - 22 if GAME.outcome(state) else 0
        else:
            known[key] = max(-brute_force(GAME.step(state, action), known) for action in GAME.legal_actions(state))
    return known[key]


def random_position(seed: int, plies: int) -> LineState:
    """An unfinished position of so many plies of random play."""
    random = np.random.default_rng(seed)
    while True:
        state = GAME.initial_state()
        while len(state.moves) < plies and not GAME.is_terminal(state):
            state = GAME.step(state, int(random.choice(GAME.legal_actions(state))))
        if not GAME.is_terminal(state):
            return state


def first_score_bounds(state: LineState) -> tuple[int, int] | None:
    """The bounds as First sees them; None where the next two stones may decide, of which they do not speak."""
    occupied = state.mine | state.theirs
    others = find_threats(state.theirs, occupied)
    if find_threats(state.mine, occupied) & (occupied + BOTTOM) or safe_moves(occupied, others)[1]:
        return None
    mine = find_threats(state.mine, occupied)
    if state.to_move == 0:
        return zugzwang_bounds(state.mine, state.theirs, occupied, mine, others, -21, 21)
    return zugzwang_bounds(state.theirs, state.mine, occupied, others, mine, -21, 21)


@settings(max_examples=40)
@given(st.integers(0, 2**31))
def test_zugzwang_bounds_hold_wherever_brute_force_went(seed: int) -> None:
    known: dict[tuple[int, int], int] = {}
    brute_force(random_position(seed, 31), known)
    for (mine, theirs), score in known.items():
        stones = (mine | theirs).bit_count()
        state = LineState("?" * stones, mine, theirs, stones % 2)
        if not GAME.is_terminal(state) and (bounds := first_score_bounds(state)) is not None:
            assert bounds[0] <= (score if state.to_move == 0 else -score) <= bounds[1], state


def test_zugzwang_decides_some_positions_for_either_player() -> None:
    found = [first_score_bounds(random_position(seed, 26)) for seed in range(400)]
    assert max(bounds[0] for bounds in found if bounds is not None) > 0
    assert min(bounds[1] for bounds in found if bounds is not None) < 0


def test_a_threat_on_top_of_another_needs_no_zugzwang() -> None:
    # The second player may play below the two at any time: one is blocked, the other wins.
    state = GAME.parse("64564774277412251266615477621243551")
    bounds = first_score_bounds(state)
    assert bounds is not None
    assert bounds[0] <= -brute_force(state, {}) == -3


def test_threads_may_crowd_into_a_tiny_table() -> None:
    states = [random_position(seed, 18) for seed in range(40)]
    alone = [ConnectFourSolver().scores(state) for state in states]
    tiny = ConnectFourSolver(table_bits=4)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tiny.scores, states)) == alone


def test_the_value_is_the_sign_of_the_best_score() -> None:
    for seed in range(30):
        state = random_position(seed, 16)
        best = max(score for score in ConnectFourSolver().scores(state) if score is not None)
        assert ConnectFourSolver().value(state) == np.sign(best)
