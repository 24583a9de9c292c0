"""What zugzwang promises in Connect Four, against brute force; and the solver's table under contention."""

from __future__ import annotations

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.domains.connect_four import ConnectFour
from escalade.domains.connect_four_boards import BOTTOM, find_threats, proven_value, safe_moves, zugzwang_bounds
from escalade.domains.line_game import LineState
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


def proven(state: LineState) -> float:
    return float(proven_value(state.mine, state.theirs, len(state.moves)))


@settings(max_examples=40)
@given(st.integers(0, 2**31))
def test_what_is_proven_is_true_wherever_brute_force_went(seed: int) -> None:
    known: dict[tuple[int, int], int] = {}
    brute_force(random_position(seed, 30), known)
    for (mine, theirs), score in known.items():
        stones = (mine | theirs).bit_count()
        state = LineState("?" * stones, mine, theirs, stones % 2)
        if not GAME.is_terminal(state):
            value = float(proven_value(mine, theirs, stones))
            assert math.isnan(value) or value == np.sign(score), state


def test_what_is_proven_earlier_in_the_game_agrees_with_the_solver() -> None:
    solver, found = ConnectFourSolver(), Counter[float]()
    for seed in range(300):
        state = random_position(seed, 12 + seed % 16)
        value = proven(state)
        if not math.isnan(value):
            found[value] += 1
            assert value == solver.value(state), state
    assert min(found[-1.0], found[1.0]) > 30


def test_forced_moves_are_followed_to_a_proof() -> None:
    seen = 0
    for seed in range(3000):
        state = random_position(seed, 20)
        occupied = state.mine | state.theirs
        moves, lost = safe_moves(occupied, find_threats(state.theirs, occupied))
        wins = find_threats(state.mine, occupied) & (occupied + BOTTOM)
        if wins or lost or moves & (moves - 1):
            continue
        forced = next(a for a in GAME.legal_actions(state) if GAME.landing(occupied, a) == moves)
        after = proven(GAME.step(state, forced))
        seen += not math.isnan(after)
        assert math.isnan(after) or proven(state) == -after
    assert seen > 20


def test_moves_are_proven_by_kernel_and_method_alike() -> None:
    states = [random_position(seed, 8 + seed % 30) for seed in range(400)]
    table = GAME.proofs_rows(GAME.to_rows(states))
    for state, row in zip(states, table, strict=True):
        assert GAME.proven_actions(state) == {a: float(v) for a, v in enumerate(row) if not math.isnan(v)}
        for action, value in GAME.proven_actions(state).items():
            after = GAME.step(state, action)
            told = GAME.outcome(after) if GAME.is_terminal(after) else proven(after)
            assert value == -told
