"""What searches hold on to."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from escalade.domains.connect_four import ConnectFour
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.session import Searcher

C4 = ConnectFour()


def test_a_thousand_trees_of_800_simulations_take_a_quarter_of_a_gibibyte_at_most() -> None:
    searcher = Searcher(C4, UniformEvaluator(), SearchConfig(simulations=800), 1024)
    assert searcher.array_bytes <= 256 * 2**20


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_thousand_searches_leave_nothing_behind() -> None:
    config = SearchConfig(simulations=30)
    states = [C4.parse(moves) for moves in ("", "44", "4455")]
    for turn in range(100):
        search(C4, states, RolloutEvaluator(C4), config, seed=turn)
    before = resident()
    for turn in range(1000):
        search(C4, states, RolloutEvaluator(C4), config, seed=turn)
    # A search's own arrays are over 50 kB: were they kept, this would be 50 MB.
    assert resident() - before < 8 * 2**20
