"""The HTTP app: `escalade serve`, and mounted in the LangGraph API server by `langgraph.json`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from escalade import __version__
from escalade.app.bodies import (
    Accepted,
    DecideRequest,
    Health,
    OutcomeReport,
    Prediction,
    PredictRequest,
)
from escalade.app.http_errors import Pace, answer, failed, invalid, unreadable
from escalade.app.metrics import METRICS, Metrics
from escalade.app.prices import read_prices
from escalade.app.routes import GuardedRoute
from escalade.app.settings import Settings, read_settings
from escalade.app.tracing import sampled
from escalade.app.wiring import Decider, open_decider, open_language_model
from escalade.domains.base import legal_mask
from escalade.domains.decision import Decision
from escalade.domains.errors import CatalogError, EscaladeError, NoDecisionError
from escalade.graph.decision import decided
from escalade.neural.actions import action_probabilities, select_action
from escalade.neural.confidence import policy_features
from escalade.nodes.daemon import in_daemon_thread
from escalade.nodes.parse import canonical_text
from escalade.training.background import flush_all
from escalade.training.outcomes import Outcome

CLOSING = 0.3
"""Share of the time for ending (`ESCALADE_SHUTDOWN_S`) in which requests that were cut end, a third of it at most, and
then what waits is written and threads, sinks and connections close."""

log = logging.getLogger("escalade")


def create_app(settings: Settings | None = None, metrics: Metrics = METRICS) -> FastAPI:
    """The app; settings are read from the environment when it starts, unless given."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or read_settings()
        app.state.deciders, app.state.api_keys = {}, chosen.api_keys
        app.state.metrics, app.state.pace = metrics, Pace()
        app.state.metrics_folder = chosen.prometheus_multiproc_dir
        model = open_language_model(chosen, read_prices(chosen.prices), metrics)
        for name in chosen.domains:
            decider = open_decider(
                chosen,
                name,
                language_model=model,
                sinks=[metrics.record],
                failure_sinks=[metrics.record_failure],
                metrics=metrics,
                limits=chosen.limits,
            )
            app.state.deciders[decider.domain.name] = decider
        yield
        until = time.monotonic() + CLOSING * chosen.shutdown_s
        # What was cut still reports what it has cost, and to sinks that are open.
        if not await app.state.pace.all_ended(CLOSING / 3 * chosen.shutdown_s):
            log.error("%d requests that were cut have not ended: what they cost is lost", app.state.pace.under_way)
        await _close(list(app.state.deciders.values()), until)
        if chosen.prometheus_multiproc_dir is not None:
            metrics.leave(chosen.prometheus_multiproc_dir)

    app = FastAPI(title="Escalade", version=__version__, lifespan=lifespan)
    app.router.route_class = GuardedRoute
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(EscaladeError, failed)
    app.add_exception_handler(HTTPException, unreadable)

    @app.post("/predict")
    async def predict(body: PredictRequest, request: Request) -> Prediction:
        """The policy network alone: one action drawn at a temperature."""
        started = time.perf_counter()
        resources = _decider(request, body.domain).resources
        domain, network = resources.domain, resources.network
        parsed = [domain.parse(canonical_text(domain, body.state))]
        if network is None:
            raise NoDecisionError(f"domain '{domain.name}' has no trained bundle (no_model): set ESCALADE_BUNDLES")
        legal = legal_mask(domain, parsed)
        logits, values = await network.evaluate_async(domain.encode(parsed), legal)
        generator = np.random.default_rng(body.seed)
        action = int(select_action(logits, legal, body.temperature, generator=generator)[0])
        probabilities = action_probabilities(logits, legal)
        confidence = float(probabilities[0, action])
        if action == probabilities[0].argmax():
            features = policy_features(probabilities, legal, values)
            confidence = float(resources.calibrator("policy").confidences(features)[0])
        seconds = time.perf_counter() - started
        metrics.record_prediction(confidence, seconds)
        return Prediction(action=action, confidence=confidence, value=float(values[0]), latency_ms=seconds * 1000)

    @app.post("/decide", response_model=Decision)
    async def decide(body: DecideRequest, request: Request) -> Response:
        """The whole ladder."""
        decider = _decider(request, body.domain)
        given: Any = {"state": body.state} | ({"decision_id": body.decision_id} if body.decision_id else {})
        with sampled(decider.trace_share):
            result = await decider.graph.ainvoke(given, context=body.context())
        return answer(decided(result), 200)  # as the graph made it: it need not be validated twice

    @app.post("/outcomes", status_code=202)
    async def report_outcome(body: OutcomeReport, request: Request) -> Accepted:
        """What became of a decision, to learn from, where the last report on it counts; the first one is its audit."""
        decider = _decider(request, body.domain)
        if decider.outcomes is None and decider.watch is None:
            told = "set ESCALADE_EXPERIENCE to a folder for them, or ESCALADE_WATCH to a file of audits"
            raise HTTPException(404, f"outcomes are not kept here: {told}")
        action = None if body.action is None else decider.domain.parse_action(body.action)
        if decider.outcomes is not None:
            decider.outcomes.report(Outcome(body.decision_id, body.value, action, body.by))
        if decider.watch is not None and action is not None:
            decider.watch.outcome(body.decision_id, action)
        return Accepted(status="accepted")

    @app.get("/health")
    async def health(request: Request) -> Health:
        deciders: dict[str, Decider] = request.app.state.deciders
        versions = {name: decider.resources.bundle_version for name, decider in deciders.items()}
        return Health(status="ok", version=__version__, domains=versions)

    @app.get("/metrics")
    @app.get("/app/metrics", include_in_schema=False)  # the LangGraph server keeps /metrics for itself
    def expose(request: Request) -> Response:  # in a thread, as it may read the files of other processes
        text = metrics.exposition(request.app.state.metrics_folder)
        return Response(text, media_type="text/plain; version=0.0.4")

    return app


async def _close(deciders: list[Decider], until: float) -> None:
    """Write what waits, that of the graph on the LangGraph server beside us too, and close the deciders, all at once
    and by then on the monotonic clock."""

    async def in_thread(work: Callable[[float], None], share: float) -> bool:
        """Whether it has ended by itself; it is given this share of the time that is left."""
        seconds = max(0.1, share * (until - time.monotonic()))
        done, _ = await asyncio.wait(
            [asyncio.wrap_future(in_daemon_thread(partial(work, seconds)))], timeout=seconds + 0.1
        )
        return bool(done)

    await in_thread(partial(flush_all, records_only=True, insist=True), 1 / 2)
    ended = await asyncio.gather(*(in_thread(decider.close, 1 / 2) for decider in deciders))
    if not all(ended):
        log.error("%d domains could not be closed in time: what they still do is given up", ended.count(False))
    await in_thread(flush_all, 1.0)


def _decider(request: Request, name: str | None) -> Decider:
    deciders: dict[str, Decider] = request.app.state.deciders
    if name is None:
        return next(iter(deciders.values()))
    if name not in deciders:
        raise CatalogError(f"domain '{name[:80]}' is not served here: choose one of {', '.join(deciders)}")
    return deciders[name]


app = create_app()
