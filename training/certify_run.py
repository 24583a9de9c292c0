"""The certify step of a training run: what the best bundle so far may decide alone, proven once, at the end."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from escalade.neural.bundle import read_bundle
from escalade.search.solvers import exact_solver
from escalade.training.certify import CertificationError, certify
from escalade.training.certify_config import CertifyConfig
from escalade.training.exact_labels import exact_labels
from escalade.training.judge import is_better
from escalade.training.recorded import record
from escalade.training.run import Run, Tell, silent
from escalade.training.untaught import untaught


def certify_iteration(run: Run, iteration: int, *, last: bool, tell: Tell = silent) -> dict[str, Any]:
    """Certify what will be the champion after the last iteration; the bundles before pass as they are. Done once,
    however often it is begun. Returns what certification.json says: `certified`, and why not."""
    config = run.recipe.certify
    if config is None:
        reason = "the recipe asks for none (`escalade certify` proves what the champion may decide alone)"
        return {"certified": False, "reason": reason}
    if exact_solver(run.domain) is None:
        return {"certified": False, "reason": f"domain '{run.domain.name}' has no exact solver to prove it by"}
    if not last:
        return {"certified": False, "reason": "the run is not over"}
    path = run.iteration(iteration) / "certification.json"
    done: dict[str, Any] | None = run.read(path)
    if done is not None:
        return done
    began = time.perf_counter()
    champion = run.champion
    best = iteration if champion is None or is_better(run, iteration) else int(champion["iteration"])
    folder = run.certified_bundle(best)
    unproven: dict[str, str] = {}
    if folder.exists():  # by an earlier end of the run, or killed before it was noted
        certificates = read_bundle(folder, run.domain).certificates
    else:
        certificates, unproven = _certified(run, best, config, tell)
    lines = [
        {"alpha": one.alpha, "covers": one.covers, "shares": one.setting.shares, "bound": one.setting.accepted.bound}
        for one in certificates
    ]
    done = {
        "certified": bool(certificates),
        "reason": "" if certificates else "; ".join(unproven.values()),
        "iteration": best,
        "certificates": lines,
        "unproven": unproven,
        "seconds": time.perf_counter() - began,
    }
    run.write(path, done)
    if champion is not None and champion["iteration"] == best:
        run.point_at(best)
    return done


def _certified(run: Run, iteration: int, config: CertifyConfig, tell: Tell) -> tuple[Any, dict[str, str]]:
    """The certificates, and why others are not proven, by promise."""

    def heard(stage: str, done: int, of: int) -> None:
        tell({"event": "evaluate", "stage": stage, "done": done, "of": of})

    bundle = read_bundle(run.plain_bundle(iteration), run.domain)
    # Games of their own, which neither taught the network nor chose it.
    seed = int(np.random.default_rng((run.config.seed, 0xCE47)).integers(2**31))
    labelled = exact_labels(
        run.domain,
        count=config.states,
        seed=seed,
        bundle=bundle,
        folder=run.folder / "evaluation",
        on_progress=lambda done, of: heard("solving for the certificate", done, of),
    )
    labelled, left = untaught(run.domain, bundle, labelled)
    if left.count:
        tell({"event": "note", "text": str(left)})
    if not len(labelled):
        return (), {"all": str(left)}
    recorded = record(
        run.domain,
        bundle,
        labelled,
        simulations=config.simulations,
        seed=seed,
        on_progress=lambda rung, done, of: heard(f"certifying: {rung}", done, of),
    )
    unproven: dict[str, str] = {}
    try:
        made = certify(
            bundle,
            recorded,
            config.promises,
            run.certified_bundle(iteration),
            domain=run.domain,
            labelled=labelled,
            simulations=config.simulations,
            seed=seed,
            on_unproven=lambda promise, why: unproven.update({promise.name: why}),
        )
    except CertificationError as error:
        return (), unproven or {"all": str(error)}
    return made.certificates, unproven
