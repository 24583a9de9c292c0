"""TD(0) targets: the value of what came next, seen by whoever moves here."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest
from experience import TTT
from training_runs import TINY

from escalade.domains.base import legal_mask
from escalade.domains.evaluator import Evaluator
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training import run_window, steps, td
from escalade.training.collect import collect
from escalade.training.distributed import fit_in
from escalade.training.learner import Learner
from escalade.training.optimizers import LearnerConfig
from escalade.training.recipe import Network
from escalade.training.rows import Rows, joined
from escalade.training.run import Run, RunConfig
from escalade.training.td import shared_td_values, successors, td_values
from escalade.training.window import Targets, WindowConfig, split, targets

NAN = float("nan")


class Chain:
    """Positions that are told by their text: "NUMBER PLAYER", the player to move."""

    name = "chain"

    def parse(self, source: str) -> tuple[int, int]:
        number, player = source.split()
        return int(number), int(player)

    def to_move(self, state: tuple[int, int]) -> int:
        return state[1]


class Known:
    """What each position is worth, by its number; it remembers of which it was asked."""

    def __init__(self, worth: dict[int, float]) -> None:
        self.worth, self.asked = worth, []

    def evaluate(self, observations: np.ndarray, legal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert observations.dtype == np.float32
        numbers = observations[:, 0].astype(int).tolist()
        self.asked += numbers
        return np.zeros(legal.shape, np.float32), np.array([self.worth[number] for number in numbers], np.float32)


def chain(game: str, players: list[int], outcome: float, first: int = 0, source: str = "self_play") -> Rows:
    """A game of these movers, numbered from `first`, whose outcome the player to move in the last row sees so."""
    count = len(players)
    seen = [outcome if player == players[-1] else -outcome for player in players]
    return Rows(
        game=np.full(count, game),
        ply=np.arange(count, dtype=np.int32),
        state=np.array([f"{first + ply} {player}" for ply, player in enumerate(players)]),
        observation=(first + np.arange(count, dtype=np.uint8))[:, None],
        legal=np.ones((count, 2), np.bool_),
        policy=np.full((count, 2), 0.5, np.float32),
        action=np.zeros(count, np.int32),
        value=np.full(count, np.nan, np.float32),
        outcome=np.array(seen, np.float32),
        source=np.full(count, source),
        model=np.full(count, ""),
        decision=np.full(count, ""),
    )


def put(rows: Rows, name: str, **at: Any) -> Rows:
    """The rows with a field changed at some places."""
    values = getattr(rows, name).tolist()
    for place, value in at.items():
        values[int(place[1:])] = value
    array = np.array(values)
    return dataclasses.replace(rows, **{name: array.astype(np.float32) if array.dtype.kind == "f" else array})


def in_order(found: Targets) -> np.ndarray:
    """Value targets by the number of the position."""
    return found.value[np.argsort(found.observation[:, 0])]


WORTH = {1: 0.5, 2: -0.25, 3: 0.125, 11: 0.5, 12: -0.25, 13: 0.75}
ALTERNATING = chain("a", [0, 1, 0, 1], 1.0)
STAYING = chain("b", [0, 0, 1, 1], -1.0, first=10)
BOTH = joined([ALTERNATING, STAYING])


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
def test_the_next_position_is_seen_by_who_moves_here(gamma: float) -> None:
    known = Known(WORTH)
    found = td_values(BOTH, Chain(), known, gamma)
    assert found.dtype == np.float32
    # At the end the outcome counts in full: gamma is for what is still to come.
    np.testing.assert_allclose(found[:4], [-0.5 * gamma, 0.25 * gamma, -0.125 * gamma, 1])
    np.testing.assert_allclose(found[4:], [0.5 * gamma, 0.25 * gamma, 0.75 * gamma, -1])
    assert sorted(known.asked) == sorted(WORTH)  # never of a game's first row, and each once


def test_the_order_of_rows_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(td, "ROWS", 2)  # several evaluations
    order = np.random.default_rng(3).permutation(len(BOTH))
    expected = td_values(BOTH, Chain(), Known(WORTH))[order]
    np.testing.assert_array_equal(td_values(BOTH.take(order), Chain(), Known(WORTH)), expected)


def test_what_lacks_a_successor_and_an_outcome_has_no_target() -> None:
    hole = BOTH.take(np.arange(8) != 2)  # 1 lacks its successor, and is not the last of its game
    open_end = put(hole, "outcome", _6=np.nan)
    found = td_values(open_end, Chain(), Known(WORTH))
    np.testing.assert_allclose(found, [-0.5, NAN, 1, 0.5, 0.25, 0.75, NAN])
    nothing = BOTH.take(np.zeros(8, np.bool_))
    assert td_values(nothing, Chain(), Known({})).shape == (0,)


def test_a_number_that_is_none_stays_with_who_asked_for_it() -> None:
    found = td_values(BOTH, Chain(), Known({**WORTH, 2: NAN}))
    assert np.flatnonzero(np.isnan(found)).tolist() == [1]
    config = WindowConfig(td=0.75)
    value = in_order(targets(BOTH, config, found))
    given = in_order(targets(BOTH, WindowConfig()))
    expected = np.where(np.isnan(found), given, 0.75 * found + 0.25 * given)
    np.testing.assert_allclose(value, expected, atol=1e-6)


def test_where_several_came_next_none_did() -> None:
    """Families of solved positions belong to one game and share plies."""
    other = put(ALTERNATING.take(np.array([2])), "state", _0="99 0")
    assert successors(joined([ALTERNATING, other]))[0].tolist() == [1, -1, 3, -1, 3]
    twice = joined([ALTERNATING, ALTERNATING.take(np.array([2]))])
    after, last = successors(twice)
    assert after.tolist() == [1, 2, 3, -1, 3]
    assert last.tolist() == [False, False, False, True, False]


def test_where_a_solver_has_spoken_nobody_else_is_heard() -> None:
    rows = put(BOTH, "source", _1="solver", _7="solver")
    known = Known(WORTH)
    found = td_values(rows, Chain(), known)
    assert np.isnan(found[[1, 7]]).all()
    assert found[0] == -rows.outcome[1]  # its word instead of the network's
    assert found[6] == rows.outcome[7]
    assert sorted(known.asked) == [3, 11, 12]
    lies = np.full(len(rows), 0.375, np.float32)
    value = in_order(targets(rows, WindowConfig(td=1.0), lies))
    np.testing.assert_array_equal(value[[1, 7]], rows.outcome[[1, 7]])
    np.testing.assert_array_equal(value[[0, 2, 3, 4, 5, 6]], 0.375)
    same_place = dataclasses.replace(BOTH.take(np.array([1])), source=np.array(["solver"]))
    merged = in_order(targets(joined([BOTH, same_place]), WindowConfig(td=1.0), np.zeros(9, np.float32)))
    assert np.flatnonzero(merged).tolist() == [1]


def test_a_target_may_be_all_there_is() -> None:
    silent = put(BOTH, "outcome", _0=np.nan)
    found = td_values(silent, Chain(), Known(WORTH))
    made = targets(silent, WindowConfig(td=0.25), found)
    assert in_order(made)[0] == found[0] == -0.5
    assert (made.value_weight == 1).all()
    assert (targets(silent, WindowConfig()).value_weight == 0).sum() == 1


def test_parts_of_a_window_get_their_own_targets() -> None:
    games = joined([chain(f"g{number}", [0, 1, 0], 1.0, first=3 * number) for number in range(40)])
    found = td_values(games, Chain(), Known({number: number / 200 for number in range(120)}))
    config = WindowConfig(td=1.0, validation=0.3)
    learned, held = split(games, config, found)
    assert len(learned.value) + len(held.value) == 120
    assert len(held.value) > 10
    for part in (learned, held):
        np.testing.assert_array_equal(part.value, found[part.observation[:, 0].astype(int)])
    with pytest.raises(ValueError, match=r"with td 1.0 there must be TD\(0\) targets \[\d+\] of the rows"):
        split(games, config)
    for one, other in zip(split(games, WindowConfig(), found), split(games, WindowConfig()), strict=True):
        np.testing.assert_array_equal(one.value, other.value)  # no share, no difference


# On games


def random_games(count: int) -> Rows:
    """Whole games of tic-tac-toe, played at random, with their outcomes."""
    random, parts = np.random.default_rng(0), []
    for number in range(count):
        states, state = [], TTT.initial_state()
        while not TTT.is_terminal(state):
            states.append(state)
            state = TTT.step(state, int(random.choice(TTT.legal_actions(state))))
        seen = [TTT.outcome(state) * (1 if TTT.to_move(one) == TTT.to_move(state) else -1) for one in states]
        legal = legal_mask(TTT, states)
        blank = chain(f"{number}", [0] * len(states), 0.0)
        parts.append(
            dataclasses.replace(
                blank,
                state=np.array([TTT.format(one) for one in states]),
                observation=TTT.encode(states),
                legal=legal,
                policy=(legal / legal.sum(axis=1, keepdims=True)).astype(np.float32),
                action=legal.argmax(axis=1).astype(np.int32),
                outcome=np.array(seen, np.float32),
            )
        )
    return joined(parts)


def error(network: Evaluator, rows: Rows) -> float:
    """Mean squared error of the value against how games ended."""
    values = network.evaluate(np.asarray(rows.observation).astype(np.float32), rows.legal)[1]
    return float(((values - rows.outcome) ** 2).mean())


def test_values_are_learned_from_values() -> None:
    rows = random_games(150)
    spec = NetworkSpec(hidden=(48,), observation_shape=(3, 3, 3), num_actions=9)
    learner = Learner(spec, LearnerConfig(batch_size=64, learning_rate=5e-3, average=0.9), seed=1)
    errors = [error(learner.averaged, rows)]
    for fit in range(4):
        asked = td_values(rows, TTT, learner.averaged)
        ends = successors(rows)[1]
        np.testing.assert_array_equal(asked[ends], rows.outcome[ends])
        for number in range(6):
            learner.learn(targets(rows, WindowConfig(td=1.0), asked), seed=(fit, number), span=(0.2, 0.2))
        errors.append(error(learner.averaged, rows))
    assert min(errors[1:]) == errors[-1]  # word of the ends spreads to the positions before
    assert errors[-1] < 0.8 * errors[0]


def test_asking_changes_nothing_and_one_process_shares_with_itself() -> None:
    rows = random_games(5)
    network = PolicyValueNetwork(NetworkSpec(hidden=(8,), observation_shape=(3, 3, 3), num_actions=9))
    before = [weight.detach().numpy().tobytes() for weight in network.parameters()]
    found = shared_td_values(rows, TTT, network, 0.5)
    np.testing.assert_array_equal(found, td_values(rows, TTT, network, 0.5))
    assert [weight.detach().numpy().tobytes() for weight in network.parameters()] == before
    assert all(weight.grad is None for weight in network.parameters())


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on values of values that has played for two iterations and fitted the first."""
    recipe = dataclasses.replace(
        TINY,
        network=Network(hidden=(32, 32)),  # without dropout, which differs from process to process
        games=30,
        games_a_task=30,
        passes=3,
        window=WindowConfig(td=1.0, gamma=0.9, validation=0.1),
    )
    run = Run.begin(tmp_path_factory.mktemp("runs") / "td", RunConfig("tic_tac_toe", recipe))
    for iteration in (1, 2):
        for task in steps.tasks(run, iteration, last=False):
            collect({**task, "root": str(run.folder)})
        if iteration == 1:
            steps.fit(run, 1, (0.0, 0.5), last=False)
    return run


def test_processes_that_share_a_fit_share_its_targets(collected: Run) -> None:
    """The losses of two are those of one, which they could not be on other targets."""
    other = collected.folder.parent / "shared"
    shutil.copytree(collected.folder, other)
    shutil.rmtree(other / "iterations" / "0001" / "bundle")
    (other / "iterations" / "0001" / "fit.json").unlink()
    two = fit_in(2)(Run.open(other), 1, (0.0, 0.5), last=False)
    one = collected.read(collected.iteration(1) / "fit.json")
    for mine, theirs in zip(one["lines"], two["lines"], strict=True):
        for name in ("value_loss", "validation_value_loss", "validation_value_error", "positions"):
            assert theirs[name] == pytest.approx(mine[name], abs=1e-4), name


def test_a_fit_asks_the_network_of_before_also_when_it_goes_on(collected: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run, seen = collected, []

    def spied(rows: Rows, domain: Any, network: PolicyValueNetwork, gamma: float) -> np.ndarray:
        seen.append((td_values(rows, domain, network, gamma), gamma, error(network, rows)))
        return seen[-1][0]

    class Stopped(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "pass" and event["pass"] == 3:
            raise Stopped

    monkeypatch.setattr(run_window, "shared_td_values", spied)
    with pytest.raises(Stopped):
        steps.fit(run, 2, (0.5, 1.0), last=False, tell=stop)
    assert (run.iteration(2) / "partial.safetensors").exists()
    done = steps.fit(run, 2, (0.5, 1.0), last=False)
    assert len(done["lines"]) == 3
    (first, gamma, _), (second, *_) = seen
    assert gamma == 0.9
    np.testing.assert_array_equal(first, second)
    untrained = Learner(run.recipe.spec(run.domain), run.recipe.learner, seed=run.config.seed)
    before = Learner(run.recipe.spec(run.domain), run.recipe.learner, seed=0)
    before.load(run.iteration(1) / "learner.safetensors")
    after = Learner(run.recipe.spec(run.domain), run.recipe.learner, seed=0)
    after.load(run.iteration(2) / "learner.safetensors")
    rows = random_games(60)
    assert error(after.averaged, rows) < error(untrained.averaged, rows)
    assert error(before.averaged, rows) != error(after.averaged, rows)
