"""Callers who leave give back what they held, and the next ones do not notice."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from escalade import build_decision_graph
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.domains.intents import Intents
from escalade.graph.decision import make_resources, wire
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.question_batches import QuestionBatches
from tests.loopback_llm import Loopback, Reply, loopback

ROOT = Path(__file__).parents[2]
SOON_S = 5.0
"""Generous: what is given back within 200 ms on a machine at rest; `benchmarks/abandoned.py` measures it."""


def opened(served: Loopback, **settings: Any) -> LanguageModel:
    given = {"llm_batch_ms": 0, "llm_tokens_per_hour": 100_000, **settings}
    model = open_language_model(Settings(llm_model="m", llm_base_url=served.url, **given))
    assert model is not None
    return model


async def soon(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not is_so():  # noqa: ASYNC110 -- state of other threads
            await asyncio.sleep(0.005)


async def leaves(graph: Any, context: Any, count: int, is_held: Callable[[], bool], how: str) -> None:
    """So many callers, who leave once something is held."""

    async def streamed() -> None:
        stream: AsyncIterator[Any] = graph.astream({"state": "443"}, context=context)
        async for _ in stream:
            pass

    def run() -> Any:
        return streamed() if how == "astream" else graph.ainvoke({"state": "443"}, context=context)

    runs = [asyncio.create_task(run()) for _ in range(count)]
    await soon(is_held)
    for one in runs:
        one.cancel()
    ended = await asyncio.gather(*runs, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
@pytest.mark.parametrize("options", [{}, {"samples": 3}, {"reasoning": "full"}], ids=["one", "samples", "full"])
def test_turns_and_tokens_of_abandoned_calls_are_given_back(how: str, options: Any) -> None:
    async def main(served: Loopback) -> None:
        model = opened(served)
        endpoint = model.endpoint
        graph = build_decision_graph("connect_four", language_model=model)
        context = {"ladder": ["reason"], **options}
        await leaves(graph, context, 50, lambda: endpoint.gate.under_way > 0, how)
        await soon(lambda: endpoint.gate.under_way == 0)
        assert endpoint.tokens._reserved == 0
        assert len(endpoint.gate._waiting) == 0
        assert endpoint.breaker.state == "closed"
        assert endpoint.tokens._total < 100_000 / 2  # not the answers, which nobody got
        answered = served.answered
        result = await graph.ainvoke({"state": "44"}, context={"ladder": ["reason"]})
        assert result["decision"]["source"] == "reason"
        await soon(lambda: served.answered > answered)  # it counts once the answer is out
        await asyncio.to_thread(model.close)

    with loopback(lambda call: Reply(after_s=30.0 if "443" in str(call.body) else 0.0)) as served:
        asyncio.run(main(served))


@pytest.mark.parametrize("how", ["ainvoke", "astream"])
def test_searches_of_a_million_simulations_are_given_back(how: str) -> None:
    async def main() -> None:
        resources = make_resources("connect_four")
        search = resources.search
        assert search is not None
        graph: Any = wire(resources).compile()
        context = {"ladder": ["search"], "simulations": 1_000_000}
        await leaves(graph, context, 20, lambda: search.running + search.waiting > 10, how)
        await soon(lambda: search.running + search.waiting == 0)
        normal = await graph.ainvoke({"state": "44"}, context={"ladder": ["search"], "simulations": 50})
        assert normal["decision"]["source"] == "search"
        await asyncio.to_thread(search.close)

    asyncio.run(main())


def test_a_prompt_goes_on_for_those_who_stay_and_ends_when_all_have_left() -> None:
    async def main(served: Loopback) -> None:
        model = opened(served)
        batches = QuestionBatches(Intents(["a", "b"]), model, wait_ms=60_000, most=4)
        asked = [asyncio.create_task(batches.ask(f"text {number}")) for number in range(4)]
        await asyncio.to_thread(served.came.wait, 30)
        for one in asked[:3]:
            one.cancel()
        answer, batch = await asked[3]
        assert answer.fields == {"action": "a"}
        assert batch["size"] == 4
        served.came.clear()
        asked = [asyncio.create_task(batches.ask(f"slow text {number}")) for number in range(4)]
        await asyncio.to_thread(served.came.wait, 30)
        assert model.endpoint.gate.under_way == 1
        for one in asked:
            one.cancel()
        await soon(lambda: model.endpoint.gate.under_way == batches.under_way == 0)
        assert model.endpoint.breaker.state == "closed"
        await asyncio.to_thread(model.close)

    with loopback(lambda call: Reply(after_s=30.0 if "slow" in str(call.body) else 0.3)) as served:
        asyncio.run(main(served))


def test_a_question_asked_again_alone_is_dropped_with_its_asker() -> None:
    async def main(served: Loopback) -> None:
        model = opened(served)
        batches = QuestionBatches(Intents(["a", "b"]), model, wait_ms=60_000, most=3)
        asked = [asyncio.create_task(batches.ask(f"text {number}")) for number in range(3)]
        async with asyncio.timeout(60):
            while len(served.bodies) < 4:  # noqa: ASYNC110 -- the server's
                await asyncio.sleep(0.01)
        asked[0].cancel()
        await soon(lambda: model.endpoint.gate.under_way == 2)
        for one in asked[1:]:
            one.cancel()
        await soon(lambda: model.endpoint.gate.under_way == batches.under_way == 0)
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.to_thread(model.close)

    def script(call: Any) -> Reply:
        together = "one JSON object a line" in str(call.body)
        return Reply(content='{"answers": []}') if together else Reply(after_s=30.0)

    with loopback(script) as served:
        asyncio.run(main(served))


def test_who_interrupts_a_synchronous_run_takes_its_search_along() -> None:
    code = """
import _thread, threading, time
from escalade.graph.decision import make_resources, wire
resources = make_resources("connect_four")
graph = wire(resources).compile()
def interrupt():
    while not resources.search.running:
        time.sleep(0.01)
    _thread.interrupt_main()
threading.Thread(target=interrupt, daemon=True).start()
try:
    graph.invoke({"state": "443"}, context={"ladder": ["search"], "simulations": 1_000_000})
except KeyboardInterrupt:
    until = time.monotonic() + 20
    while resources.search.running and time.monotonic() < until:
        time.sleep(0.01)
    print("left", resources.search.running)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "left 0\n", done.stderr


def test_the_benchmark_runs() -> None:
    began = time.monotonic()
    options = ["--requests", "4", "--simulations", "100000", "--latency-ms", "200", "--repeats", "1"]
    command = [sys.executable, "benchmarks/abandoned.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 280
    told = done.stdout.splitlines()[1:]
    assert [line.partition(":")[0] for line in told] == ["language model", "shared prompts", "search"]
    assert all("given back within" in line for line in told)
