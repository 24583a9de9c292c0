"""What confidence, novelty and certificate cost a decision, in microseconds: each piece alone, on Connect Four states,
as the policy rung and the router do it for one decision at a time. Medians over states; the bundle must be certified.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from escalade.domains.base import legal_mask
from escalade.domains.catalog import load_domain
from escalade.graph.decision import make_resources
from escalade.neural.actions import action_probabilities
from escalade.neural.confidence import policy_features
from escalade.nodes.context import DecisionContext
from escalade.nodes.router import judge
from escalade.training.casual import casual_positions

LIMIT = 50.0


def median_us(calls: list[Callable[[], Any]], rounds: int) -> float:
    """Of all calls, the best of so many rounds each: what other work on the machine adds is not the code's."""
    best = np.full(len(calls), np.inf)
    for _ in range(rounds):
        for place, call in enumerate(calls):
            began = time.perf_counter()
            call()
            best[place] = min(best[place], time.perf_counter() - began)
    return float(np.median(best)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="builtin:connect_four")
    parser.add_argument("--states", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the row instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    domain = load_domain("connect_four")
    resources = make_resources(domain, bundle=options.bundle)
    if not resources.certificates:
        parser.error(f"--bundle: {options.bundle} has no certificate")
    calibrator, context = resources.calibrator("policy"), DecisionContext()
    states = [state for _, _, state in casual_positions(domain, range(options.states), 8, 34, seed=options.seed)]
    inputs = []
    for state in states:
        observations, legal = domain.encode([state]), legal_mask(domain, [state])
        logits, values = resources.network.evaluator.evaluate(observations, legal)  # type: ignore[union-attr]
        chances = action_probabilities(logits, legal)
        features = policy_features(chances, legal, values)
        proposal = {
            "rung": "policy",
            "action": int(chances[0].argmax()),
            "confidence": float(calibrator.confidences(features)[0]),
            "cost_usd": 0.0,
            "latency_ms": 1.0,
            "details": resources.novelty_of(observations, domain.format(state)),
        }
        inputs.append((observations, domain.format(state), legal, chances, values, features, proposal))
    pieces: dict[str, Callable[[Any], Any]] = {
        "features": lambda one: policy_features(one[3], one[2], one[4]),
        "confidence": lambda one: float(calibrator.confidences(one[5])[0]),
        "novelty": lambda one: resources.novelty_of(one[0], one[1]),
        "certificate": lambda one: judge(one[6], [], context, resources),
    }
    row = {
        name: median_us([lambda one=one, piece=piece: piece(one) for one in inputs], options.rounds)  # type: ignore[misc]
        for name, piece in pieces.items()
    }
    row["together"] = sum(row.values())
    if options.json:
        print(json.dumps(row))
    else:
        table = Table(title=f"microseconds a decision, {len(states)} states, best of {options.rounds} each")
        for name in row:
            table.add_column(name, justify="right")
        table.add_row(*(f"{value:.1f}" for value in row.values()))
        Console().print(table)
        Console().print(f"asked: together under {LIMIT:g}")
    for network in {resources.network, resources.value_network}:
        if network is not None:
            network.close()
    if resources.search is not None:
        resources.search.close()


if __name__ == "__main__":
    main()
