"""Why a promise could not be proven, and what would help."""

from __future__ import annotations

from math import ceil

from escalade.neural.certificate import Setting, Tally
from escalade.neural.fixed_sequence import count_for, least_count, p_value
from escalade.training.acceptance_limit import AcceptanceLimit
from escalade.training.certify_config import Promise
from escalade.training.threshold_path import Answers, Front

FEWEST_TUNE = 100
"""States that calibrators are fitted to at least."""
GAMES_NOTE = " (where they have a game or conversation, of so many of those)"
LEVEL = 0.05
"""Significance level at which no thresholds are said to be good enough."""


def states_for(least: int) -> int:
    """So many states it takes to prove anything for which so many flawless decisions are needed at least."""
    return max(4 * least, 2 * FEWEST_TUNE)


def why_unproven(
    proving: Answers, front: Front, first: tuple[int, Setting] | None, promise: Promise, limit: AcceptanceLimit
) -> str:
    """front: of the tune states. first: the setting that was tested first and failed, and its place on the front; None
    if no setting accepts enough states to be tested."""
    asked = f"a loss of at most {promise.alpha:g} with confidence {1 - promise.delta:g}"
    reach = _reach(promise, limit)
    if first is None:
        least = least_count(promise.alpha, promise.delta)
        return (
            f"{asked} needs at least {least} states of calibration that the networks may decide, and of "
            f"{len(proving)} they may not so many: give about {states_for(least)} states or more{GAMES_NOTE}; {reach}"
        )
    place, setting = first
    counted = (setting.accepted,) if promise.covers == "own" else (setting.accepted, setting.all)
    worst = max(counted, key=lambda tally: p_value(tally.k, tally.n, promise.alpha))
    of_all = worst is not setting.accepted
    what = "of all decisions, those of the rung behind the networks included," if of_all else "accepted ones"
    found = (
        f"{asked} is not proven: {worst.k} of {worst.n} {what} were wrong ({worst.k / max(worst.n, 1):.2%}) at the "
        f"thresholds most likely to pass; {reach}"
    )
    if front.surely_above(promise.alpha, LEVEL):
        own = promise.covers == "all" and setting.accepted.k < promise.alpha * setting.accepted.n
        return (
            f"{found}; {_behind(proving)}, and on the tune states all thresholds lose more: more states would not "
            f"help, but {_advice(proving, promise, own=own)} would"
        )
    enough = _enough(worst, _tuned(front, place, of_all), promise)
    if enough is None:
        return f"{found}; the loss is too close to {promise.alpha:g} to tell how many states would be needed"
    needed = 2 * ceil(enough * len(proving) / max(worst.n, 1))
    return f"{found}; about {needed} states in all would be needed{GAMES_NOTE}"


def _reach(promise: Promise, limit: AcceptanceLimit) -> str:
    """The limit in words."""
    if promise.covers == "all" and limit.hopeless > promise.alpha:
        return (
            f"in {limit.hopeless:.2%} of the tune states no rung is as good as the reference: by these, no thresholds "
            "can keep the promise"
        )
    return (
        f"no thresholds could leave more than {limit.share:.1%} of the decisions to the networks (on the tune states "
        f"their error is {limit.error:.2%} if they decide all)"
    )


def _behind(proving: Answers) -> str:
    return f"the rung behind the networks is wrong in {float((~proving.right[:, -1]).mean()):.2%}"


def _tuned(front: Front, place: int, of_all: bool) -> tuple[int, int]:
    """Wrong ones and cases on the tune states."""
    wrong, count = (front.wrong_all[place], front.count) if of_all else (front.wrong[place], front.accepted[place])
    return int(wrong), int(count)


def _enough(worst: Tally, tuned: tuple[int, int], promise: Promise) -> int | None:
    """So many cases it would take at the loss seen; at that of both halves together, if the one half alone loses
    too much."""
    rate = worst.k / max(worst.n, 1)
    if rate >= promise.alpha:
        rate = (worst.k + tuned[0]) / (worst.n + tuned[1])
    found = count_for(rate, promise.alpha, promise.delta)
    return None if found is None else max(found, worst.n + 1)


def _advice(proving: Answers, promise: Promise, *, own: bool) -> str:
    wishes = ["a better network"]
    if proving.rungs[-1] == "search":
        wishes.append("more simulations")
    text = f"{', '.join(wishes)} or a larger alpha"
    return f"{text}, or a promise of the networks' own decisions alone," if own and promise.covers == "all" else text
