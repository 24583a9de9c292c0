"""Whether any rung ever decides an illegal action: decisions over all domains, by whole ladders and by parts of them,
with a language model that says whatever it likes (legal, illegal, not even a name), in states of random play.
Asked: 0 in a million.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import random
import time
from collections import Counter
from typing import Any

import numpy as np
import torch
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from rich.console import Console

from escalade.domains.catalog import load_domain
from escalade.domains.errors import NoDecisionError
from escalade.graph.decision import build_decision_graph
from escalade.nodes.context import DecisionContext
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.structured import Ways

LABELS = ["refund", "card lost", "balance", "transfer", "other"]
WORDS = ["0", "1", "5", "8", "9", "10", "-1", "resign", "balance", "refund", "", "null", "card lost", "1e9"]


class Whatever(BaseChatModel):
    """Answers any form with a word that may be an action's name or not; now and then with none."""

    chance: Any

    @property
    def _llm_type(self) -> str:
        return "whatever"

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        word = self.chance.choice(WORDS)
        candidates = [{"action": self.chance.choice(WORDS), "reason": ""} for _ in range(3)]
        checks = [{"tool": "search", "state": word, "action": word}]
        answer = {"action": word, "plan": "", "candidates": candidates, "checks": checks, "critique": ""}
        answers = [{"id": str(number), "action": self.chance.choice(WORDS)} for number in range(1, 30)]
        text = self.chance.choice([json.dumps({**answer, "answers": answers}), word, "no\nanswer"])
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def contexts(chance: random.Random, has_simulator: bool) -> DecisionContext:
    """Options at random: any part of the ladder, any thresholds."""
    rungs = [rung for rung in ("policy", "value", "reason", "search") if chance.random() < 0.6]
    if has_simulator and "search" not in rungs:
        rungs.append("search")
    thresholds = {f"{rung}_threshold": chance.choice([None, 0.0, 0.9, 1.0]) for rung in rungs}
    return DecisionContext(
        ladder=tuple(rungs or ["reason"]),  # type: ignore[arg-type]
        simulations=chance.choice([1, 2, 8]),
        samples=chance.choice([1, 1, 3]),
        reasoning="full" if chance.random() < 0.05 else "short",
        seed=chance.randrange(2**32),
        **thresholds,
    )


async def decide_all(count: int, seed: int) -> Counter[str]:
    """Legal, illegal and undecided ones, and how often each rung decided."""
    torch.set_num_threads(1)
    chance, found = random.Random(seed), Counter[str]()
    domains: list[tuple[Any, Any]] = []
    for name in ("tic_tac_toe", "connect_four", "intents"):
        domain = load_domain(name, {"labels": LABELS} if name == "intents" else None)
        model = LanguageModel(Whatever(chance=chance), "whatever", ways=Ways("json_schema"), batch_ms=1.0)
        bundle = None if name == "intents" else f"builtin:{name}"
        domains.append((domain, build_decision_graph(domain, bundle=bundle, language_model=model)))

    async def one() -> None:
        domain, graph = chance.choices(domains, [5, 5, 1])[0]
        state = random_state(domain, chance)
        given: Any = {"state": domain.format(state)}
        try:
            decision = (await graph.ainvoke(given, context=contexts(chance, domain.has_simulator)))["decision"]
        except NoDecisionError:
            found["undecided"] += 1
            return
        found["legal" if decision["action"] in domain.legal_actions(state) else "illegal"] += 1
        found[f"by {decision['source']}"] += 1

    for start in range(0, count, 64):
        await asyncio.gather(*(one() for _ in range(min(64, count - start))))
    return found


def random_state(domain: Any, chance: random.Random) -> Any:
    if not domain.has_simulator:
        return domain.parse("".join(chance.choice("abc <>{}\\n") for _ in range(chance.randrange(40))) + "x")
    state = domain.initial_state()
    for _ in range(chance.randrange(42)):
        following = domain.step(state, chance.choice(list(domain.legal_actions(state))))
        if domain.is_terminal(following):
            break
        state = following
    return state


def work(count: int, seed: int) -> Counter[str]:
    logging.disable(logging.WARNING)
    return asyncio.run(decide_all(count, seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the row instead of a sentence")
    options = parser.parse_args()
    began = time.perf_counter()
    # Small parts, so that what was done can be told at any time.
    size = max(1, min(10_000, options.decisions // options.processes))
    seeds = np.random.SeedSequence(options.seed).generate_state(-(-options.decisions // size), np.uint64).tolist()
    sizes = [min(size, options.decisions - place * size) for place in range(len(seeds))]
    found = Counter[str]()
    console = Console(stderr=True)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for ended in [pool.apply_async(work, one) for one in zip(sizes, seeds, strict=True)]:
            found += ended.get()
            console.print(f"{sum(found[name] for name in ('legal', 'illegal', 'undecided'))}: {dict(found)}")
    row = {**dict.fromkeys(("legal", "illegal", "undecided"), 0), **found, "seconds": time.perf_counter() - began}
    print(json.dumps(row) if options.json else f"{row['illegal']} illegal of {row['legal'] + row['illegal']} decisions")
    if found["illegal"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
