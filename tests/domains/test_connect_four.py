from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.connect_four import ConnectFour
from escalade.domains.connect_four_boards import HEIGHT, WIDTH, fours
from escalade.domains.errors import ActionError, StateError

GAME = ConnectFour()
# Full without a line: columns filled in an order that breaks every four.
DRAWN = "121212212121343434434343565656656565777777"


def cells_of(board: np.ndarray) -> int:
    """The bits of the True cells of a `[6, 7]` board whose first row is the top."""
    return sum(
        1 << (HEIGHT + 1) * column + (HEIGHT - 1 - row)
        for row in range(HEIGHT)
        for column in range(WIDTH)
        if board[row, column]
    )


def has_four(board: np.ndarray) -> bool:
    """The rule as a person reads it: four True cells side by side, in any of four directions."""
    for row in range(HEIGHT):
        for column in range(WIDTH):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                places = [(row + k * down, column + k * right) for k in range(4)]
                if all(0 <= r < HEIGHT and 0 <= c < WIDTH and board[r, c] for r, c in places):
                    return True
    return False


def test_counts_of_positions_by_ply():
    # The On-Line Encyclopedia of Integer Sequences, A212693.
    layer, counts = {(0, 0): GAME.initial_state()}, []
    for _ in range(6):
        counts.append(len(layer))
        following = {}
        for state in layer.values():
            for action in GAME.legal_actions(state):
                after = GAME.step(state, action)
                following[after.mine, after.theirs] = after
        layer = following
    assert counts == [1, 7, 49, 238, 1120, 4263]


@given(st.lists(st.booleans(), min_size=42, max_size=42))
def test_lines_are_four_in_a_row_and_never_wrap(bits):
    board = np.array(bits).reshape(HEIGHT, WIDTH)
    assert GAME.has_line(cells_of(board)) == has_four(board)
    assert (fours(cells_of(board)) != 0) == has_four(board)


def test_every_line_alone_wins_and_three_of_it_do_not():
    count = 0
    for row in range(HEIGHT):
        for column in range(WIDTH):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                places = [(row + k * down, column + k * right) for k in range(4)]
                if all(0 <= r < HEIGHT and 0 <= c < WIDTH for r, c in places):
                    board = np.zeros((HEIGHT, WIDTH), dtype=bool)
                    board[tuple(zip(*places, strict=True))] = True
                    assert GAME.has_line(cells_of(board))
                    board[places[count % 4]] = False
                    assert not GAME.has_line(cells_of(board))
                    count += 1
    assert count == 69


def test_parse_drops_discs_to_the_lowest_free_place():
    state = GAME.parse("4455")
    assert state == ("4455", 1 << 21 | 1 << 28, 1 << 22 | 1 << 29, 0)
    assert GAME.format(state) == "4455"
    assert list(GAME.legal_actions(GAME.parse("444444"))) == [0, 1, 2, 4, 5, 6]


@pytest.mark.parametrize(
    ("moves", "to_move"),
    [
        ("1212121", 1),  # upright
        ("1122334", 1),  # flat
        ("43522223354", 1),  # descending
        ("34566644655", 1),  # ascending
        ("71212121", 0),  # by the second player
    ],
)
def test_a_finished_line_loses_for_the_one_to_move(moves, to_move):
    state = GAME.parse(moves)
    assert GAME.is_terminal(state)
    assert state.to_move == to_move
    assert GAME.outcome(state) == -1.0
    assert list(GAME.legal_actions(state)) == []
    assert not GAME.is_terminal(GAME.parse(moves[:-1]))


def test_a_full_board_without_a_line_is_a_draw():
    state = GAME.parse(DRAWN)
    assert GAME.is_terminal(state)
    assert GAME.outcome(state) == 0.0
    legal, terminal, outcome, to_move = GAME.rules_rows(GAME.to_rows([state]))
    assert (legal.any(), terminal[0], outcome[0], to_move[0]) == (False, True, 0.0, 0)


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("8", 1, "one of the columns 1-7"),
        ("0", 1, "one of the columns 1-7"),
        ("44x", 3, "one of the columns 1-7"),
        ("4444444", 7, "column 4 is full"),
        ("12121212", 8, "the game was over after move 7"),
        ("12121219", 8, "one of the columns 1-7"),
        (DRAWN + "1", 43, "the game was over after move 42"),
        ("４", 1, "one of the columns 1-7"),
        ("4²", 2, "one of the columns 1-7"),
        ("44\n55", 3, "one of the columns 1-7"),
        (" \t4444444 ", 9, "column 4 is full"),
        ("4" * 1_000_000, 7, "column 4 is full"),
    ],
)
def test_impossible_texts_are_refused_at_their_place(text, position, words):
    with pytest.raises(StateError, match=words) as refused:
        GAME.parse(text)
    assert refused.value.position == position


@pytest.mark.parametrize("value", [None, 4455, 44.5, True, {}, [4, 4], b"44"])
def test_only_a_text_is_a_state(value):
    with pytest.raises(StateError, match="a connect_four state is a text of columns 1-7"):
        GAME.parse(value)


@pytest.mark.parametrize(("moves", "action"), [("444444", 3), ("4", -1), ("4", 7), ("4", True), ("1212121", 1)])
def test_step_refuses_illegal_actions(moves, action):
    with pytest.raises(ActionError):
        GAME.step(GAME.parse(moves), action)


def test_encode_shows_the_board_as_a_person_sees_it():
    own, other, next_free, wins, losses = GAME.encode([GAME.parse("447")])[0][:210].reshape(5, 6, 7)
    assert not wins.any()
    assert not losses.any()
    assert np.argwhere(own).tolist() == [[4, 3]]
    assert np.argwhere(other).tolist() == [[5, 3], [5, 6]]
    assert np.argwhere(next_free).tolist() == [[3, 3], [4, 6], *([5, column] for column in (0, 1, 2, 4, 5))]
    full = GAME.encode([GAME.parse("444444")])[0][:210].reshape(5, 6, 7)
    assert np.argwhere(full[2]).tolist() == [[5, column] for column in (0, 1, 2, 4, 5, 6)]


def lines_of(own: np.ndarray, other: np.ndarray) -> list[int]:
    """For one, two and three discs: in how many lines of four the mover has so many and the other none, and the other
    way round; counted as a person would."""
    counts = []
    for held in (1, 2, 3):
        for mine, theirs in ((own, other), (other, own)):
            count = 0
            for row in range(HEIGHT):
                for column in range(WIDTH):
                    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                        places = [(row + k * down, column + k * right) for k in range(4)]
                        if all(0 <= r < HEIGHT and 0 <= c < WIDTH for r, c in places):
                            count += sum(mine[p] for p in places) == held and not any(theirs[p] for p in places)
            counts.append(count)
    return counts


def completes_four(discs: np.ndarray, row: int, column: int) -> bool:
    """Whether one more disc there makes four in a line; looked for along each line as a person would."""
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        held = 0
        for sign in (1, -1):
            for step in range(1, 4):
                r, c = row + sign * step * down, column + sign * step * right
                if not (0 <= r < HEIGHT and 0 <= c < WIDTH and discs[r, c]):
                    break
                held += 1
        if held >= 3:
            return True
    return False


@given(st.lists(st.integers(0, 6), max_size=41))
def test_encode_counts_the_lines_that_are_still_open(actions):
    state = GAME.initial_state()
    for action in actions:
        if action in GAME.legal_actions(state) and not GAME.is_terminal(GAME.step(state, action)):
            state = GAME.step(state, action)
    seen = GAME.encode([state])[0]
    own, other, _, wins, losses = seen[:210].reshape(5, 6, 7)
    assert seen[210:].reshape(6, 69).sum(axis=1).tolist() == lines_of(own, other)
    free = (own + other) == 0
    for player, threats in ((own, wins), (other, losses)):
        assert [tuple(cell) for cell in np.argwhere(threats)] == [
            tuple(cell) for cell in np.argwhere(free) if completes_four(player, *cell)
        ]
    assert set(np.unique(seen)) <= {0.0, 1.0}


def test_describe_shows_the_board_with_the_first_player_as_x():
    assert GAME.describe(GAME.parse("447")).splitlines()[-3:] == [
        ". . . O . . .",
        ". . . X . . X",
        "You are O and it is your turn. Choose a column that is not full.",
    ]
    assert GAME.describe(GAME.parse("1212121")).endswith("The game is over: X has won.")


def test_the_mirror_swaps_left_and_right():
    (mirror,) = GAME.symmetries()
    assert mirror.actions.tolist() == [6, 5, 4, 3, 2, 1, 0]
    for moves in ("112", "12233445", "44556"):
        swapped = moves.translate(str.maketrans("1234567", "7654321"))
        seen = mirror.observations(GAME.encode([GAME.parse(moves)]))
        assert np.array_equal(seen, GAME.encode([GAME.parse(swapped)]))


@given(st.text(alphabet="12345678", max_size=60))
def test_kernels_follow_plain_play_for_as_long_as_a_text_is_a_game(text):
    state = GAME.initial_state()
    row = GAME.to_rows([state])
    for number, character in enumerate(text, start=1):
        legal, terminal, outcome, to_move = GAME.rules_rows(row)
        assert np.flatnonzero(legal[0]).tolist() == list(GAME.legal_actions(state))
        assert (terminal[0], outcome[0], to_move[0]) == (
            *(GAME.is_terminal(state), GAME.outcome(state) if terminal[0] else 0),
            state.to_move,
        )
        action = int(character) - 1
        if action not in GAME.legal_actions(state):
            with pytest.raises(StateError) as refused:
                GAME.parse(text)
            assert refused.value.position == number
            break
        state = GAME.step(state, action)
        row = GAME.step_rows(row, np.array([action]))
        assert row.tolist() == GAME.to_rows([state]).tolist()
    else:
        assert GAME.parse(text) == state


def test_playouts_do_not_depend_on_the_rest_of_the_batch():
    rows = GAME.to_rows([GAME.parse(text) for text in ("", "4", "4455", "1122")] * 50)
    keys = np.random.default_rng(0).integers(0, 2**64, size=200, dtype=np.uint64)
    values = GAME.playout_rows(rows, keys)
    assert np.array_equal(GAME.playout_rows(rows[::-1].copy(), keys[::-1].copy())[::-1], values)
    assert set(np.unique(values)) <= {-1.0, 0.0, 1.0}
    assert len(set(values.tolist())) > 1


def test_a_playout_with_one_place_left_is_certain():
    rows = np.repeat(GAME.to_rows([GAME.parse(DRAWN[:-1])]), 50, axis=0)
    assert set(GAME.playout_rows(rows, np.arange(50, dtype=np.uint64)).tolist()) == {0.0}


def test_rules_agree_with_the_exact_scores_of_real_positions(shared_data):
    """A column is legal where the file has a score, and wins at once where that is the greatest score there can be."""
    with shared_data("connect_four/positions.csv").open(newline="") as file:
        positions = list(csv.DictReader(file))
    assert len(positions) == 2000
    wins = 0
    for position in positions:
        state = GAME.parse(position["moves"])
        scores = [position[f"score_{column}"] for column in range(1, 8)]
        assert list(GAME.legal_actions(state)) == [column for column in range(7) if scores[column]]
        at_once = (WIDTH * HEIGHT + 1 - len(state.moves)) // 2
        for action in GAME.legal_actions(state):
            after = GAME.step(state, action)
            won = GAME.is_terminal(after) and GAME.outcome(after) == -1.0
            assert won == (int(scores[action]) == at_once)
            wins += won
    assert wins > 100


def test_rules_agree_with_open_spiel_over_random_games():
    pyspiel = pytest.importorskip("pyspiel", reason="needs open_spiel, of the extra 'bench'")
    rng = np.random.default_rng(1)
    peer_game = pyspiel.load_game("connect_four")
    for _ in range(200):
        state, peer = GAME.initial_state(), peer_game.new_initial_state()
        while not peer.is_terminal():
            assert not GAME.is_terminal(state)
            assert list(GAME.legal_actions(state)) == peer.legal_actions()
            assert state.to_move == peer.current_player()
            action = int(rng.choice(peer.legal_actions()))
            state = GAME.step(state, action)
            peer.apply_action(action)
        assert GAME.is_terminal(state)
        assert GAME.outcome(state) == peer.returns()[state.to_move]
