"""Clients that leave: how soon what they held is given back, and whether the next one notices.

    python benchmarks/abandoned.py [--requests 50] [--simulations 1000000] [--latency-ms 300] [--repeats 5]

Three kinds of requests, each asked for so many times at once and then cancelled: decisions by a language model, one
call each; the same of texts that share prompts; and decisions by searches of a million simulations. Printed are the
milliseconds from the cancellation until no turn at the endpoint, no open prompt and no search of theirs is left (the
longest of the repeats), and those of a normal request that comes right after, against one on a machine at rest
(medians). The endpoint is a process of `escalade llm simulate` on loopback: the latency is made, all else is real.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from simulated_endpoint import free_port, simulated_endpoint

from escalade.app.settings import Settings
from escalade.app.simulated_llm import MODEL
from escalade.app.wiring import open_language_model
from escalade.domains.intents import Intents
from escalade.graph.decision import make_resources, wire
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.resources import Resources

LABELS = ("card lost", "loan", "refund")
UNDER_WAY_S = 0.05
"""After the first of them holds something, they leave."""
GIVEN_UP_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--simulations", type=int, default=1_000_000)
    parser.add_argument("--latency-ms", type=float, default=300.0, help="of the simulated endpoint")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    logging.getLogger("escalade").setLevel(logging.ERROR)
    print(f"{given.requests} abandoned requests, {given.repeats} times; ms")
    with simulated_endpoint(free_port(), "tic_tac_toe", given.latency_ms) as url, opened(url) as model:
        resources = make_resources("tic_tac_toe", language_model=model)
        asyncio.run(measured("language model", resources, "51", given, {"ladder": ["reason"]}))
    with tempfile.TemporaryDirectory() as folder:
        labels, right = Path(folder) / "labels.csv", Path(folder) / "right.csv"
        labels.write_text("\n".join(("label", *LABELS)) + "\n")
        right.write_text(f"state,action\nwhere is it,{LABELS[0]}\n")
        options = ["-o", f"labels={labels}", "--labels", str(right)]
        with simulated_endpoint(free_port(), "intents", given.latency_ms, *options) as url, opened(url) as model:
            resources = make_resources(Intents(LABELS), language_model=model)
            asyncio.run(measured("shared prompts", resources, "where is it", given, {"ladder": ["reason"]}))
    resources = make_resources("connect_four")
    context = {"ladder": ["search"], "simulations": given.simulations}
    asyncio.run(measured("search", resources, "443", given, context, {"ladder": ["search"], "simulations": 200}))
    assert resources.search is not None
    resources.search.close()


async def measured(
    name: str,
    resources: Resources,
    state: str,
    given: Any,
    context: dict[str, Any],
    normal: dict[str, Any] | None = None,
) -> None:
    """Print the figures of one kind of request. context: of those that are abandoned; normal: of the others."""
    graph: Any = wire(resources).compile()

    async def decided() -> float:
        began = time.perf_counter()
        await graph.ainvoke({"state": state}, context=normal or context)
        return (time.perf_counter() - began) * 1000

    await decided()  # what a process loads for its first request is no request's
    at_rest, after, given_back = [], [], []
    for _ in range(given.repeats):
        at_rest.append(await decided())
        runs = [asyncio.create_task(graph.ainvoke({"state": state}, context=context)) for _ in range(given.requests)]
        await seconds_until(lambda: sum(held_by(resources)) > 0, time.perf_counter())
        await asyncio.sleep(UNDER_WAY_S)
        began = time.perf_counter()
        for run in runs:
            run.cancel()
        next_one = asyncio.create_task(decided())
        given_back.append(await seconds_until(lambda: only_one_left(resources), began) * 1000)
        await asyncio.gather(*runs, return_exceptions=True)
        after.append(await next_one)
    breaker = "" if resources.language_model is None else f"; breaker {resources.language_model.endpoint.breaker.state}"
    print(
        f"{name}: all given back within {max(given_back):.0f}; a request right after {np.median(after):.0f}, "
        f"at rest {np.median(at_rest):.0f}{breaker}"
    )


def held_by(resources: Resources) -> tuple[int, int, int]:
    """Turns at the endpoint, open prompts, and searches that run or wait."""
    model, batches, search = resources.language_model, resources.batches, resources.search
    return (
        0 if model is None else model.endpoint.gate.under_way,
        0 if batches is None else batches.under_way,
        0 if search is None else search.running + search.waiting,
    )


def only_one_left(resources: Resources) -> bool:
    """Whether at most the request that came right after is under way."""
    return max(held_by(resources)) <= 1


async def seconds_until(is_so: Callable[[], bool], began: float) -> float:
    """From then on, looked at every millisecond."""
    while not is_so():
        if time.perf_counter() - began > GIVEN_UP_S:
            raise SystemExit(f"nothing was taken, or given back, within {GIVEN_UP_S:g} s")
        await asyncio.sleep(0.001)
    return time.perf_counter() - began


@contextmanager
def opened(url: str) -> Iterator[LanguageModel]:
    settings = Settings(llm_model=MODEL, llm_base_url=url, llm_tokens_per_hour=10_000_000)
    model = open_language_model(settings)
    assert model is not None
    yield model
    model.close()


if __name__ == "__main__":
    main()
