"""Search: waves of select, step, one batched evaluation, expand, back up, over many trees in lock-step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray, KeyArray
from escalade.domains.errors import CancelledSearch, NoSimulatorError, SettingsError, StateError
from escalade.domains.evaluator import AnyEvaluator, StateEvaluator
from escalade.search.choice import best_action, principal_variation, visit_policy
from escalade.search.config import SearchConfig
from escalade.search.leaves import Rules, StateStore, state_store
from escalade.search.trees import (
    NONE,
    Trees,
    back_up,
    expand,
    grown,
    new_trees,
    plies_to_end,
    select,
    tree_seeds,
    unproven,
)

FIRST_NODES = 1024
"""Room a tree starts with; it doubles as the tree grows."""


@dataclass(frozen=True)
class SearchResult:
    """What one tree found; every value from the view of the player to move at the root, in [-1, 1].

    action: the chosen one. policy: `[A]` float32, visits as a distribution, without what is proven worse.
    value: of the root. visits `[A]` int32, action_values `[A]` float32 (NaN where unvisited), prior `[A]` float32.
    lower, upper `[A]` float32: proven bounds of each action's exact value (NaN where illegal).
    proven: whether `value` is exact. principal_variation: the line of best play found, as actions.
    stopped: what ended the search.
    """

    action: int
    policy: FloatArray
    value: float
    visits: IntArray
    action_values: FloatArray
    prior: FloatArray
    lower: FloatArray
    upper: FloatArray
    proven: bool
    principal_variation: tuple[int, ...]
    simulations: int
    stopped: Literal["simulations", "proven", "deadline"]


def search(
    domain: Domain[Any],
    states: Sequence[Any],
    evaluator: AnyEvaluator,
    config: SearchConfig,
    *,
    seed: int | Sequence[int] = 0,
    deadline: float | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> list[SearchResult]:
    """Search each state in a tree of its own; one result a state, in order.

    seed: of the whole batch, or one a state, which makes a result independent of what else is searched beside it.
    deadline: time of `clock` after which no new wave begins; what was found by then is the answer.
    cancelled: asked before every wave; once true, CancelledSearch is raised.
    Raises StateError for a finished state, NoSimulatorError for a domain that cannot look ahead.
    """
    if not domain.has_simulator:
        raise NoSimulatorError(f"domain '{domain.name}' has no simulator, so it cannot be searched")
    if not states:
        return []
    seeds = tree_seeds(seed, len(states)) if isinstance(seed, int) else _own_seeds(seed, len(states))
    nodes = min(config.simulations + 1, FIRST_NODES)
    trees = new_trees(len(states), nodes, domain.num_actions)
    store = state_store(domain, len(states), nodes)

    active = np.arange(len(states), dtype=np.int64)
    roots = np.zeros(len(states), np.int64)
    rules = store.put_roots(states)
    for index in np.flatnonzero(rules.terminal).tolist():
        raise StateError(f"the state '{domain.format(states[index])}' is finished: there is nothing to search")
    ends = store.finished_children(active, roots, rules)
    logits, values = _evaluate(store, evaluator, rules, ends, active, roots, seeds)
    expand(trees, active, roots + NONE, roots + NONE, *rules, ends, logits, roots)
    _add_noise(trees, config, seeds)
    back_up(trees, active, roots, values)

    stopped: Literal["simulations", "deadline"] = "simulations"
    for simulation in range(1, config.simulations + 1):
        active = active[unproven(trees, active)]
        if not len(active):
            break
        if cancelled():
            raise CancelledSearch("the search was cancelled")
        if deadline is not None and clock() >= deadline:
            stopped = "deadline"
            break
        if simulation >= nodes:
            nodes = min(2 * nodes, config.simulations + 1)
            trees = grown(trees, nodes)
            store.grow(nodes)
        _wave(trees, store, evaluator, config, active, seeds)
    return [_result(trees, tree, config, int(seeds[tree]), stopped) for tree in range(len(states))]


def _wave(
    trees: Trees, store: StateStore, evaluator: AnyEvaluator, config: SearchConfig, active: IntArray, seeds: KeyArray
) -> None:
    """One simulation in every active tree `[M]`."""
    parents, actions, nodes = (np.empty(len(active), np.int64) for _ in range(3))
    keys = np.empty(len(active), np.uint64)
    c_puct, fpu_reduction = np.float32(config.c_puct), np.float32(config.fpu_reduction)
    select(trees, active, seeds, c_puct, fpu_reduction, parents, actions, keys)
    nodes[:] = trees.size[active]
    rules = store.advance(active, parents, actions, nodes)
    ends = store.finished_children(active, nodes, rules)
    logits, values = _evaluate(store, evaluator, rules, ends, active, nodes, keys)
    expand(trees, active, parents, actions, *rules, ends, logits, nodes)
    back_up(trees, active, nodes, values)


def _evaluate(
    store: StateStore,
    evaluator: AnyEvaluator,
    rules: Rules,
    ends: FloatArray,
    trees: IntArray,
    nodes: IntArray,
    keys: KeyArray,
) -> tuple[FloatArray, FloatArray]:
    """Logits `[M, A]` and values `[M]`; states whose exact value is known are not asked about and get zeros."""
    known = rules.terminal | (ends == 1).any(axis=1)
    if not known.any():
        return _ask(store, evaluator, rules.legal, trees, nodes, keys)
    logits = np.zeros(rules.legal.shape, np.float32)
    values = np.zeros(len(trees), np.float32)
    open_ = np.flatnonzero(~known)
    if len(open_):
        logits[open_], values[open_] = _ask(
            store, evaluator, rules.legal[open_], trees[open_], nodes[open_], keys[open_]
        )
    return logits, values


def _ask(
    store: StateStore, evaluator: AnyEvaluator, legal: BoolArray, trees: IntArray, nodes: IntArray, keys: KeyArray
) -> tuple[FloatArray, FloatArray]:
    if isinstance(evaluator, StateEvaluator):
        return evaluator.evaluate_states(store.at(trees, nodes), legal, keys)
    return evaluator.evaluate(store.encode(trees, nodes), legal)


def _add_noise(trees: Trees, config: SearchConfig, seeds: KeyArray) -> None:
    """Mix Dirichlet noise into the root priors (Silver et al. 2017, Methods, "Self-play")."""
    if not config.noise_fraction:
        return
    for tree, seed in enumerate(seeds):
        legal = np.flatnonzero(trees.prior[tree, 0] >= 0)
        noise = np.random.default_rng(int(seed)).dirichlet(np.full(len(legal), config.noise_alpha))
        prior = trees.prior[tree, 0, legal]
        trees.prior[tree, 0, legal] = (1 - config.noise_fraction) * prior + config.noise_fraction * noise


def _result(
    trees: Trees, tree: int, config: SearchConfig, seed: int, stopped: Literal["simulations", "deadline"]
) -> SearchResult:
    prior = trees.prior[tree, 0]
    legal = prior >= 0
    nan = np.float32(np.nan)
    visits = trees.edge_visits[tree, 0]
    proven = bool(trees.lower[tree, 0] == trees.upper[tree, 0])
    values = np.where(visits > 0, trees.edge_value[tree, 0], nan)
    plies = plies_to_end(trees, tree)
    policy = visit_policy(trees, tree)
    if config.temperature > 0:
        weights = policy.astype(np.float64) ** (1 / config.temperature)
        action = int(np.random.default_rng(seed + 1).choice(len(policy), p=weights / weights.sum()))
    else:
        action = best_action(trees, tree, 0, plies)
    return SearchResult(
        action=action,
        policy=policy,
        value=float(trees.value[tree, 0]) + 0.0,  # plain zero, never -0.0
        visits=visits.copy(),
        action_values=values,
        prior=np.where(legal, prior, np.float32(0)),
        lower=np.where(legal, trees.edge_lower[tree, 0], nan),
        upper=np.where(legal, trees.edge_upper[tree, 0], nan),
        proven=proven,
        principal_variation=principal_variation(trees, tree, action, plies),
        simulations=int(trees.size[tree]) - 1,
        stopped="proven" if proven else stopped,
    )


def _own_seeds(seeds: Sequence[int], trees: int) -> KeyArray:
    if len(seeds) != trees:
        raise SettingsError(f"{trees} states need {trees} seeds, not {len(seeds)}")
    return np.array([tree_seeds(seed, 1)[0] for seed in seeds])
