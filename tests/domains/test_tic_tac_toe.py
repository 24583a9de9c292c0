from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.errors import ActionError, StateError
from escalade.domains.line_game import LineState
from escalade.domains.tic_tac_toe import LINES, TicTacToe

GAME = TicTacToe()
DRAWN = "123457698"


@pytest.fixture(scope="module")
def every_state() -> list[LineState]:
    """One state of every board that play can reach, in order of plies."""
    seen, layer = {}, [GAME.initial_state()]
    while layer:
        following = []
        for state in layer:
            if (state.mine, state.theirs) not in seen:
                seen[state.mine, state.theirs] = state
                following += [GAME.step(state, action) for action in GAME.legal_actions(state)]
        layer = following
    return list(seen.values())


def test_counts_of_all_reachable_boards(every_state):
    finished = [state for state in every_state if GAME.is_terminal(state)]
    lost = [state for state in finished if GAME.outcome(state) == -1.0]
    # 5478 boards, 958 of them finished: 626 won by X, 316 by O, 16 drawn.
    assert (len(every_state), len(finished)) == (5478, 958)
    assert sum(state.to_move == 1 for state in lost) == 626
    assert sum(state.to_move == 0 for state in lost) == 316
    assert len(finished) - len(lost) == 16


def test_kernels_agree_with_plain_rules_on_every_board(every_state):
    rows = GAME.to_rows(every_state)
    legal, terminal, outcome, to_move = GAME.rules_rows(rows)
    for index, state in enumerate(every_state):
        assert np.flatnonzero(legal[index]).tolist() == list(GAME.legal_actions(state))
        assert terminal[index] == GAME.is_terminal(state)
        assert outcome[index] == (GAME.outcome(state) if terminal[index] else 0)
        assert to_move[index] == state.to_move


@pytest.mark.parametrize(
    ("text", "mine", "theirs", "to_move"),
    [("", 0, 0, 0), ("5", 0, 0b10000, 1), ("51", 0b10000, 0b1, 0), ("519", 0b1, 0b100010000, 1)],
)
def test_parse_reads_cells_in_the_order_played(text, mine, theirs, to_move):
    assert GAME.parse(text) == LineState(text, mine, theirs, to_move)
    assert GAME.format(GAME.parse(text)) == text


@pytest.mark.parametrize("moves", ["14253", "174859", DRAWN])
def test_finished_games_have_no_legal_action(moves):
    state = GAME.parse(moves)
    assert GAME.is_terminal(state)
    assert list(GAME.legal_actions(state)) == []


def test_outcome_is_seen_from_the_player_who_would_move_next():
    first_wins, second_wins = GAME.parse("14253"), GAME.parse("174859")
    assert (first_wins.to_move, GAME.outcome(first_wins)) == (1, -1.0)
    assert (second_wins.to_move, GAME.outcome(second_wins)) == (0, -1.0)
    assert GAME.outcome(GAME.parse(DRAWN)) == 0.0


def test_every_line_wins_and_nothing_else():
    for cells in range(512):
        boards = np.array(
            [[("X" if cells >> 3 * row + column & 1 else ".") for column in range(3)] for row in range(3)]
        )
        lines = [*boards, *boards.T, boards.diagonal(), boards[:, ::-1].diagonal()]
        assert GAME.has_line(cells) == any((line == "X").all() for line in lines)
    assert len(set(LINES)) == 8


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("0", 1, "one of the cells 1-9"),
        ("5x", 2, "one of the cells 1-9"),
        ("55", 2, "cell 5 is taken"),
        ("5195", 4, "cell 5 is taken"),
        ("142536", 6, "the game was over after move 5"),
        ("1425366", 6, "the game was over after move 5"),
        (DRAWN + "1", 10, "the game was over after move 9"),
        ("４", 1, "one of the cells 1-9"),
        ("5²", 2, "one of the cells 1-9"),
        ("5\n1", 2, "one of the cells 1-9"),
        ("5 1", 2, "one of the cells 1-9"),
        ("5\0", 2, "one of the cells 1-9"),
        ("\ud800", 1, "one of the cells 1-9"),
        ("  55", 4, "cell 5 is taken"),
        ("5" * 1_000_000, 2, "cell 5 is taken"),
    ],
)
def test_impossible_texts_are_refused_at_their_place(text, position, words):
    with pytest.raises(StateError, match=words) as refused:
        GAME.parse(text)
    assert refused.value.position == position
    assert "\n" not in str(refused.value)
    str(refused.value).encode()  # can be printed


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        (True, "a boolean"),
        (51, "a number"),
        (3.5, "a number"),
        (float("nan"), "a number"),
        ({"state": "51"}, "an object"),
        ([5, 1], "a list"),
        (b"51", "a value of type bytes"),
    ],
)
def test_only_a_text_is_a_state(value, kind):
    with pytest.raises(StateError, match=f"not {kind}$") as refused:
        GAME.parse(value)
    assert refused.value.position is None


@pytest.mark.parametrize("action", [-1, 9, 4, True, 1.0, "1", None, np.bool_(True)])
def test_step_refuses_what_is_not_a_legal_action(action):
    with pytest.raises(ActionError):
        GAME.step(GAME.parse("5"), action)


def test_step_refuses_to_play_on_after_the_end():
    with pytest.raises(ActionError, match="is over"):
        GAME.step(GAME.parse("14253"), 8)


def test_a_numpy_action_leaves_no_numpy_number_in_the_state():
    state = GAME.step(GAME.initial_state(), np.int64(3))
    assert [type(part) for part in state] == [str, int, int, int]


def test_action_names_are_the_cells():
    assert [GAME.action_name(action) for action in range(9)] == list("123456789")
    assert GAME.parse_action(" 9 ") == 8
    for wrong in ("0", "10", "", "x", "５", "-1"):
        with pytest.raises(ActionError):
            GAME.parse_action(wrong)
    for wrong in (-1, 9, True):
        with pytest.raises(ActionError):
            GAME.action_name(wrong)


def test_describe_shows_board_and_turn_or_the_end():
    assert GAME.describe(GAME.parse("51")).splitlines()[1:] == [
        *("O 2 3", "4 X 6", "7 8 9"),
        "You are X and it is your turn. Choose the number of a free cell.",
    ]
    assert GAME.describe(GAME.parse("14253")).endswith("The game is over: X has won.")
    assert GAME.describe(GAME.parse("174859")).endswith("The game is over: O has won.")
    assert GAME.describe(GAME.parse(DRAWN)).endswith("The game is over: a draw.")


def test_encode_shows_own_cells_first_whoever_is_to_move():
    own, other, free = GAME.encode([GAME.parse("51")])[0]
    assert own.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert other.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert free.tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 1]]
    own, other, _ = GAME.encode([GAME.parse("5")])[0]
    assert own.sum() == 0
    assert other[1, 1] == 1


def test_encode_of_nothing_is_an_empty_batch():
    assert GAME.encode([]).shape == (0, 3, 3, 3)


def test_a_quarter_turn_moves_a_corner_to_the_next_corner():
    turns = {symmetry.name: symmetry for symmetry in GAME.symmetries()}
    assert len(turns) == 7
    # np.rot90 turns against the clock: top left goes to bottom left, the centre stays.
    assert turns["90 degrees"].actions[[0, 4, 2]].tolist() == [6, 4, 0]
    assert turns["0 degrees mirrored"].actions.tolist() == [2, 1, 0, 5, 4, 3, 8, 7, 6]


@given(st.text(alphabet="123456789 x４", max_size=12))
def test_a_text_is_a_state_or_refused_within_itself(text):
    try:
        state = GAME.parse(text)
    except StateError as error:
        place = error.position
    else:
        assert GAME.format(state) == text.strip()
        assert GAME.parse(GAME.format(state)) == state
        assert (state.mine | state.theirs).bit_count() == len(text.strip())
        place = 1
    assert place is not None
    assert 1 <= place <= max(len(text), 1)


def test_playouts_from_the_empty_board_match_the_known_odds():
    # Of all games played at random 737/1260 are won by X, 121/420 by O, 8/63 drawn.
    count = 200_000
    rows = np.repeat(GAME.to_rows([GAME.initial_state()]), count, axis=0)
    values = GAME.playout_rows(rows, np.arange(count, dtype=np.uint64))
    shares = [(values == outcome).mean() for outcome in (1, -1, 0)]
    # Six standard errors of the most uncertain share.
    assert shares == pytest.approx([737 / 1260, 121 / 420, 8 / 63], abs=6 * 0.5 / count**0.5)


@pytest.mark.parametrize(("moves", "value"), [("12345687", 1.0), (DRAWN[:8], 0.0)])
def test_a_playout_with_one_move_left_is_certain(moves, value):
    rows = np.repeat(GAME.to_rows([GAME.parse(moves)]), 50, axis=0)
    assert set(GAME.playout_rows(rows, np.arange(50, dtype=np.uint64)).tolist()) == {value}
