"""Positions that were met before, searched anew with more care: the last step before a network is distilled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.evaluator import AnyEvaluator
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.training.rows import Rows


def relabelled_rows(
    domain: Domain[Any],
    evaluator: AnyEvaluator,
    rows: Rows,
    config: SearchConfig,
    *,
    seed: int | Sequence[int],
    model: str = "",
) -> tuple[Rows, int]:
    """The same positions with the policy and the value that a search gives now, and how many simulations that took.

    What the search proves is also the outcome; else the outcome of the game stays. The source becomes "search". The
    games keep their names, so that no position changes sides between training and validation.
    """
    states = [domain.parse(text) for text in rows.state.tolist()]
    seeds = np.random.default_rng(seed).integers(2**63, size=len(states)).tolist()
    found = search(domain, states, evaluator, config, seed=seeds)
    value = np.array([result.value for result in found], np.float32)
    proven = np.array([result.proven for result in found], np.bool_)
    anew = replace(
        rows,
        policy=np.array([result.policy for result in found], np.float32),
        action=np.array([result.action for result in found], np.int32),
        value=value,
        outcome=np.where(proven, value, rows.outcome).astype(np.float32),
        source=np.full(len(rows), "search"),
        model=np.full(len(rows), model),
    )
    return anew, sum(result.simulations for result in found)
