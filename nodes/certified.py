"""Whether a certificate stands behind a neural rung in this decision: the thresholds were proven for a ladder, one set
of weights and no others, so every rung before must have been asked, and judged, as it was then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from escalade.domains.decision import Rung
from escalade.neural.certificate import Certificate, best_certificate
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources

NEURAL: tuple[Rung, ...] = ("policy", "value")


class Refusal(NamedTuple):
    """Why no certificate lets a rung accept: a code, and a clause for people."""

    reason: str
    why: str


def certificate_for(
    rung: str,
    reports: Sequence[dict[str, Any]],
    context: DecisionContext,
    resources: Resources,
    ladder: Sequence[Rung],
) -> Certificate | Refusal:
    """The certificate by which a neural rung may accept after what the reports tell; or why there is none. ladder: the
    rungs that can be asked in this run."""
    held, watch = resources.certificates, resources.watch
    if not held:
        return _none("the bundle has none")
    problems = {} if watch is None else {id(one): watch.problem(one) for one in held}
    sound = [one for one in held if problems.get(id(one)) is None]
    chosen = best_certificate(sound, context.alpha, context.delta)
    if chosen is None:
        broken = best_certificate(held, context.alpha, context.delta)
        if broken is not None:
            return Refusal("alarm", str(problems[id(broken)]))
        promised = ", ".join(f"alpha {one.alpha:g} at delta {one.delta:g}" for one in held)
        told = f"the bundle's promise more loss than alpha {context.alpha:g} at delta {context.delta:g}: {promised}"
        return _none(told)
    if resources.bundle_version is None or not chosen.bundle.startswith(resources.bundle_version):
        return _none(f"it was made for bundle {chosen.bundle[:12]}, not {resources.bundle_version}")
    if rung not in chosen.setting.thresholds:
        return _none(f"it has no threshold for rung {rung}")
    together = [name for name, threshold in chosen.setting.thresholds.items() if threshold < 1]
    for name in together:  # what one of them decides by itself was not counted
        if name not in ladder:
            return _none(f"it holds for {' and '.join(together)} together, and {name} cannot be asked in this run")
        if context.threshold(name) is not None:
            return _none(f"it holds for {' and '.join(together)} together, and {name} has a threshold by hand")
    before = [report for report in reports if report["rung"] in chosen.ladder or report["outcome"] != "skipped"]
    wanted = chosen.ladder[: chosen.ladder.index(rung)]
    if tuple(report["rung"] for report in before) != wanted:
        first = ", ".join(wanted) or "no rung"
        return _none(f"it holds for {rung} after {first} alone")
    for report in before:
        if report["reason"] not in ("under_threshold", "novel") or report.get("threshold") != chosen.threshold(
            report["rung"]
        ):
            told = f"{report['outcome']}: {report['reason']}"
            return _none(f"it holds only after {report['rung']} was judged by it, not {told}")
    return chosen


def _none(why: str) -> Refusal:
    return Refusal("no_certificate", why)


def described(certificate: Certificate, context: DecisionContext, ladder: Sequence[Rung]) -> dict[str, Any]:
    """What a decision says of the certificate it rests on. covers: "all" decisions of this ladder, where it does so and
    what stands behind the networks is what stood there when it was made, and as large; else what networks decide on
    their "own"."""
    behind = certificate.simulations is None or context.simulations >= certificate.simulations
    return {
        "alpha": certificate.alpha,
        "delta": certificate.delta,
        "reference": certificate.reference,
        "covers": certificate.covers if behind and tuple(ladder) == certificate.ladder else "own",
        "bound": certificate.setting.accepted.bound,
    }
