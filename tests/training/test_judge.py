"""Who is better, and who therefore plays on: within a run, and in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corridor import CORRIDOR
from nim import NIM
from support import network_for
from training_runs import TINY

from escalade.app.train_setup import _registrar
from escalade.app.train_view import plain_line
from escalade.neural.bundle import read_bundle, write_bundle
from escalade.neural.sources import bundle_folder
from escalade.training import arena, judge
from escalade.training.evaluate import EvaluationConfig
from escalade.training.registry import Registry
from escalade.training.returns import play_episodes
from escalade.training.run import Run, RunConfig, let_go

QUICK = EvaluationConfig(simulations=(0,), players=(0,))
GOOD = bundle_folder("builtin:tic_tac_toe")


@pytest.fixture
def begin(tmp_path: Path) -> Any:
    """Begins runs and lets them go at the end."""
    begun: list[Run] = []

    def make(domain: str = NIM, name: str = "run", **fields: Any) -> Run:
        recipe = replace(TINY, **{"evaluation": QUICK, **fields})
        begun.append(Run.begin(tmp_path / name, RunConfig(domain, recipe)))
        return begun[-1]

    yield make
    for run in begun:
        let_go(run.folder)


def with_bundle(run: Run, iteration: int, seed: int | None) -> Run:
    """The run with an iteration that made a network; the good one of tic-tac-toe without a seed."""
    network = read_bundle(GOOD, run.domain).network if seed is None else network_for(run.domain, seed)
    run.iteration(iteration).mkdir(parents=True)
    write_bundle(run.iteration(iteration) / "bundle", domain=run.domain, network=network)
    return run


def judged(run: Run, iteration: int) -> tuple[dict[str, Any], bool]:
    """What evaluation said of an iteration, and whether it was promoted."""
    line = judge.evaluate_iteration(run, iteration)["lines"][0]
    return line, judge.promote(run, iteration)["promoted"]


def test_without_a_solver_games_judge_though_the_recipe_names_none(begin: Callable[..., Run]) -> None:
    run = with_bundle(with_bundle(begin(), 1, seed=1), 2, seed=2)
    assert judged(run, 1) == ({"by": "nothing", "score": 0.0}, True)
    line, promoted = judged(run, 2)
    assert line["by"] == "match"
    # Forty, or as many as there are openings for.
    assert line["games"] == 2 * min(20, len(arena.openings(run.domain, 20, seed=run.config.seed + 2)))
    assert promoted == (line["score"] > 0)


def test_a_tie_takes_no_champions_place(begin: Callable[..., Run]) -> None:
    run = with_bundle(with_bundle(begin(), 1, seed=1), 2, seed=1)
    judged(run, 1)
    line, promoted = judged(run, 2)  # the same network, which plays the same games from both sides
    assert (line["by"], line["score"], promoted) == ("match", 0.0, False)
    assert run.champion == {"iteration": 1, "score": 0.0, "by": "nothing"}


def test_with_one_player_the_greater_mean_return_wins(begin: Callable[..., Run]) -> None:
    run = with_bundle(with_bundle(begin(CORRIDOR), 1, seed=1), 2, seed=2)
    judged(run, 1)
    line, promoted = judged(run, 2)
    begun = arena.openings(run.domain, line["games"] // 2, seed=run.config.seed + 2)
    returns = []
    for number in (2, 1):
        player = arena.SearchPlayer("network", read_bundle(run.plain_bundle(number), run.domain).network, 0)
        played = play_episodes(run.domain, player, begun, seed=0)
        assert played is not None
        returns.append(sum(played.outcomes) / len(begun))
    assert line["return_change"] == pytest.approx(returns[0] - returns[1])
    assert line["return_change_low"] <= line["return_change"] <= line["return_change_high"]
    assert promoted == (returns[0] > returns[1])
    assert "elo" not in line
    said = plain_line({"iteration": 2, "seconds": 1.0, **line, "promoted": promoted})
    assert f"mean return {line['return_change']:+.3f} (" in said


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    uri = f"sqlite:///{tmp_path / 'models.db'}"
    monkeypatch.setenv("ESCALADE_REGISTRY", uri)
    return Registry(uri)


def aliases(registry: Registry, name: str) -> dict[str, int]:
    return {alias: one.version for one in registry.versions(name) for alias in one.aliases}


def test_a_worse_network_is_no_champion_of_the_registry(
    begin: Callable[..., Run], registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = _registrar()
    good = with_bundle(begin("tic_tac_toe", "good"), 1, seed=None)
    bad = with_bundle(begin("tic_tac_toe", "bad"), 1, seed=1)
    tell(good, {"iteration": 1})
    assert aliases(registry, "tic_tac_toe") == {"champion": 1}
    assert "tic_tac_toe version 1 is the first champion" in capsys.readouterr().err
    tell(bad, {"iteration": 1})
    assert aliases(registry, "tic_tac_toe") == {"champion": 1, "challenger": 2}
    said = capsys.readouterr().err
    assert "version 2 stays challenger, version 1 champion: optimal moves " in said
    assert "(n=4520)" in said
    tell(good, {"iteration": 1})
    assert aliases(registry, "tic_tac_toe") == {"champion": 1, "challenger": 2}
    assert "version 1 is the champion already" in capsys.readouterr().err
    # And a better one is, whoever came first.
    registry.promote("tic_tac_toe", 2)
    tell(good, {"iteration": 1})
    assert aliases(registry, "tic_tac_toe") == {"champion": 1}
    assert "version 1 is the champion now, in place of version 2: optimal moves" in capsys.readouterr().err


def test_without_a_solver_the_registry_wants_a_match_won(
    begin: Callable[..., Run], registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    tell = _registrar()
    tell(with_bundle(begin(name="one"), 1, seed=1), {"iteration": 1})
    run = with_bundle(begin(name="two"), 1, seed=2)
    tell(run, {"iteration": 1})
    found = judge.compare(run, run.iteration(1) / "bundle", registry.folder("models:/nim/1"))
    assert aliases(registry, "nim") == ({"champion": 2} if found.better else {"champion": 1, "challenger": 2})
    assert found.why in capsys.readouterr().err
    alike = judge.compare(run, run.iteration(1) / "bundle", run.iteration(1) / "bundle")
    assert (alike.better, alike.why[:19]) == (False, "50.0% of the points")


def test_a_champion_that_cannot_be_compared_stays(
    begin: Callable[..., Run], registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Older:
        """The domain when its actions had other names."""

        def __init__(self, domain: Any) -> None:
            self.domain = domain

        def __getattr__(self, name: str) -> Any:
            return getattr(self.domain, name)

        def action_name(self, action: int) -> str:
            return f"take {action}"

    run = with_bundle(begin(), 1, seed=1)
    old = write_bundle(tmp_path / "old", domain=Older(run.domain), network=network_for(run.domain))
    registry.promote("nim", registry.register(old.path, run_name="old"))
    _registrar()(run, {"iteration": 1})
    assert aliases(registry, "nim") == {"champion": 1, "challenger": 2}
    assert "they cannot be compared" in capsys.readouterr().err
