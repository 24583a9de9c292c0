"""Prometheus metrics, fed from finished decisions. All labels come from small fixed sets, never from requests."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
            "Decisions and outcomes to learn from, by whether they were written or shed.",
            ["domain", "kind", "fate"],
            registry=self.registry,
        )
        self.audits = Counter(
            "audits",
            "Audits of decisions that a certificate is about: right, wrong, failed, pending or shed.",
            ["domain", "result"],
            registry=self.registry,
        )
        self.alarms = Gauge(
            "certificate_alarm",
            "1 where audits found a certificate broken.",
            ["domain", "alpha"],
            registry=self.registry,
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
        """kind: decisions or outcomes. fate: written or shed."""
        self.experience.labels(domain, kind, fate).inc(rows)

    def record_audit(self, domain: str, result: str) -> None:
        """result: right, wrong, failed, pending or shed."""
        self.audits.labels(domain, result).inc()

    def record_alarm(self, domain: str, alpha: float, raised: bool) -> None:
        """Whether the certificate for this alpha is broken."""
        self.alarms.labels(domain, f"{alpha:g}").set(float(raised))

    def record_breaker(self, state: str) -> None:
        """state: of the language model's circuit breaker, closed, open or half_open."""
        self.breaker.set(float(state != "closed"))

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


METRICS = Metrics()
"""Those of this process: our HTTP app and the graph on the LangGraph server count into the same."""
