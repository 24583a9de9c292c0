"""Prometheus metrics, fed from decisions and requests. All labels come from small fixed sets, never from requests.

Several processes: where PROMETHEUS_MULTIPROC_DIR names a folder, prometheus_client keeps every value in a file there,
and each process reports the sums of all (https://prometheus.github.io/client_python/multiprocess/).
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from escalade.domains.decision import Decision, FailedDecision, RungReport

LATENCY_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Seconds; those above 1 are for language models."""
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
NEURAL = ("policy", "value")


class Metrics:
    """One registry. `record` is a sink of decisions, `record_failure` one of failed decisions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.decisions = Counter(
            "decisions",
            "Finished decisions by source rung.",
            ["domain", "source", "best_effort"],
            registry=self.registry,
        )
        self.neural_predictions = Counter(
            "neural_predictions", "Answers of a network.", ["model_type"], registry=self.registry
        )
        self.llm_calls = Counter(
            "llm_calls",
            "Calls to the language model, by why the rung before it did not do.",
            ["fallback_reason"],
            registry=self.registry,
        )
        self.llm_ends = Counter(
            "llm_ends",
            "What asking the language model came to: accepted, escalated, or why it failed.",
            ["result"],
            registry=self.registry,
        )
        self.llm_tokens = Counter(
            "llm_tokens", "Tokens of prompts and of answers, as providers count them.", ["kind"], registry=self.registry
        )
        self.breaker = Gauge(
            "llm_breaker_open",
            "1 while the language model's endpoint is left alone, since it failed too often.",
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.cost = Counter("inference_cost_dollars", "USD spent, by rung.", ["source"], registry=self.registry)
        self.latency = Histogram(
            "prediction_latency_seconds",
            "Time of one visit to a rung.",
            ["model_type"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.experience = Counter(
            "experience_rows",
            "Decisions, outcomes and audits to learn from or prove by, by whether they were written or shed.",
            ["domain", "kind", "fate"],
            registry=self.registry,
        )
        self.ledger = Counter(
            "ledger_entries",
            "Decisions and audits in the ledger, by whether they were written or shed.",
            ["domain", "fate"],
            registry=self.registry,
        )
        self.under_way = Gauge(
            "requests_under_way",
            "Requests that are being answered.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.refused = Counter(
            "requests_refused",
            "Requests that their sender must change, by what was wrong with them.",
            ["reason"],
            registry=self.registry,
        )
        self.failed = Counter(
            "requests_failed",
            "Requests that were sound but got no answer, by why.",
            ["reason"],
            registry=self.registry,
        )
        self.undecided = Counter(
            "failed_decisions",
            "Runs of the decision graph that ended without a decision: refused, failed or cancelled.",
            ["domain", "outcome"],
            registry=self.registry,
        )
        self.audits = Counter(
            "audits",
            "Audits of decisions that a certificate is about: right, wrong, failed, pending, shed or taught.",
            ["domain", "result"],
            registry=self.registry,
        )
        self.alarms = Gauge(
            "certificate_alarm",
            "1 where audits found a certificate broken.",
            ["domain", "alpha"],
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.confidence = Histogram(
            "model_confidence",
            "Calibrated confidence of a rung's proposals.",
            ["model_type"],
            buckets=CONFIDENCE_BUCKETS,
            registry=self.registry,
        )

    def record(self, decision: Decision) -> None:
        self.decisions.labels(decision.domain, decision.source, str(decision.best_effort).lower()).inc()
        self._record_visits(decision)

    def record_failure(self, failed: FailedDecision) -> None:
        """What a run without a decision has cost counts as that of any other. A sink of failures."""
        self.undecided.labels(failed.domain, failed.outcome).inc()
        self._record_visits(failed)

    def _record_visits(self, decision: Decision | FailedDecision) -> None:
        before = "first_rung"
        for report in decision.rungs:
            if report.outcome != "skipped":
                self._record_visit(report, before)
            before = report.reason

    def _record_visit(self, report: RungReport, before: str) -> None:
        if report.rung == "reason":
            self.llm_calls.labels(before).inc()
            self.llm_ends.labels(report.reason if report.outcome == "failed" else report.outcome).inc()
            for kind, count in (report.details.get("tokens") or {}).items():
                self.llm_tokens.labels(kind.removesuffix("_tokens")).inc(count or 0)
        self.latency.labels(report.rung).observe(report.latency_ms / 1000)
        if report.cost_usd is not None:
            self.cost.labels(report.rung).inc(report.cost_usd)
        if report.action is not None and report.rung in NEURAL:
            self.neural_predictions.labels(report.rung).inc()
        if report.confidence is not None:
            self.confidence.labels(report.rung).observe(report.confidence)

    def record_prediction(self, confidence: float, seconds: float) -> None:
        """One answer of the policy network outside the graph."""
        self.neural_predictions.labels("policy").inc()
        self.latency.labels("policy").observe(seconds)
        self.confidence.labels("policy").observe(confidence)

    def record_experience(self, domain: str, kind: str, fate: str, rows: int) -> None:
        """kind: decisions, outcomes or audits. fate: written or shed."""
        self.experience.labels(domain, kind, fate).inc(rows)

    def record_ledger(self, domain: str, fate: str, entries: int) -> None:
        """fate: written or shed."""
        self.ledger.labels(domain, fate).inc(entries)

    def record_refused(self, reason: str) -> None:
        """A request that its sender should change. reason: one of `escalade.app.http_errors`."""
        self.refused.labels(reason).inc()

    def record_failed(self, reason: str) -> None:
        """A request that could not be served. reason: one of `escalade.app.http_errors`."""
        self.failed.labels(reason).inc()

    def record_audit(self, domain: str, result: str) -> None:
        """result: right, wrong, failed, pending or shed."""
        self.audits.labels(domain, result).inc()

    def record_alarm(self, domain: str, alpha: float, raised: bool) -> None:
        """Whether the certificate for this alpha is broken."""
        self.alarms.labels(domain, f"{alpha:g}").set(float(raised))

    def record_breaker(self, state: str) -> None:
        """state: of the language model's circuit breaker, closed, open or half_open."""
        self.breaker.set(float(state != "closed"))

    def exposition(self, folder: Path | None = None) -> bytes:
        """All metrics in the Prometheus text format. folder: of several processes, whose sums are wanted."""
        if folder is None:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    @staticmethod
    def leave(folder: Path) -> None:
        """This process ends: what was true of it alone, such as an open breaker, is so no more. Its counts remain."""
        mark_process_dead(os.getpid(), str(folder))  # type: ignore[no-untyped-call]


METRICS = Metrics()
"""Those of this process: our HTTP app and the graph on the LangGraph server count into the same."""
