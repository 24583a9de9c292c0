"""Batches told as arrays: the same searches as results one by one."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from support import Plain, Weighing

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import CancelledSearch, SettingsError, StateError
from escalade.domains.evaluator import BatchHints
from escalade.search.batch import BatchSearch
from escalade.search.cohort import tree_seeds
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import UniformEvaluator
from escalade.search.results import _drawn

C4 = ConnectFour()
GO = threading.Event()


class Few(Weighing):
    hints = BatchHints(rows=3)


def array_of(domain: Any, states: list[Any]) -> Any:
    return np.fromiter(states, np.object_) if isinstance(domain, Plain) else domain.to_rows(states)


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["array", "plain"])
@pytest.mark.parametrize(
    "options",
    [{}, {"algorithm": "gumbel"}, {"temperature": 1.0, "noise_fraction": 0.25}, {"final_move": "lower_bound"}],
    ids=["puct", "gumbel", "temperature", "lower_bound"],
)
def test_finds_what_search_finds(domain: Any, options: dict[str, Any]) -> None:
    states = [C4.parse(moves) for moves in ("", "4", "44", "445", "112233", "121314", "4444", "12345")]
    seeds = list(range(100, 108))
    batches = BatchSearch(domain, Few(C4), len(states), 40)
    for simulations in (40, 7):  # the same trees serve both
        config = SearchConfig(simulations=simulations, **options)
        found = batches.search(array_of(domain, states), config, tree_seeds(seeds, len(seeds)), GO)
        wanted = search(domain, states, Few(C4), config, seed=seeds)
        assert found.action.tolist() == [result.action for result in wanted]
        assert found.simulations.tolist() == [result.simulations for result in wanted]
        assert found.proven.tolist() == [result.proven for result in wanted]
        np.testing.assert_array_equal(found.value, [result.value for result in wanted])
        np.testing.assert_array_equal(found.policy, [result.policy for result in wanted])
        np.testing.assert_array_equal(found.legal, [~np.isnan(result.lower) for result in wanted])


def test_a_finished_position_is_refused() -> None:
    batches = BatchSearch(C4, UniformEvaluator(), 4, 8)
    with pytest.raises(StateError, match="finished"):
        batches.search([C4.parse(""), C4.parse("1212121")], SearchConfig(simulations=8), tree_seeds(0, 2), GO)
    assert batches.search([C4.parse("")], SearchConfig(simulations=8), tree_seeds(0, 1), GO).simulations == [8]


def test_stops_when_told_to() -> None:
    stop = threading.Event()
    stop.set()
    batches = BatchSearch(C4, UniformEvaluator(), 4, 8)
    with pytest.raises(CancelledSearch):
        batches.search([C4.parse("")], SearchConfig(simulations=8), tree_seeds(0, 1), stop)
    assert batches.search([C4.parse("")], SearchConfig(simulations=8), tree_seeds(0, 1), GO).simulations == [8]


def test_what_cannot_be_searched_is_named() -> None:
    with pytest.raises(SettingsError, match="domain must be"):
        BatchSearch("connect_four", UniformEvaluator(), 4, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_actions_are_drawn_by_their_chances(temperature: float) -> None:
    policy = np.array([0.0, 0.5, 0.3, 0.0, 0.2, 0.0, 0.0], np.float32)
    seeds = np.arange(40_000, dtype=np.uint64)
    drawn = _drawn(np.tile(policy, (len(seeds), 1)), temperature, seeds)
    wanted = policy ** (1 / temperature) / (policy ** (1 / temperature)).sum()
    shares = np.bincount(drawn, minlength=7) / len(seeds)
    assert (shares[policy == 0] == 0).all()
    np.testing.assert_allclose(shares, wanted, atol=4 * 0.5 / np.sqrt(len(seeds)))
