"""What is said where nothing can be proven: whether more states would help, and only where that is known."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from escalade.neural.certificate import Setting, Tally
from escalade.training.acceptance_limit import acceptance_limit
from escalade.training.certify_config import Promise
from escalade.training.threshold_path import Answers, decide, pareto_front, path_order
from escalade.training.unproven import why_unproven


def answers(seed: int, count: int, wrong: float, behind: float = 0.0) -> Answers:
    """One network that errs in this share whatever its confidence, and a search behind it."""
    random = np.random.default_rng(seed)
    right = np.stack([random.random(count) >= wrong, random.random(count) >= behind], axis=1)
    return Answers(("policy", "search"), random.random((count, 1)), right, np.zeros((count, 1), np.bool_), np.ones(2))


def message(tune: Answers, proving: Answers, alpha: float, covers: Any = "own") -> str:
    promise = Promise(alpha, 0.05, covers)
    front = pareto_front(tune, at_least=59, covers=covers)
    place = int(path_order(front, alpha, 0.05)[0])
    found = decide(proving, front.thresholds[place])
    own = found.source == 0
    tallies = [Tally(n=int(part.sum()), k=int(found.wrong[part].sum()), bound=1.0) for part in (own, own | True)]
    setting = Setting(
        thresholds={"policy": float(front.thresholds[place, 0])},
        accepted=tallies[0],
        all=tallies[1],
        shares={"policy": 1.0},
        cost_s=1.0,
    )
    return why_unproven(proving, front, (place, setting), promise, acceptance_limit(tune, alpha, covers))


def test_more_states_do_not_help_where_every_setting_loses_too_much() -> None:
    told = message(answers(0, 2000, 0.2), answers(1, 2000, 0.2), 0.05)
    assert "more states would not help, but a better network, more simulations or a larger alpha would" in told
    limit = re.search(r"more than (\d+\.\d)% of the decisions", told)
    assert limit is not None
    assert float(limit[1]) == pytest.approx(100 * 0.8 / 0.95, abs=3)


def test_more_states_help_where_the_loss_is_below_alpha() -> None:
    told = message(answers(0, 400, 0.035), answers(3, 400, 0.035), 0.05)
    assert "would not help" not in told
    needed = re.search(r"about (\d+) states in all", told)
    assert needed is not None
    assert int(needed[1]) > 800


def test_what_is_too_close_to_tell_is_not_called_hopeless() -> None:
    told = message(answers(0, 300, 0.05), answers(1, 300, 0.2), 0.05)
    assert "would not help" not in told
    assert "too close to 0.05" in told


def test_a_rung_behind_that_loses_more_is_named() -> None:
    told = message(answers(0, 2000, 0.01, 0.1), answers(1, 2000, 0.2, 0.1), 0.0005, "all")
    assert "no rung is as good as the reference" in told
    assert "the rung behind the networks is wrong in" in told
