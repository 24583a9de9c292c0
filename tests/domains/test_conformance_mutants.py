"""Of a domain with one law broken the kit fails that law and no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from mutants import GAME, Board, EqualToAll, Plain, breaks, position
from numba import njit
from proof_mutants import PROOF_MUTANTS, Proving

from escalade.domains.conformance import LAW_NAMES, check_domain
from escalade.domains.errors import ActionError, StateError
from escalade.domains.line_game import LineState
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.solve_tic_tac_toe import TicTacToeSolver


def refusing(error: Exception | None) -> Callable[..., Any]:
    """A step that answers an illegal action by this error, or by doing nothing."""

    def step(right: Any, state: Board, action: int) -> Board:
        try:
            return right(state, action)
        except ActionError:
            if error:
                raise error from None
            return Board(state.moves)

    return step


def failing_at(plies: int, error: Exception) -> Callable[..., Any]:
    """A step that fails on a legal action."""

    def step(right: Any, state: Board, action: int) -> Board:
        after = right(state, action)
        if len(state.moves) == plies:
            raise error
        return after

    return step


def endless_step(right: Any, state: Board, action: int) -> Board:
    if action not in range(9):
        raise ActionError("no such cell")
    return Board(state.moves)


def counting_from_zero(right: Any, source: Any) -> Board:
    try:
        return right(source)
    except StateError as error:
        raise StateError(str(error), position=error.position and error.position - 1) from None


def any_name(right: Any, text: str) -> int:
    try:
        return right(text)
    except ActionError:
        return 0


def step_in_place(right: Any, state: Board, action: int) -> Board:
    state.moves = right(state, action).moves
    return Board(state.moves)


def refused_step_in_place(right: Any, state: Board, action: int) -> Board:
    moves, state.moves = state.moves, ""
    after = right(Board(moves), action)
    state.moves = moves
    return after


def encode_and_shorten(right: Any, states: Sequence[Board]) -> Any:
    encoded = right(states)
    for state in states:
        state.moves = state.moves[:2]
    return encoded


def known_actions_in_place(right: Any, state: Board) -> None:
    state.moves = ""


def with_a_taken_cell(right: Any, state: LineState) -> Any:
    return right(state) | ({int(state.moves[0]) - 1: 1.0} if state.moves else {})


def ever_new(numbers: Iterator[int]) -> Callable[..., Any]:
    return lambda _, state: f"{state.moves} {next(numbers)}"


def one_buffer(buffer: Any) -> Callable[..., Any]:
    def encode(right: Any, states: Sequence[Board]) -> Any:
        buffer[: len(states)] = right(states)
        return buffer[: len(states)]

    return encode


def without_centre(right: Any, states: Sequence[Board]) -> Any:
    encoded = right(states)
    encoded[:, :, 1, 1] = 0
    return encoded


def without_owners(right: Any, states: Sequence[Board]) -> Any:
    encoded = right(states)
    encoded[:, 0] = encoded[:, 1] = 1 - encoded[:, 2]
    return encoded


def quarter_turn(**fields: Any) -> Callable[..., Any]:
    """The symmetries of the square, with some fields of a quarter turn replaced."""
    return lambda right: [
        dataclasses.replace(symmetry, **fields) if symmetry.name == "90 degrees" else symmetry for symmetry in right()
    ]


BACKWARDS = next(np.argsort(symmetry.actions) for symmetry in GAME.symmetries() if symmetry.name == "90 degrees")
ATTRIBUTES, GAMES, INVERSE = "its attributes", "games can be played", "parse and format are inverse"
REFUSES, NAMES, LEGAL, OVER = "parse refuses", "action names", "legal actions are", "finished states, and only they"
ILLEGAL, CHANGE, SAME, PLAIN = "step refuses", "no call changes", "the same question", "answers are plain"
EXAMPLES = "examples are states"
PLAYER, OUTCOME, VIEW, WORDS = "the player to move", "outcomes are finite", "outcomes are seen", "describe gives"
RULED = "rungs_for names"
ENCODE, ALIKE, SYMMETRY = "encode gives", "states that encode alike", "symmetries leave"
ENDINGS = "ending_actions agrees"

PLAIN_MUTANTS = [
    breaks(ATTRIBUTES, "'my game'", name="my game"),
    breaks(ATTRIBUTES, "num_actions is True", num_actions=True),
    breaks(ATTRIBUTES, "(3, 0)", observation_shape=(3, 0)),
    breaks(ATTRIBUTES, "('policy', 'oracle')", ladder=("policy", "oracle")),
    breaks(
        *(GAMES, "not over after 50 actions"),
        is_terminal=lambda *_: False,
        legal_actions=lambda *_: range(9),
        step=endless_step,
    ),
    breaks(GAMES, "raised KeyError: 'grid'", step=failing_at(2, KeyError("grid"))),
    breaks(GAMES, "raised ActionError: not there", step=failing_at(3, ActionError("not there"))),
    breaks(INVERSE, "make parse and format", parse=lambda right, source: Board(right(source).moves[:3])),
    breaks(INVERSE, "raised StateError", format=lambda _, state: state.moves + "!"),
    breaks(INVERSE, "it must give a text", format=lambda _, state: list(state.moves)),
    breaks(
        *(INVERSE, "count as equal"),
        parse=lambda right, source: EqualToAll(right(source).moves),
        step=lambda right, state, action: EqualToAll(right(state, action).moves),
    ),
    breaks(REFUSES, "parse(None) raised AttributeError", parse=lambda right, source: right(source.strip())),
    breaks(REFUSES, "position 0", parse=counting_from_zero),
    breaks(REFUSES, "parse accepts None, but", parse=lambda _, source: Board(str(source))),
    breaks(NAMES, "actions 0 and 1 are both", action_name=lambda right, action: right(max(action, 1))),
    breaks(NAMES, "parse_action('9') is 0", parse_action=lambda right, text: 0 if text == "9" else right(text)),
    breaks(NAMES, "no action has that name", parse_action=any_name),
    breaks(LEGAL, "in ascending order", legal_actions=lambda right, state: list(right(state))[::-1]),
    breaks(
        LEGAL, "holds 9; actions are 0 to 8", legal_actions=lambda right, state: right(state) and [*right(state), 9]
    ),
    breaks(
        *(OVER, "in a finished state; give none there"),
        legal_actions=lambda _, state: [action for action in range(9) if str(action + 1) not in state.moves],
    ),
    breaks(OVER, "is empty, but", is_terminal=lambda right, state: right(state) and len(state.moves) < 9),
    breaks(ILLEGAL, "raise ActionError", step=refusing(None)),
    breaks(ILLEGAL, "raised IndexError: no", step=refusing(IndexError("no"))),
    breaks(CHANGE, "step changed the state it was given, '', to", step=step_in_place),
    breaks(CHANGE, "to ''; work on a copy", step=refused_step_in_place),
    breaks(CHANGE, "encode changed the state it was given", encode=encode_and_shorten),
    breaks(CHANGE, "ending_actions changed the state it was given", ending_actions=known_actions_in_place),
    breaks(CHANGE, "proven_actions changed the state it was given", proven_actions=known_actions_in_place),
    breaks(SAME, "describe('') gave two answers", describe=ever_new(iter(range(10**9)))),
    breaks(PLAIN, "numpy.int64", legal_actions=lambda right, state: list(np.array(right(state), dtype=np.int64))),
    breaks(PLAIN, "is a numpy.float32; give a plain float", outcome=lambda right, state: np.float32(right(state))),
    breaks(PLAIN, "is a numpy.bool; give a plain bool", is_terminal=lambda right, state: np.bool_(right(state))),
    breaks(PLAYER, "is 2; players are 0 and 1", to_move=lambda right, state: right(state) + 1),
    breaks(OUTCOME, "is -100.0; scale outcomes", outcome=lambda right, state: 100 * right(state)),
    breaks(OUTCOME, "is nan", outcome=lambda right, state: right(state) or float("nan")),
    breaks(VIEW, "player 0 lost all", outcome=lambda right, state: -right(state)),
    breaks(VIEW, "player 0 lost all 2", outcome=lambda right, state: right(state) * (1 - len(state.moves) % 2 * 2)),
    breaks(VIEW, "player 1 lost all", outcome=lambda right, state: right(state) * (len(state.moves) % 2 * 2 - 1)),
    breaks(
        ENDINGS, "is a list; give a dict", ending_actions=lambda _, state: GAME.legal_actions(position(state.moves))
    ),
    breaks(
        *(ENDINGS, "holds numpy.int64: float; give plain ints", TicTacToe),
        ending_actions=lambda right, state: {np.int64(action): end for action, end in right(state).items()},
    ),
    breaks(
        *(ENDINGS, "holds int: numpy.float32; give plain", TicTacToe),
        ending_actions=lambda right, state: {action: np.float32(end) for action, end in right(state).items()},
    ),
    breaks(
        *(ENDINGS, "does not end the game, and step that it brings its mover", TicTacToe),
        ending_actions=lambda *_: {},
    ),
    breaks(
        *(ENDINGS, "brings its mover 0.0, and step that it does not end the game", TicTacToe),
        ending_actions=lambda right, state: dict.fromkeys(GAME.legal_actions(state), 0.0) | right(state),
    ),
    breaks(
        *(ENDINGS, "brings its mover 1.0, and step that it does not end", TicTacToe), ending_actions=with_a_taken_cell
    ),
    breaks(
        *(ENDINGS, "brings its mover -1.0, and step that it brings its mover 1.0", TicTacToe),
        ending_actions=lambda right, state: {action: -end for action, end in right(state).items()},
    ),
    breaks(
        *(ENDINGS, "does not end the game, and step that it brings its mover 0.0", TicTacToe),
        ending_actions=lambda right, state: {action: end for action, end in right(state).items() if end},
    ),
    breaks(WORDS, "is ' '", describe=lambda *_: " "),
    breaks(EXAMPLES, "notation() is None; give a sentence", notation=lambda *_: None),
    breaks(EXAMPLES, "examples() is '51'; give a tuple", examples=lambda *_: "51"),
    breaks(EXAMPLES, "holds '55', but parse raised StateError", examples=lambda *_: ("51", "55")),
    breaks(EXAMPLES, "holds '14253', which is finished", examples=lambda *_: ("14253",)),
    breaks(RULED, "is 'search'; give None for all", rungs_for=lambda *_: "search"),
    breaks(RULED, "is (); give None", rungs_for=lambda *_: ()),
    breaks(RULED, "is ('search', 'oracle')", rungs_for=lambda *_: ("search", "oracle")),
    breaks(ENCODE, "encode gives float64", encode=lambda right, states: right(states).astype(np.float64)),
    breaks(ENCODE, "encode gives list", encode=lambda right, states: right(states).tolist()),
    breaks(ENCODE, "has shape", encode=lambda right, states: right(states).reshape(len(states), 27)),
    breaks(ENCODE, "encode each by itself", encode=lambda right, states: right(states) - right(states).mean(axis=0)),
    breaks(ENCODE, "when encode was called again", encode=one_buffer(np.zeros((256, 3, 3, 3), np.float32))),
    breaks(
        ENCODE, "holds NaN", encode=lambda right, states: np.where(right(states) > 0, np.float32("nan"), right(states))
    ),
    breaks(ALIKE, "differ in legal actions", encode=without_centre),
    breaks(ALIKE, "brings their mover", encode=without_owners),
    breaks(SYMMETRY, "each of 0 to A - 1 once", symmetries=quarter_turn(actions=np.zeros(9, dtype=np.int64))),
    breaks(SYMMETRY, "but observations does not turn", symmetries=quarter_turn(actions=BACKWARDS)),
    breaks(SYMMETRY, "but observations does not turn the", symmetries=quarter_turn(observations=np.copy)),
    breaks(SYMMETRY, "none turns into another", symmetries=quarter_turn(observations=np.negative)),
    breaks(SYMMETRY, "must keep shape", symmetries=quarter_turn(observations=lambda boards: boards.reshape(-1, 27))),
    breaks(
        *(SYMMETRY, "but their outcomes are"),
        outcome=lambda right, state: right(state) * (0.5 if state.moves.endswith("1") else 1.0),
    ),
]


def with_rules(legal: Any = None, terminal: Any = None, outcome: Any = None, to_move: Any = None) -> Callable[..., Any]:
    """Kernel rules with some of the four arrays passed through a function."""

    def rules_rows(right: Any, rows: Any) -> Any:
        changes = (legal, terminal, outcome, to_move)
        return tuple(change(array) if change else array for change, array in zip(changes, right(rows), strict=True))

    return rules_rows


def blind_to_a_diagonal(right: Any, rows: Any) -> Any:
    wins = (rows[:, 1] & 0b100010001) == 0b100010001
    return right(np.where(wins[:, None], rows & ~np.array([0, 0b10000, 0]), rows))


def step_rows_in_place(right: Any, rows: Any, actions: Any) -> Any:
    rows[:] = right(rows, actions)
    return rows.copy()


def ends_rows_in_place(right: Any, rows: Any) -> Any:
    found = right(rows)
    rows[:, 2] = 0
    return found


OWN_ENDS = GAME.kernels.ends


@njit
def forgetful_ends(rows, out):
    """Sets the entries of legal actions only."""
    found = np.empty_like(out)
    OWN_ENDS(rows, found)
    for b in range(rows.shape[0]):
        for a in range(9):
            if not ((rows[b, 0] | rows[b, 1]) >> a) & 1:
                out[b, a] = found[b, a]


def first_players_view(right: Any, rows: Any, keys: Any) -> Any:
    return right(rows, keys) * (1 - 2 * rows[:, 2]).astype(np.float32)


ROWS, STEPS, RULES, ENCODINGS = "to_rows gives", "step_rows agrees", "rules_rows agrees", "encode_rows agrees"
ENDS, PLAYOUT, MEANS = "ends_rows agrees", "playout_rows depends", "playout_rows plays"

KERNEL_MUTANTS = [
    breaks(ROWS, "gives int32", TicTacToe, to_rows=lambda right, states: right(states).astype(np.int32)),
    breaks(STEPS, "to_rows of what step", TicTacToe, step_rows=lambda right, *given: right(*given)[:, [1, 0, 2]]),
    breaks(STEPS, "changed the rows", TicTacToe, step_rows=step_rows_in_place),
    breaks(RULES, "says outcome 1.0", TicTacToe, rules_rows=with_rules(outcome=np.negative)),
    breaks(RULES, "player to move", TicTacToe, rules_rows=with_rules(to_move=np.zeros_like)),
    breaks(RULES, "(outcome) gives float64", TicTacToe, rules_rows=with_rules(outcome=np.float64)),
    breaks(RULES, "and the plain methods say", TicTacToe, rules_rows=blind_to_a_diagonal),
    breaks(
        *(ENCODINGS, "encode_rows and encode differ", TicTacToe),
        encode=lambda _, states: GAME.encode(states),
        encode_rows=lambda right, rows: right(rows)[:, [1, 0, 2]],
    ),
    breaks(ENDS, "gives float64", TicTacToe, ends_rows=lambda right, rows: right(rows).astype(np.float64)),
    breaks(ENDS, "give float32", TicTacToe, ends_rows=lambda right, rows: right(rows)[:, :8]),
    breaks(ENDS, "changed the rows", TicTacToe, ends_rows=ends_rows_in_place),
    breaks(
        *(ENDS, "does not end the game, and step that it brings its mover", TicTacToe),
        ends_rows=lambda right, rows: np.full_like(right(rows), np.nan),
    ),
    breaks(
        *(ENDS, "does not end the game, and step that it brings its mover 0.0", TicTacToe),
        ends_rows=lambda right, rows: np.where(right(rows) == 0, np.float32("nan"), right(rows)),
    ),
    breaks(
        *(ENDS, "brings its mover -1.0, and step that it brings its mover 1.0", TicTacToe),
        ends_rows=lambda right, rows: -right(rows),
    ),
    breaks(
        *(ENDS, "brings its mover -1.0, and step", TicTacToe),
        ends_rows=lambda right, rows: right(rows) * (1 - 2 * rows[:, 2:]).astype(np.float32),
    ),
    breaks(
        *(ENDS, "brings its mover 0.0, and step that it does not end", TicTacToe),
        ends_rows=lambda right, rows: np.nan_to_num(right(rows)),
    ),
    breaks(
        *(ENDS, "brings its mover 0.0, and step that it does not end the game; give", TicTacToe),
        ends_rows=lambda right, rows: np.where(GAME.rules_rows(rows)[1][:, None], np.float32(0), right(rows)),
    ),
    breaks(
        *(ENDS, "brings its mover 1.0, and step that it does not end the game", TicTacToe),
        ends_rows=lambda right, rows: np.where(
            (rows[:, :1] | rows[:, 1:2]) >> np.arange(9) & 1 > 0, np.float32(1), right(rows)
        ),
    ),
    breaks(ENDS, "set every entry", TicTacToe, kernels=GAME.kernels._replace(ends=forgetful_ends)),
    breaks(
        *(PLAYOUT, "for one key", TicTacToe),
        playout_rows=lambda right, rows, keys: right(rows, keys + np.arange(len(keys), dtype=np.uint64)),
    ),
    breaks(PLAYOUT, "are in [-1, 1]", TicTacToe, playout_rows=lambda right, *given: right(*given) * 2),
    breaks(MEANS, "view of the row's player", TicTacToe, playout_rows=lambda right, *given: -right(*given)),
    breaks(MEANS, "more than chance allows", TicTacToe, playout_rows=first_players_view),
    breaks(
        *(MEANS, "choose uniformly", TicTacToe),
        playout_rows=lambda right, rows, keys: right(rows, np.zeros_like(keys)),
    ),
]


class Misjudging(TicTacToeSolver):
    """Right about every position but those with one free cell."""

    def value(self, state: LineState) -> float:
        return super().value(state) if len(state.moves) != 8 else 1.0


SOLVER_MUTANTS = [
    breaks("the exact solver agrees", "by playing it out it is 0", TicTacToe, solver=lambda _: Misjudging()),
    breaks("the exact solver agrees", "is a object without a method scores", TicTacToe, solver=lambda _: object()),
]

MUTANTS = [*PLAIN_MUTANTS, *KERNEL_MUTANTS, *PROOF_MUTANTS, *SOLVER_MUTANTS]


@pytest.mark.parametrize("domain", [Plain, Proving])
def test_the_domain_that_the_mutants_come_from_keeps_every_law(domain):
    assert check_domain(domain(), games=40).failures == ()


def mostly_slow(mutants):
    """Each is half a second, and there are a hundred: one of four in every run."""
    return [
        one if number % 4 == 0 else pytest.param(*one.values, id=one.id, marks=pytest.mark.slow)
        for number, one in enumerate(mutants)
    ]


@pytest.mark.parametrize(("mutant", "law", "words"), mostly_slow(MUTANTS))
def test_the_broken_law_is_found_and_no_other(mutant, law, words):
    report = check_domain(mutant(), games=40, max_plies=50)
    (failure,) = report.failures
    assert failure.law.startswith(law)
    assert words in failure.detail
    assert failure.cases >= 1
    assert "\n" not in failure.detail


def test_there_is_a_mutant_for_every_law():
    broken = {parameters.values[1] for parameters in MUTANTS}
    assert [name for name in LAW_NAMES if not any(name.startswith(law) for law in broken)] == []
