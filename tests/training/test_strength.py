"""Strength over a run: fixed opponents, one scale, within a share of the time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corridor import CORRIDOR
from hypothesis import given
from hypothesis import strategies as st
from nim import NIM
from support import network_for
from training_runs import TINY

from escalade.app.train_view import plain_line
from escalade.domains.errors import SettingsError
from escalade.neural.bundle import write_bundle
from escalade.training.card_of_run import strength_lines
from escalade.training.evaluate import EvaluationConfig
from escalade.training.pace import Pace
from escalade.training.run import Run, RunConfig, let_go
from escalade.training.run_plots import write_run_plots
from escalade.training.strength import PAIRS, measure_strength
from escalade.training.strength_figures import FIRST, figures_of, strengths, without_results

WITHOUT = "4 simulations without a network"


class Clock:
    """Goes on by so many seconds whenever it is looked at."""

    def __init__(self, step: float = 0.01) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Begins runs with networks of some iterations."""
    begun: list[Run] = []

    def make(domain: str = NIM, iterations: int = 2, **fields: Any) -> Run:
        recipe = replace(TINY, **{"evaluation": EvaluationConfig(simulations=(0, 4), players=(0, 4)), **fields})
        run = Run.begin(tmp_path / f"run{len(begun)}", RunConfig(domain, recipe))
        for number in range(1, iterations + 1):
            run.iteration(number).mkdir(parents=True)
            write_bundle(run.plain_bundle(number), domain=run.domain, network=network_for(run.domain, number))
        begun.append(run)
        return run

    yield make
    for run in begun:
        let_go(run.folder)


def line_of(number: int, measured: dict[str, Any]) -> dict[str, Any]:
    return {"iteration": number, "seconds": 60.0 * number, "by": "nothing", "strength": measured["figures"]}


def test_networks_and_opponents_are_rated_on_one_scale(begin: Callable[..., Run]) -> None:
    run = begin()
    first, second = (measure_strength(run, number, 100, clock=Clock()) for number in (1, 2))
    names = [one["name"] for one in second["figures"]["anchors"]]
    assert names == ["random moves", "one ply", WITHOUT, FIRST]
    for measured in (first, second):
        figures = measured["figures"]
        assert figures["unit"] == "elo"
        assert [one["name"] for one in figures["players"]] == ["network alone", "network with 4 simulations"]
        for one in figures["players"]:
            assert one["low"] < one["value"] < one["high"]
            assert all(len(pairs) <= PAIRS for pairs in one["results"].values())
            assert one["games"] == 2 * sum(map(len, one["results"].values()))
        assert figures["anchors"][0]["value"] == 0
    alone = first["figures"]["players"][0]
    assert first["figures"]["anchors"][-1]["value"] == alone["value"]
    assert FIRST in second["figures"]["players"][0]["results"]
    (line,) = json.loads((run.iteration(2) / "strength.json").read_text())["lines"]
    assert line["strength_4"] == second["figures"]["players"][1]["value"]
    assert '"kind": "strength"' in (run.folder / "metrics.jsonl").read_text()


def test_the_whole_history_is_drawn_on_the_newest_scale(begin: Callable[..., Run]) -> None:
    run = begin()
    history = [line_of(number, measure_strength(run, number, 100.0 * number, clock=Clock())) for number in (1, 2)]
    first, last = (line["strength"] for line in history)
    drawn = strengths(run)
    assert drawn[1]["anchors"] == drawn[2]["anchors"] == last["anchors"]
    players, anchors = ({one["name"]: one for one in part} for part in (first["players"], last["anchors"]))
    assert drawn[1] == figures_of("elo", players, anchors)
    assert len(json.dumps(without_results(last))) < 2000  # the graph's state holds one of every iteration
    made = write_run_plots(run, history)
    assert {path.name for path in made} == {"strength.png"}
    said = plain_line(history[1])
    assert "network with 4 simulations " in said
    assert ", without it " in said
    card = "\n".join(strength_lines(run))
    for words in ("| iteration 2, network alone |", f"| {WITHOUT} |", "Elo points by games against fixed opponents"):
        assert words in card


def test_one_player_is_drawn_by_its_mean_return(begin: Callable[..., Run]) -> None:
    run = begin(CORRIDOR)
    measured = [measure_strength(run, number, 100, clock=Clock()) for number in (1, 2)]
    figures = measured[1]["figures"]
    assert figures["unit"] == "return"
    assert {one["name"] for one in figures["anchors"]} == {"random moves", WITHOUT, FIRST}
    for one in (*figures["players"], *figures["anchors"]):
        assert -1 <= one["low"] <= one["value"] <= one["high"] <= 1
        assert one["games"] == len(one["results"])
    history = [line_of(number, one) for number, one in enumerate(measured, start=1)]
    assert {path.name for path in write_run_plots(run, history)} == {"strength.png"}
    assert "mean return" in plain_line(history[0])
    assert "| random moves |" in "\n".join(strength_lines(run))


@pytest.mark.parametrize("domain", [NIM, CORRIDOR])
def test_it_takes_no_more_than_its_share_of_the_time(begin: Callable[..., Run], domain: str) -> None:
    run, clock = begin(domain, iterations=8), Clock(0.005)
    spent = 0.0
    for number in range(1, 9):
        spent += measure_strength(run, number, 5.0 * number, last=number == 8, clock=clock)["seconds"]
        assert spent <= 0.1 * 5.0 * number + 0.2  # a ply and what is written after it
    measured = [run.read(run.iteration(number) / "strength.json")["figures"] for number in range(1, 9)]
    assert any(measured)
    assert not all(measured)  # too little time is saved for a later iteration


def test_what_was_measured_is_not_measured_again(begin: Callable[..., Run]) -> None:
    run = begin()
    first = measure_strength(run, 1, 50, clock=Clock())
    assert measure_strength(run, 1, 5000, clock=Clock()) == first
    # Killed before it was noted: again, with what is known of the opponents.
    (run.iteration(1) / "strength.json").unlink()
    again = measure_strength(run, 1, 50, clock=Clock())
    assert again["figures"]["players"]


@pytest.mark.parametrize(("domain", "strength", "seconds"), [(NIM, 0.0, 1000), (NIM, 0.1, 0.0)])
def test_without_time_nothing_is_measured(
    begin: Callable[..., Run], domain: str, strength: float, seconds: float
) -> None:
    run = begin(domain, strength=strength)
    done = measure_strength(run, 1, seconds, clock=Clock())
    assert (done["figures"], done["lines"]) == ({}, [])
    assert write_run_plots(run, [line_of(1, done)]) == []


def test_with_a_solver_the_same_searches_are_measured_without_a_network(begin: Callable[..., Run]) -> None:
    run = begin("tic_tac_toe", evaluation=EvaluationConfig(simulations=(0, 4, 8)))
    few = measure_strength(run, 1, 3, clock=Clock(0.05))["figures"]
    assert few["unit"] == "optimal"
    assert [one["simulations"] for one in few["anchors"]] == [4, 8]
    for one in few["anchors"]:
        assert one["low"] < one["value"] < one["high"]
        assert 64 <= one["games"] < 4520
    again = measure_strength(run, 2, 100, clock=Clock())["figures"]
    assert again["anchors"] == few["anchors"]  # once is enough
    line = {**line_of(1, {"figures": few}), "by": "agreement", "optimal_0": 0.5, "optimal_4": 0.9, "count": 4520}
    assert {path.name for path in write_run_plots(run, [line])} == {"strength.png"}
    assert "4 simulations without a network" in plain_line(line)


def test_a_share_that_is_none_is_named() -> None:
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(SettingsError, match="strength must be at least 0 and below 1"):
            replace(TINY, strength=wrong)


@given(st.lists(st.floats(1, 5), min_size=1, max_size=5), st.floats(1, 100))
def test_time_is_shared_by_what_games_cost(costs: list[float], seconds: float) -> None:
    kinds = [f"player {number}" for number in range(len(costs))]
    pace = Pace(seconds, lambda: 0.0, dict(zip(kinds, costs, strict=True)))
    ends = pace.slice_end([(kind, 1.0) for kind in kinds])
    assert ends == pytest.approx(seconds * costs[0] / sum(costs))
    games = [
        pace.affordable(kind, 10**6, 10**9, seconds * cost / sum(costs))
        for kind, cost in zip(kinds, costs, strict=True)
    ]
    assert max(games) - min(games) <= 1
    for done, most in itertools.product((0, 1, 5), (5, 8)):
        wanted = pace.affordable(kinds[0], done, most, seconds)
        assert wanted <= max(done, 1)
        assert wanted * costs[0] <= seconds
        assert done + wanted <= most or wanted == 0


def test_games_that_did_not_end_are_not_begun_again_in_as_little_time() -> None:
    clock = Clock(0.0)
    pace = Pace(100, clock, {})
    assert pace.affordable("slow", 0, 40, 10) == 1
    clock.now = 10
    pace.timed("slow", 0, 1, finished=False)
    assert pace.affordable("slow", 0, 40, clock.now + 10) == 0
    assert pace.affordable("slow", 0, 40, clock.now + 30) == 1
