"""What the conformance kit says of domains that are right, of those it can say little of, of those that fall over."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from proof_mutants import Proving

from escalade.domains.base import Domain
from escalade.domains.conformance import LAW_NAMES, LawResult, check_domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import ActionError, StateError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe


def results(report: Any) -> dict[str, LawResult]:
    return {result.law: result for result in report.results}


class Nim(Domain[int]):
    """Seven matches, take one or two. Whoever takes the last one wins, or loses in the misere game."""

    name = "nim"
    num_actions = 2
    observation_shape = (2,)
    last_wins = True

    def parse(self, source: Any) -> Any:
        if not isinstance(source, str) or source not in {f"{left}{player}" for left in range(8) for player in "ab"}:
            raise StateError("a nim state is the number of matches left and who is to move, such as '7a'", position=1)
        return int(source[0]), "ab".index(source[1])

    def format(self, state: Any) -> str:
        return f"{state[0]}{'ab'[state[1]]}"

    def initial_state(self) -> Any:
        return 7, 0

    def legal_actions(self, state: Any) -> Sequence[int]:
        return range(min(state[0], 2))

    def step(self, state: Any, action: int) -> Any:
        if action not in self.legal_actions(state):
            raise ActionError(f"{action} is not legal")
        return state[0] - action - 1, self.after(state[1])

    def after(self, player: int) -> int:
        return 1 - player

    def is_terminal(self, state: Any) -> bool:
        return state[0] == 0

    def outcome(self, state: Any) -> float:
        return -1.0 if self.last_wins else 1.0

    def to_move(self, state: Any) -> int:
        return state[1]

    def encode(self, states: Sequence[Any]) -> Any:
        return np.array([(left, 1) for left, _ in states], dtype=np.float32)


class Misere(Nim):
    last_wins = False


class Alone(Nim):
    """One player: every game is won."""

    def after(self, player: int) -> int:
        return player

    def outcome(self, state: Any) -> float:
        return 1.0


class Doubles(Nim):
    """Players do not alternate: after taking two the same one moves again, the last match taken included."""

    def step(self, state: Any, action: int) -> Any:
        left, player = super().step(state, action)
        return left, state[1] if action == 1 else player

    def parse(self, source: Any) -> Any:
        state = super().parse(source[:-1] if isinstance(source, str) else source)
        if source[-1] not in "+-":
            raise StateError("the last character says who takes the last match", position=len(source))
        return state

    def format(self, state: Any) -> str:
        return super().format(state) + "+"

    def outcome(self, state: Any) -> float:
        return 0.0


class KnowsSome(Nim):
    """Endings are known where one match is left."""

    def ending_actions(self, state: Any) -> Any:
        return {0: 1.0} if state[0] == 1 else None


class KnowsAll(Alone):
    """Endings are known everywhere, and seen by the same player as the outcome."""

    def ending_actions(self, state: Any) -> Any:
        return {state[0] - 1: 1} if state[0] <= 2 else {}


# Right domains


SOLVER = "the exact solver agrees with playing out"
PROVEN, PROOFS_ROWS = "proven_actions agrees with what follows", "proofs_rows agrees with proven_actions"


@pytest.mark.parametrize(
    ("domain", "untold"),
    [(TicTacToe(), {PROVEN, PROOFS_ROWS, SOLVER}), (ConnectFour(), {SOLVER})],
    ids=["tic_tac_toe", "connect_four"],
)
def test_the_games_keep_every_law(domain, untold):
    report = check_domain(domain, seed=3)
    assert report.passed
    assert [result.law for result in report.results] == list(LAW_NAMES)
    assert {result.law for result in report.results if result.outcome != "passed"} == untold
    checked = {result.law: result.cases for result in report.results}
    assert checked["rules_rows agrees with the plain rules"] > 1500
    assert checked["ending_actions agrees with step"] > 1500
    assert checked["ends_rows agrees with step"] > checked["ending_actions agrees with step"]
    assert checked["playout_rows plays like uniformly random steps"] == 1000
    assert PROVEN in untold or checked[PROVEN] == 1024
    assert PROVEN in untold or checked[PROOFS_ROWS] > 4 * checked[PROVEN]


def test_a_domain_without_a_simulator_has_its_simulator_laws_skipped_for_that_reason():
    report = check_domain(Intents(["card_arrival", "lost_card"]), states=["Where is my card?", "lost it, " * 100])
    assert report.passed
    skipped = {result.law: result.detail for result in report.results if result.outcome == "skipped"}
    assert skipped["step refuses illegal actions"] == "the domain has no simulator (has_simulator is False)"
    assert skipped["outcomes are seen from the player to move"] == skipped["step refuses illegal actions"]
    assert skipped["symmetries leave the rules unchanged"] == "the domain names no symmetries"
    assert results(report)["encode gives float32 of the promised shape, whatever the batch"].cases == 2


def test_a_domain_without_a_simulator_is_tried_on_a_few_texts_if_none_are_given():
    assert results(check_domain(Intents(["a", "b"])))["describe gives a text"].cases == 7


def test_a_domain_whose_states_cannot_be_guessed_asks_for_some():
    class Coded(Intents):
        def parse(self, source: Any) -> str:
            if not isinstance(source, str) or not source.startswith("T-"):
                raise StateError("a ticket begins with 'T-'", position=1)
            return super().parse(source)

    guessed, told = check_domain(Coded(["a", "b"])), check_domain(Coded(["a", "b"]), states=["T-1 hello"])
    assert results(guessed)["describe gives a text"] == LawResult(
        "describe gives a text", "skipped", 0, "no state to check: give some as states"
    )
    assert results(told)["describe gives a text"].cases == 1
    assert told.passed


def test_a_domain_without_kernels_has_their_laws_skipped_for_that_reason():
    report = results(check_domain(Nim()))
    assert report["rules_rows agrees with the plain rules"].detail == "the domain has no kernels (it is no ArrayDomain)"


def test_a_domain_that_knows_no_endings_has_their_law_skipped_for_that_reason():
    law = "ending_actions agrees with step"
    assert results(check_domain(Nim()))[law].detail == (
        "ending_actions gives None, not known cheaply, so search finds them out by step"
    )
    some, every = (results(check_domain(domain))[law] for domain in (KnowsSome(), KnowsAll()))
    assert some.outcome == every.outcome == "passed"
    assert 0 < some.cases < every.cases


def test_a_domain_that_proves_nothing_has_the_laws_of_proofs_skipped_for_that_reason():
    report = results(check_domain(Nim()))
    assert report[PROVEN].detail == "proven_actions proves nothing, so search finds all out by itself"
    assert report[PROOFS_ROWS].detail == "the domain has no kernels (it is no ArrayDomain)"
    without = results(check_domain(TicTacToe(), games=2))
    assert without[PROOFS_ROWS].detail == "there is no kernel 'proofs', so search takes nothing as proven at sight"


@pytest.mark.parametrize("game", [Nim, Misere, Alone, Doubles])
def test_all_that_can_be_proven_may_be(game):
    """Of any number of players, who alternate or do not."""

    class ProvesAll(game):
        def proven_actions(self, state: Any) -> Any:
            return {action: self.worth(state, self.step(state, action)) for action in self.legal_actions(state)}

        def worth(self, before: Any, after: Any) -> float:
            best = self.outcome(after) if self.is_terminal(after) else max(self.proven_actions(after).values())
            return best if self.to_move(before) == self.to_move(after) else -best

    report = check_domain(ProvesAll(), games=50, last_mover_loses=game is Misere)
    assert report.passed
    assert results(report)[PROVEN].cases > 100


def test_values_may_have_been_rounded_by_a_kernel():
    class Tenths(Alone):
        def outcome(self, state: Any) -> float:
            return 0.1

        def proven_actions(self, state: Any) -> Any:
            return {action: float(np.float32(0.1)) for action in self.legal_actions(state)}

    assert Tenths().proven_actions((3, 0))[0] != 0.1
    assert check_domain(Tenths(), games=20).passed


def test_games_of_one_player_have_one_view():
    report = check_domain(Alone())
    assert report.passed
    assert results(report)["outcomes are seen from the player to move"].detail == (
        "only player 0 is ever to move, so there is one view only"
    )


def test_a_misere_game_looks_turned_round_until_it_is_said_to_be_one():
    law = "outcomes are seen from the player to move"
    assert results(check_domain(Nim()))[law].outcome == "passed"
    assert [result.law for result in check_domain(Misere()).failures] == [law]
    report = check_domain(Misere(), last_mover_loses=True)
    assert report.passed
    assert results(report)[law].outcome == "skipped"


def test_players_need_not_alternate():
    report = check_domain(Doubles())
    assert report.passed
    assert results(report)["outcomes are seen from the player to move"].detail == "no decided game was reached"


# Use


def test_equal_seeds_give_equal_reports_and_others_other_states():
    first, second, third = (check_domain(Nim(), games=20, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first != third


def test_given_states_are_played_from_and_a_refused_one_fails():
    assert check_domain(TicTacToe(), states=["51", "14253"], games=5).passed
    report = check_domain(TicTacToe(), states=["55"], games=5)
    (failure,) = report.failures
    assert failure.law == "parse and format are inverse"
    assert failure.detail.startswith("parse refused '55', a state it was given to check: StateError: tic_tac_toe state")


def test_games_that_take_longer_than_allowed_fail_and_say_what_to_do():
    (failure,) = check_domain(TicTacToe(), games=5, max_plies=4).failures
    assert failure.law == "games can be played and end"
    assert "pass a larger max_plies" in failure.detail
    assert results(check_domain(TicTacToe(), games=5, max_plies=9))[failure.law].outcome == "passed"


def test_a_class_in_place_of_a_domain_is_pointed_out():
    report = check_domain(TicTacToe)
    assert report.failures[0].detail == "TicTacToe is a class; give an instance of it, such as TicTacToe()"
    assert {result.outcome for result in report.results[1:]} == {"skipped"}


@pytest.mark.parametrize("thing", [None, 5, "tic_tac_toe", object(), type("Half", (), {"name": "half"})()])
def test_what_is_no_domain_fails_the_first_law(thing):
    (failure,) = check_domain(thing).failures
    assert failure.law == LAW_NAMES[0]


def test_no_games_are_refused():
    with pytest.raises(ValueError, match="games must be at least 1"):
        check_domain(Nim(), games=0)


def test_a_report_reads_as_a_table():
    lines = str(check_domain(Misere(), games=30)).splitlines()
    assert lines[0] == "nim: 18 passed, 1 failed, 12 skipped"
    assert lines[1] == "  passed  its attributes are well formed (6)"
    assert "  skipped symmetries leave the rules unchanged: the domain names no symmetries" in lines
    assert any(line.startswith("  FAILED  outcomes are seen from the player to move (") for line in lines)
    assert lines[1 + len(LAW_NAMES)] == "  For you to judge, as no check can: has the right player won?"
    assert any("to move, outcome +1: player" in line for line in lines[2 + len(LAW_NAMES) :])


def test_the_comparison_of_playouts_does_not_cry_wolf():
    law = "playout_rows plays like uniformly random steps"
    for seed in range(5):
        assert results(check_domain(TicTacToe(), games=3, seed=seed))[law].outcome == "passed"


# Domains that fall over


class Panic(BaseException):
    """As raised by compiled modules: no Exception."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Nightmare:
    """A state that cannot be compared, copied or shown."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __eq__(self, other: object) -> bool:
        raise Panic if other is self else ZeroDivisionError("eq")

    __hash__ = None

    def __repr__(self) -> str:
        raise OSError("repr")


# Each on the quickest domain that has the method.
METHODS = [
    *((Nim, name) for name in ("parse", "format", "legal_actions", "encode", "initial_state", "step", "is_terminal")),
    *(
        (Nim, name)
        for name in ("outcome", "to_move", "describe", "rungs_for", "action_name", "parse_action", "symmetries")
    ),
    *((Nim, name) for name in ("ending_actions", "proven_actions", "notation", "examples")),
    *((TicTacToe, name) for name in ("to_rows", "step_rows", "rules_rows", "encode_rows", "ends_rows", "playout_rows")),
    (Proving, "proofs_rows"),
]


@pytest.mark.parametrize(("base", "method"), METHODS)
def test_whatever_a_method_raises_is_a_failed_law_that_names_it(base, method):
    errors = [
        ZeroDivisionError("\ud800"),
        KeyError(),
        RecursionError("deep"),
        Unprintable(),
        SystemExit(3),
        Panic("rust"),
    ]
    for error in errors if base is Nim else errors[::5]:

        def raising(self: Any, *arguments: Any, error: BaseException = error) -> Any:
            raise error

        report = check_domain(type("Broken", (base,), {method: raising})(), games=2)
        assert any(type(error).__name__ in failure.detail for failure in report.failures)
        str(report).encode()  # can be printed


@pytest.mark.parametrize(("base", "method"), METHODS)
def test_whatever_a_method_answers_is_at_most_a_failed_law(base, method):
    answers = [None, Nightmare(), 7, "text", [None], [[1, 2], "x"], np.zeros((2, 2)), object()]
    for answer in answers if base is Nim else answers[:2]:
        report = check_domain(type("Odd", (base,), {method: lambda *_, answer=answer: answer})(), games=2)
        assert report.failures or (method, answer) in (
            ("describe", "text"),
            ("notation", "text"),
            ("ending_actions", None),
            ("proven_actions", None),
            ("rungs_for", None),
        )
        str(report).encode()


@pytest.mark.parametrize("attribute", ["name", "num_actions", "observation_shape", "ladder", "has_simulator"])
def test_an_attribute_of_any_value_is_at_most_a_failed_law(attribute):
    for value in (None, -1, 0, 2.5, "", (), ("x", []), np.int64(9), object(), property(lambda _: 1 / 0)):
        report = check_domain(type("Odd", (Nim,), {attribute: value})(), games=2)
        assert report.failures
        str(report).encode()


@pytest.mark.parametrize("width", [None, 0, "3", 4])
def test_a_row_width_that_does_not_fit_fails(width):
    report = check_domain(type("Odd", (TicTacToe,), {"row_width": width})(), games=2)
    failures = {failure.law: failure.detail for failure in report.failures}
    assert failures.pop("to_rows gives int64 of the promised shape")
    # No kernel is called then, and encode goes through one.
    assert all("encode(" in detail and "as row_width says" in detail for detail in failures.values())


def test_an_interrupt_by_the_user_ends_the_check():
    class Interrupted(Nim):
        def describe(self, state: Any) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_domain(Interrupted())
