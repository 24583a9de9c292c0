"""How far a search has come, as its ticket reports it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support import Plain, same

from escalade.domains.connect_four import ConnectFour
from escalade.search import service_worker
from escalade.search.config import SearchConfig
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.service import SearchProgress, SearchService

C4 = ConnectFour()
EMPTY = C4.initial_state()
PATIENCE = 60.0


@pytest.mark.parametrize(
    "domain", [pytest.param(C4, id="kernels"), pytest.param(Plain(C4), id="plain", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_progress_grows_up_to_the_result(domain: Any, algorithm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_worker, "REPORT_SECONDS", 0.0)
    config = SearchConfig(simulations=30_000 if domain is C4 else 3000, algorithm=algorithm, proofs=False)
    with SearchService(domain, RolloutEvaluator(domain)) as service:
        ticket = service.submit(EMPTY, config, seed=1)
        seen: list[SearchProgress] = []
        until = time.monotonic() + PATIENCE
        while not ticket.done() and time.monotonic() < until:
            progress = ticket.progress()
            if progress is not None and (not seen or progress != seen[-1]):
                seen.append(progress)
            time.sleep(0.001)
        result = ticket.result(PATIENCE)
        unwatched = service.search(EMPTY, config, seed=1)
    assert seen
    done = [progress.simulations for progress in seen]
    assert done == sorted(done)
    assert 0 < done[0] <= done[-1] <= result.simulations == config.simulations
    assert all(progress.action in range(7) and -1 <= progress.value <= 1 for progress in seen)
    same(result, unwatched)  # to be watched changes nothing


def test_a_search_that_nobody_watches_is_not_read_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_worker, "REPORT_SECONDS", 0.0)
    with SearchService(C4, RolloutEvaluator(C4)) as service:
        ticket = service.submit(EMPTY, SearchConfig(simulations=2000))
        ticket.result(PATIENCE)
    assert ticket.reported is None


def test_a_search_in_the_queue_has_no_progress() -> None:
    with SearchService(C4, RolloutEvaluator(C4), trees=1) as service:
        first = service.submit(EMPTY, SearchConfig(simulations=1_000_000, proofs=False))
        second = service.submit(EMPTY, SearchConfig(simulations=5))
        assert second.progress() is None
        first.cancel()
        assert second.result(PATIENCE).simulations == 5
