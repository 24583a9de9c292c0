"""What every rung of a ladder says of many states at once, beside what the reference says: the data that thresholds,
certificates and the frontier are made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray, legal_mask
from escalade.neural.actions import action_probabilities
from escalade.neural.bundle import Bundle
from escalade.neural.calibration import Calibrator
from escalade.neural.confidence import Features, policy_features, search_features, value_features
from escalade.neural.lookahead import Lookahead
from escalade.neural.novelty import Novelty
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.results import SearchResult
from escalade.training.agreement import BATCH, answers
from escalade.training.reference import Labelled
from escalade.training.threshold_path import Answers

NOMINAL_S = 1.0
"""What a decision of the reference is taken to cost, in seconds, where nothing else stands behind the networks (about a
call to a language model): only that it is far more than theirs matters for the choice of thresholds."""
TIMED = 100
"""States by which the cost of a visit is measured, one at a time."""

OnAsked = Callable[[str, int, int], None]
"""Hears which rung is asked, and how many states of how many are done."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """N states and what R rungs said of them, in ladder order.

    states: their texts. actions `[N, R]` int64. features: by rung, `[N, F]`. right `[N, R]` bool: whether the reference
    holds each action for as good as its own. observations `[N, *O]` float32. cost_s `[R]`: mean seconds of a visit,
    measured one state at a time on at most TIMED of them. group `[N]`: as in `Labelled`. tried `[N]` int64: simulations
    that each search ran, 0 without one. ruled_out `[N, R - 1]` bool: where the domain's own rules leave a state to
    others than this neural rung, or than one before it: what is proven is of all of them, asked in order.
    """

    states: tuple[str, ...]
    rungs: tuple[str, ...]
    actions: IntArray
    features: Mapping[str, Features]
    right: BoolArray
    observations: FloatArray
    cost_s: NDArray[np.float64]
    group: IntArray
    tried: IntArray
    ruled_out: BoolArray

    def __len__(self) -> int:
        return len(self.states)

    def take(self, chosen: IntArray | BoolArray) -> Recorded:
        """Of some of the states."""
        places: IntArray = np.arange(len(self))[chosen]
        return Recorded(
            tuple(self.states[place] for place in places.tolist()),
            self.rungs,
            self.actions[places],
            {rung: features[places] for rung, features in self.features.items()},
            self.right[places],
            self.observations[places],
            self.cost_s,
            self.group[places],
            self.tried[places],
            self.ruled_out[places],
        )

    def answers(self, calibrators: Mapping[str, Calibrator], novelty: Novelty | None) -> Answers:
        """With the confidences that calibrators make of it, for the neural rungs; the last rung accepts all."""
        neural = self.rungs[:-1]
        confidence = np.stack([calibrators[rung].confidences(self.features[rung]) for rung in neural], axis=1)
        novel = np.zeros(len(self), np.bool_) if novelty is None else novelty.novel(self.observations, self.states)
        return Answers(self.rungs, confidence, self.right, self.ruled_out | novel[:, None], self.cost_s)


def record(
    domain: Domain[Any],
    bundle: Bundle,
    labelled: Labelled,
    *,
    simulations: int,
    seed: int = 0,
    on_progress: OnAsked | None = None,
) -> Recorded:
    """Ask the policy, the value and a search of so many simulations about states that are not finished; without a
    simulator the policy alone, with the reference itself behind it.

    Each state's search has a seed of its own, from `seed` and its place.
    """
    tell = on_progress or _unheard
    acceptable, states = labelled.acceptable, [domain.parse(text) for text in labelled.states]
    legal, each = legal_mask(domain, states), np.arange(len(states))
    observations = domain.encode(states)
    logits, values = answers(domain, bundle.network, states, legal)
    chances = action_probabilities(logits, legal)
    features: dict[str, Features] = {"policy": policy_features(chances, legal, values)}
    tried = np.zeros(len(states), np.int64)
    chosen, rungs = [chances.argmax(axis=1)], ["policy"]
    tell("policy", len(states), len(states))
    if domain.has_simulator:
        ahead, exact = _looked_ahead(domain, bundle, states, tell)
        features["value"] = value_features(chances, legal, values, ahead, exact)
        chosen.append(np.nanargmax(ahead, axis=1))
        found = _searched(domain, bundle, states, simulations, seed, tell)
        features["search"] = search_features_of(found)
        tried = np.array([one.simulations for one in found], np.int64)
        chosen.append(np.array([one.action for one in found], np.int64))
        rungs += ["value", "search"]
        right = [acceptable[each, actions] for actions in chosen]
    else:
        rungs.append("reference")
        chosen.append(acceptable.argmax(axis=1))
        right = [acceptable[each, chosen[0]], np.ones(len(states), np.bool_)]
    cost = visit_costs(domain, bundle, states[:TIMED], simulations)
    return Recorded(
        labelled.states,
        tuple(rungs),
        np.stack(chosen, axis=1),
        features,
        np.stack(right, axis=1),
        observations,
        np.array([cost.get(rung, NOMINAL_S) for rung in rungs]),
        labelled.group,
        tried,
        _ruled_out(domain, states, rungs[:-1]),
    )


def _ruled_out(domain: Domain[Any], states: Sequence[Any], rungs: Sequence[str]) -> BoolArray:
    allowed = [domain.rungs_for(state) for state in states]
    found = np.array([[some is not None and rung not in some for rung in rungs] for some in allowed], np.bool_)
    barred: BoolArray = np.logical_or.accumulate(found.reshape(len(states), len(rungs)), axis=1)
    return barred


def _unheard(rung: str, done: int, of: int) -> None: ...


def search_features_of(found: Sequence[SearchResult]) -> Features:
    """The features of searches, `[N, F]`."""
    return search_features(
        np.stack([one.policy for one in found]),
        np.stack([one.prior for one in found]),
        np.stack([one.action_values for one in found]),
        ~np.isnan(np.stack([one.lower for one in found])),
        np.array([one.action for one in found], np.int64),
        np.array([one.value for one in found], np.float32),
        np.array([one.proven for one in found]),
    )


def visit_costs(domain: Domain[Any], bundle: Bundle, states: Sequence[Any], simulations: int) -> dict[str, float]:
    """Mean seconds of one core that a visit to each rung takes, the states asked one at a time."""

    def policy(state: Any) -> None:
        legal = legal_mask(domain, [state])
        logits, values = bundle.network.evaluate(domain.encode([state]), legal)
        policy_features(action_probabilities(logits, legal), legal, values)

    def value(state: Any) -> None:
        ahead = Lookahead(domain, state)
        observations = np.concatenate((domain.encode([state]), ahead.observations))
        legal = np.concatenate((legal_mask(domain, [state]), ahead.legal))
        logits, values = bundle.network.evaluate(observations, legal)
        ahead.fill_in(values[1:])
        chances = action_probabilities(logits[:1], legal[:1])
        value_features(chances, legal[:1], values[:1], ahead.values[None], ahead.exact[None])

    def searched(state: Any) -> None:
        search(domain, [state], bundle.network, SearchConfig(simulations=simulations), seed=[0])

    rungs: dict[str, Callable[[Any], None]] = {"policy": policy}
    if domain.has_simulator:
        rungs |= {"value": value, "search": searched}
    costs = {}
    for name, visit in rungs.items():
        for state in states[:3]:  # the first calls compile and load
            visit(state)
        began = time.perf_counter()
        for state in states:
            visit(state)
        costs[name] = (time.perf_counter() - began) / len(states)
    return costs


def _looked_ahead(
    domain: Domain[Any], bundle: Bundle, states: Sequence[Any], tell: OnAsked
) -> tuple[NDArray[np.float64], BoolArray]:
    """Action values `[N, A]` float64, NaN where illegal, and which are exact `[N, A]` bool."""
    network = bundle.value_network or bundle.network
    values = np.full((len(states), domain.num_actions), np.nan)
    exact = np.zeros(values.shape, np.bool_)
    for first in range(0, len(states), BATCH):
        part = [Lookahead(domain, state) for state in states[first : first + BATCH]]
        _, found = network.evaluate(
            np.concatenate([one.observations for one in part]), np.concatenate([one.legal for one in part])
        )
        ends = np.cumsum([len(one.legal) for one in part])
        for place, (one, own) in enumerate(zip(part, np.split(found, ends[:-1]), strict=True)):
            one.fill_in(own)
            values[first + place], exact[first + place] = one.values, one.exact
        tell("value", first + len(part), len(states))
    return values, exact


def _searched(
    domain: Domain[Any], bundle: Bundle, states: Sequence[Any], simulations: int, seed: int, tell: OnAsked
) -> list[SearchResult]:
    config = SearchConfig(simulations=simulations)
    seeds: list[int] = np.random.SeedSequence((seed, simulations)).generate_state(len(states), np.uint64).tolist()
    found: list[SearchResult] = []
    for first in range(0, len(states), BATCH):
        part = slice(first, first + BATCH)
        found += search(domain, states[part], bundle.network, config, seed=seeds[part])
        tell("search", len(found), len(states))
    return found
