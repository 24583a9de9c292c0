"""From a bundle and labelled states to a bundle with calibrators, novelty and certificates.

The states are split once, at random, into *tune* and *calibrate*. On tune the calibrators, the limit of novelty and
the order in which thresholds are tested are fitted; calibrate is looked at only to test them in that order. Its states
must be drawn apart from all that trained the network; states of new games are.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import Domain
from escalade.domains.errors import EscaladeError
from escalade.neural.bundle import Bundle, write_bundle
from escalade.neural.certificate import Certificate, NeuralRung, Setting, Split, Tally
from escalade.neural.fixed_sequence import least_count, passed, upper_bound
from escalade.neural.novelty import fit_novelty
from escalade.neural.taught import is_among
from escalade.training.acceptance_limit import acceptance_limit
from escalade.training.calibrate import fit_calibrator
from escalade.training.certify_config import Promise
from escalade.training.position_keys import digests_of
from escalade.training.recorded import Recorded
from escalade.training.reference import Labelled
from escalade.training.threshold_path import Answers, decide, pareto_front, path_order
from escalade.training.unproven import FEWEST_TUNE, GAMES_NOTE, states_for, why_unproven
from escalade.training.untaught import known_states

_NEURAL: dict[str, NeuralRung] = {"policy": "policy", "value": "value"}


class CertificationError(EscaladeError):
    """What was asked for cannot be proven with these states. The message says what is needed."""


def split(recorded: Recorded, seed: int) -> tuple[Recorded, Recorded]:
    """Tune and calibrate, half of the games each, at random. Of each game of calibrate one state is kept: what proves
    must be independent."""
    random = np.random.default_rng((seed, 0x5EED))
    groups, first = np.unique(recorded.group[order := random.permutation(len(recorded))], return_index=True)
    mixed = random.permutation(len(groups))
    half = len(groups) // 2
    tunes = np.isin(recorded.group, groups[mixed[:half]])
    return recorded.take(tunes), recorded.take(np.sort(order[first[mixed[half:]]]))


def calibrated_bundle(
    bundle: Bundle, tune: Recorded, domain: Domain[Any], path: Path, *, seed: int = 0, novel: float | None = None
) -> Bundle:
    """A copy of a bundle, written to the new folder `path`, with a calibrator for each rung and the limit of novelty,
    fitted to the tune states. novel: as in `certify`."""
    calibrators = {
        rung: fit_calibrator(rung, features, tune.right[:, tune.rungs.index(rung)], seed=seed)
        for rung, features in tune.features.items()
    }
    return write_bundle(
        path,
        domain=domain,
        network=bundle.network,
        value_network=bundle.value_network,
        calibrators=calibrators,
        novelty=fit_novelty(
            tune.observations,
            tune.states,
            bag_of_features=domain.bag_of_features,
            quantile=None if novel is None else 1 - novel,
            group=tune.group,
        ),
        taught=bundle.taught(),
        metrics=bundle.metrics,
        created=bundle.manifest.created,
    )


def certificate_of(
    bundle: Bundle,
    tune: Recorded,
    calibrate: Recorded,
    promise: Promise,
    *,
    labelled: Labelled,
    simulations: int,
) -> Certificate:
    """What can be proven for a calibrated bundle. Raises CertificationError, with the number of states it would take,
    where that is nothing."""
    calibrators = {rung: bundle.calibrator(rung) for rung in tune.rungs[:-1]}
    tuned, proving = (part.answers(calibrators, bundle.novelty) for part in (tune, calibrate))
    at_least = least_count(promise.alpha, promise.delta) * len(tuned) / max(len(proving), 1)
    limit = acceptance_limit(tuned, promise.alpha, promise.covers)
    front = pareto_front(tuned, at_least=int(np.ceil(at_least)), covers=promise.covers)
    larger = len(proving) / max(len(tuned), 1)
    order = path_order(front, promise.alpha, promise.delta, proving=larger, max_cost_s=promise.max_cost_s)
    settings, proven = _tested(proving, front.thresholds[order], promise)
    if not proven:
        first = (int(order[0]), settings[0]) if settings else None
        raise CertificationError(why_unproven(proving, front, first, promise, limit))
    chosen = proven - 1
    if promise.max_cost_s is not None:
        within = [place for place in range(proven) if settings[place].cost_s <= promise.max_cost_s]
        if not within:
            cheapest = min(setting.cost_s for setting in settings[:proven])
            raise CertificationError(
                f"nothing that costs {promise.max_cost_s:g} s a decision is proven to lose at most {promise.alpha:g}: "
                f"the cheapest that is costs {cheapest:.3g} s"
            )
        chosen = min(within, key=lambda place: int(order[place]))  # the front begins with the most accurate
    wrong, searches = int((~proving.right[:, -1]).sum()), tune.rungs[-1] == "search"
    return Certificate(
        bundle=bundle.hash,
        alpha=promise.alpha,
        delta=promise.delta,
        covers=promise.covers,
        reference=labelled.reference,
        states=labelled.source,
        ladder=tune.rungs,
        simulations=simulations if searches else None,
        tried=float(calibrate.tried.mean()) if searches else None,
        tune=_stamp(tune),
        calibrate=_stamp(calibrate),
        path=tuple(settings),
        passed=proven,
        chosen=chosen,
        novel=float(proving.barred[:, 0].mean()),
        cost_s=dict(zip(tune.rungs, tune.cost_s.tolist(), strict=True)),
        behind=Tally(n=len(proving), k=wrong, bound=upper_bound(wrong, len(proving), promise.delta)),
        measured_on=f"one core of {os.cpu_count()} ({platform.machine()})",
        created=datetime.now(UTC),
        max_cost_s=promise.max_cost_s,
        census=labelled.census,
        limit=limit.share,
    )


def certify(
    bundle: Bundle,
    recorded: Recorded,
    promises: Sequence[Promise],
    folder: Path,
    *,
    domain: Domain[Any],
    labelled: Labelled,
    simulations: int,
    seed: int = 0,
    novel: float | None = None,
    on_unproven: Callable[[Promise, str], None] | None = None,
) -> Bundle:
    """Write a copy of a bundle to the new folder `folder`, calibrated, with a certificate for each promise; each holds
    by itself, with its own delta. Raises CertificationError if one cannot be proven, and BundleError if the folder
    exists; nothing is left then.

    novel: share of states like these that the limit of novelty may leave to the other rungs; the kind's own if None.
    States that taught or chose the bundle are left out here too, whatever `recorded` holds, but for a census
    and for what the solver lists (`escalade.training.untaught`).

    on_unproven: hears of promises that cannot be proven, and why, which are then left out; unless none can be.
    """
    known = None if labelled.census else known_states(bundle)
    if known is not None and len(known):
        met = is_among(digests_of(domain, recorded.states), known)
        recorded = recorded.take(~met | labelled.are_listed(recorded.states))
    tune, calibrate = split(recorded, seed)
    if len(tune) < FEWEST_TUNE:
        needed = max(states_for(least_count(promise.alpha, promise.delta)) for promise in promises)
        raise CertificationError(
            f"{len(recorded)} states are too few: give about {needed} or more{GAMES_NOTE}; half of them tune"
        )
    with tempfile.TemporaryDirectory() as place:
        drafted = calibrated_bundle(bundle, tune, domain, Path(place, "draft"), seed=seed, novel=novel)
        certificates, reasons = [], []
        for promise in promises:
            try:
                given = certificate_of(drafted, tune, calibrate, promise, labelled=labelled, simulations=simulations)
                certificates.append(given)
            except CertificationError as error:
                if on_unproven is None:
                    raise
                on_unproven(promise, str(error))
                reasons.append(f"alpha {promise.name}: {error}")
        if not certificates:
            raise CertificationError("; ".join(reasons))
        folder.parent.mkdir(parents=True, exist_ok=True)
        taught = drafted.taught()
        return write_bundle(
            folder,
            domain=domain,
            network=drafted.network,
            value_network=drafted.value_network,
            calibrators=drafted.calibrators,
            novelty=drafted.novelty,
            taught=None if taught is None else taught.with_proof(digests_of(domain, recorded.states)),
            certificates=certificates,
            metrics=drafted.metrics,
            created=drafted.manifest.created,
        )


def _tested(proving: Answers, vectors: NDArray[np.float64], promise: Promise) -> tuple[list[Setting], int]:
    """The settings tested, up to the first that fails, and how many passed."""
    settings: list[Setting] = []
    for thresholds in vectors:
        settings.append(_setting(proving, thresholds, promise.delta))
        if not passed([settings[-1].doubt(promise.alpha, promise.covers)], promise.delta):
            return settings, len(settings) - 1
    return settings, len(settings)


def _setting(proving: Answers, thresholds: NDArray[np.float64], delta: float) -> Setting:
    found = decide(proving, thresholds)
    neural = proving.rungs[:-1]
    tallies = []
    for inside in (found.source < len(neural), np.ones(len(proving), np.bool_)):
        n, k = int(inside.sum()), int(found.wrong[inside].sum())
        tallies.append(Tally(n=n, k=k, bound=upper_bound(k, n, delta)))
    shares = np.bincount(found.source, minlength=len(proving.rungs)) / len(proving)
    return Setting(
        thresholds={_NEURAL[rung]: each for rung, each in zip(neural, thresholds.tolist(), strict=True)},
        accepted=tallies[0],
        all=tallies[1],
        shares=dict(zip(proving.rungs, shares.tolist(), strict=True)),
        cost_s=float(found.cost_s.mean()),
    )


def _stamp(part: Recorded) -> Split:
    text = "".join(f"{state}\n" for state in part.states)
    return Split(count=len(part), sha256=hashlib.sha256(text.encode()).hexdigest())
