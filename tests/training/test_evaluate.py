"""Agreement with the solver, what the value saves, matches, and all of it in one record."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corridor import Corridor
from support import Plain, Weighing, network_for, solved_tic_tac_toe

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import NoSimulatorError, SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.training.agreement import agreement, chosen_actions, estimates
from escalade.training.arena import OnePlyPlayer, SearchPlayer, openings, play_match, rollout_player
from escalade.training.evaluate import EvaluationConfig, evaluate
from escalade.training.exact import ExactPositions, solved_positions
from escalade.training.plots import write_plots
from escalade.training.savings import POLICY_ROLLOUTS, ROLLOUTS, VALUE, needed_for, rising_curve, value_savings

TTT, C4 = TicTacToe(), ConnectFour()
POSITIONS = solved_positions(TTT)


class Oracle:
    """Knows every position of tic-tac-toe. An `Evaluator`."""

    def __init__(self) -> None:
        self.known = {TTT.encode([state]).tobytes(): (best, value) for state, best, value in solved_tic_tac_toe()}

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        logits, values = np.full(legal.shape, -40, np.float32), np.zeros(len(legal), np.float32)
        for row, observation in enumerate(observations):
            best, values[row] = self.known[observation.tobytes()]
            logits[row, min(best)] = 0
        return logits, values


class Chance:
    """A random opinion of each position, the same when asked again. An `Evaluator`."""

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        seeds = [zlib.crc32(observation.tobytes()) for observation in observations]
        logits = np.stack([np.random.default_rng(seed).random(legal.shape[1]) for seed in seeds])
        return logits.astype(np.float32), np.zeros(len(legal), np.float32)


def test_a_perfect_network_agrees_everywhere() -> None:
    for row in agreement(TTT, Oracle(), POSITIONS, (0, 8)):
        assert row.all.share == row.differing.share == 1.0
    said = estimates(TTT, Oracle(), POSITIONS)
    assert said.legal.share == said.optimal.share == 1.0
    assert [value.squared_error.mean for value in said.values] == [0.0] * 4
    assert said.calibration.error < 1e-6


def test_a_random_network_agrees_as_often_as_chance_does() -> None:
    (row, *phases) = agreement(TTT, Chance(), POSITIONS, (0,))
    expected = (POSITIONS.optimal.sum(axis=1) / POSITIONS.legal.sum(axis=1))[POSITIONS.differing].mean()
    assert row.phase == "all"
    assert row.differing.low is not None
    assert row.differing.high is not None
    assert row.differing.low < expected < row.differing.high
    assert row.differing.count == POSITIONS.differing.sum()
    assert sum(phase.all.hits for phase in phases) == row.all.hits
    assert {phase.phase for phase in phases} == {"begin", "middle", "end"}


def test_illegal_favourites_are_counted_and_never_chosen() -> None:
    class Stubborn:
        def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
            return np.tile(np.arange(9, dtype=np.float32), (len(legal), 1)), np.full(len(legal), 0.5, np.float32)

    said = estimates(TTT, Stubborn(), POSITIONS)
    assert said.legal.hits == POSITIONS.legal[:, 8].sum()
    chosen = chosen_actions(TTT, Stubborn(), POSITIONS.parsed(TTT), 0)
    assert POSITIONS.legal[np.arange(len(POSITIONS)), chosen].all()
    expected = ((0.5 - POSITIONS.value) ** 2).mean()
    assert said.values[0].squared_error.mean == pytest.approx(expected)


def test_search_mends_a_network_that_knows_nothing() -> None:
    some = POSITIONS.take(np.arange(0, len(POSITIONS), 10))
    few, many = (
        next(row for row in agreement(TTT, UniformEvaluator(), some, (n,)) if row.phase == "all") for n in (4, 256)
    )
    assert few.differing.share is not None
    assert many.differing.share is not None
    assert few.differing.share < 0.98 < many.differing.share


def test_without_a_policy_there_is_nothing_to_ask_alone() -> None:
    with pytest.raises(SettingsError, match="RolloutEvaluator has no policy of its own"):
        agreement(TTT, RolloutEvaluator(TTT), POSITIONS, (0,))


def test_a_perfect_value_saves_what_rollouts_need() -> None:
    some = POSITIONS.take(np.arange(0, len(POSITIONS), 16))
    first, second = (value_savings(TTT, Oracle(), some, simulations=(2, 4, 8), most=16, seed=2) for _ in range(2))
    assert first == second
    assert [curve.name for curve in first.curves] == [VALUE, POLICY_ROLLOUTS, ROLLOUTS]
    assert first.positions == some.differing.sum()
    assert first.curves[2].simulations == (1, 2, 4, 8, 16)
    (saving,) = [saving for saving in first.savings if saving.against == ROLLOUTS]
    assert (saving.simulations, saving.strength, saving.needed, saving.reached) == (2, 1.0, 16.0, "more than")
    assert saving.saved == 1 - 2 / 16
    assert saving.saved_low <= saving.saved <= saving.saved_high == 1.0


def test_needs_are_interpolated_in_the_logarithm_or_said_to_be_bounds() -> None:
    tried, rising = [1, 4, 16], [0.2, 0.4, 0.8]
    assert needed_for(0.6, tried, rising) == (pytest.approx(8), "between")
    assert needed_for(0.4, tried, rising) == (pytest.approx(4), "between")
    assert needed_for(0.81, tried, rising) == (16, "more than")
    assert needed_for(0.2, tried, rising) == (1, "at most")
    assert rising_curve(np.array([0.1, 0.5, 0.3, 0.9])) == pytest.approx([0.1, 0.4, 0.4, 0.9])


def test_a_perfect_player_never_loses() -> None:
    oracle = SearchPlayer("oracle", Oracle(), 0)
    for other in (OnePlyPlayer(), rollout_player(TTT, 16)):
        match = play_match(TTT, oracle, other, 20, seed=1, opening_plies=1)  # all ten such openings are drawn games
        assert (match.losses, match.wins + match.draws) == (0, 20)
        assert match.wins > 0
        assert match.elo_low < match.elo < match.elo_high
        assert match.elo > 0
        assert match.score_low < match.score < match.score_high


def test_both_sides_see_the_same_match_and_seeds_repeat_it() -> None:
    ours, other = SearchPlayer("weighing", Weighing(C4), 8), OnePlyPlayer()
    first, again = (play_match(C4, ours, other, 20, seed=5) for _ in range(2))
    assert first == again
    assert first != play_match(C4, ours, other, 20, seed=6)
    turned = play_match(C4, other, ours, 20, seed=5)
    assert turned.games == first.games == 20
    assert first.simulations[0] > first.moves[0] > 0
    assert first.simulations[1] == 0
    alike = play_match(C4, SearchPlayer("a", Weighing(C4), 8), SearchPlayer("b", Weighing(C4), 8), 20, seed=5)
    assert alike.score == 0.5
    assert alike.elo == pytest.approx(0)


class Untold(Plain):
    """Does not say cheaply which moves end a game."""

    def ending_actions(self, state: Any) -> None:
        return None


@pytest.mark.parametrize("domain", [TTT, Untold(TTT)])
@pytest.mark.parametrize(
    ("moves", "wanted"),
    [("1425", {2}), ("142", {2}), ("14259", {5}), ("5", {0, 1, 2, 3, 5, 6, 7, 8}), ("15937", {1, 3, 5, 7})],
)
def test_one_ply_takes_a_win_else_guards_else_plays_anything(domain: Any, moves: str, wanted: set[int]) -> None:
    states = [TTT.parse(moves)] * 80
    found = OnePlyPlayer().choose(domain, states, range(80))
    assert set(found.actions) == wanted
    assert found.simulations == 0


def test_openings_are_different_and_unfinished() -> None:
    for domain, count in ((TTT, 200), (C4, 500)):
        found = openings(domain, count, seed=0)
        assert len({domain.encode([state]).tobytes() for state in found}) == count
        assert not any(domain.is_terminal(state) for state in found)
    assert openings(TTT, 30, seed=1) == openings(TTT, 30, seed=1) != openings(TTT, 30, seed=2)


def test_games_come_in_pairs_and_need_a_simulator() -> None:
    with pytest.raises(SettingsError, match="games must be an even number"):
        play_match(TTT, OnePlyPlayer(), OnePlyPlayer(), 3)
    with pytest.raises(NoSimulatorError):
        play_match(Intents(["a", "b"]), OnePlyPlayer(), OnePlyPlayer(), 4)


def test_long_games_are_cut_short_as_drawn() -> None:
    match = play_match(C4, OnePlyPlayer("a"), OnePlyPlayer("b"), 10, max_plies=2)
    assert (match.cut_short, match.draws, match.score) == (10, 10, 0.5)


CONFIG = EvaluationConfig(
    seed=3, simulations=(0, 4), savings=(2, 4), savings_most=8, savings_positions=60, games=8, players=(4,), rollouts=8
)


def test_an_evaluation_is_plain_and_repeats_by_seed(tmp_path: Path) -> None:
    some = POSITIONS.take(np.arange(0, len(POSITIONS), 12))
    stages: dict[str, tuple[int, int]] = {}

    def tell(what: str, done: int, total: int) -> None:
        assert done >= stages.get(what, (0, 0))[0]
        stages[what] = (done, total)

    first, second = (
        evaluate(TTT, network_for(TTT), network_for(TTT, seed=2), CONFIG, positions=some, on_progress=told)
        for told in (tell, None)
    )
    assert first == second
    assert all(done == total for done, total in stages.values())
    said = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert said == first.to_json()
    assert said["schema_version"] == 1
    assert {row["simulations"] for row in said["agreement"]} == {0, 4}
    assert said["savings"]["positions"] == 60
    assert [(match["first"], match["second"]) for match in said["matches"]] == [
        ("network at 4", "one ply"),
        ("network at 4", "rollouts at 8"),
        ("rollouts at 4", "one ply"),
        ("rollouts at 4", "rollouts at 8"),
        ("network at 4", "previous at 4"),
    ]
    assert [row["simulations"] for row in said["without_network"] if row["phase"] == "all"] == [4]
    plots = write_plots(first, tmp_path / "plots")
    assert {path.name for path in plots} == {"agreement.png", "reliability.png", "savings.png", "elo.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots)


def test_beside_each_search_stands_the_same_without_the_network() -> None:
    some = POSITIONS.take(np.arange(0, len(POSITIONS), 20))
    found = evaluate(TTT, network_for(TTT), config=EvaluationConfig(simulations=(0, 4, 32)), positions=some)
    expected = agreement(TTT, RolloutEvaluator(TTT, rollouts=1), some, (4, 32))
    assert found.without_network == expected
    alone, few, many = (
        next(row for row in found.agreement if (row.simulations, row.phase) == (number, "all")) for number in (0, 4, 32)
    )
    assert found.share_without_network(alone) is None
    shares = [found.share_without_network(row) for row in (few, many)]
    assert all(share is not None and share.count == few.differing.count for share in shares)
    spared = evaluate(TTT, network_for(TTT), config=EvaluationConfig(without_network=False), positions=some)
    assert spared.without_network == ()


def test_one_player_is_measured_by_its_mean_return(tmp_path: Path) -> None:
    domain = Corridor()
    found = evaluate(domain, network_for(domain), config=EvaluationConfig(games=20, players=(0, 8)))
    assert [one.player for one in found.returns] == [
        "network alone",
        "network at 8",
        "rollouts at 8",
        "random moves",
    ]
    assert found.matches == ()
    for one in found.returns:
        assert -1 <= one.low <= one.mean <= one.high <= 1
    assert [path.name for path in write_plots(found, tmp_path)] == ["returns.png"]


def test_the_quick_evaluation_measures_no_more_than_asked() -> None:
    some = POSITIONS.take(np.arange(0, len(POSITIONS), 50))
    found = evaluate(TTT, network_for(TTT), positions=some)
    assert {row.simulations for row in found.agreement} == {0, 64}
    assert (found.savings, found.matches, found.skipped) == (None, (), {})


def test_what_a_domain_cannot_do_is_skipped_with_the_reason() -> None:
    domain = Intents(["a", "b"])
    worth = np.array([[1, -1], [-1, 1]], np.float32)
    positions = ExactPositions(("lost my card", "a loan"), worth, np.array([-1, -1]), "by hand")
    found = evaluate(domain, network_for(domain), config=EvaluationConfig.full(), positions=positions)
    assert [(row.simulations, row.phase, row.all.count) for row in found.agreement] == [(0, "all", 2)]
    assert found.skipped == dict.fromkeys(("search", "savings", "matches"), "domain 'intents' has no simulator")


def test_without_matplotlib_the_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    some = POSITIONS.take(np.arange(0, len(POSITIONS), 300))
    found = evaluate(TTT, network_for(TTT), config=EvaluationConfig(simulations=(0,)), positions=some)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SettingsError, match=r"pip install 'escalade\[train\]'"):
        write_plots(found, tmp_path)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"games": -2}, "at least 0, not -2"),
        ({"games": 3}, "an even number"),
        ({"games": True}, "a whole number, at least 0, not True"),
        ({"simulations": (-1,)}, "a whole number, at least 0, not -1"),
        ({"simulations": ()}, "at least one number, such as 0 for the network alone"),
        ({"players": []}, "at least one number"),
        ({"savings": (0,)}, "at least 1, not 0"),
        ({"savings_most": 1}, "at least 2"),
        ({"opening_plies": -1}, "at least 0"),
    ],
)
def test_settings_are_checked(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=f"^{next(iter(given))} must .*{words}"):
        EvaluationConfig(**given)
