"""The HTTP app: `escalade serve`, and mounted in the LangGraph API server by `langgraph.json`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator
from starlette.exceptions import HTTPException

from escalade import __version__
from escalade.app.auth import GuardedRoute
from escalade.app.metrics import METRICS, Metrics
from escalade.app.prices import read_prices
from escalade.app.settings import Settings, read_settings
from escalade.app.tracing import sampled
from escalade.app.wiring import Decider, open_decider, open_language_model
from escalade.domains.base import legal_mask
from escalade.domains.decision import Decision
from escalade.domains.errors import (
    ActionError,
    BundleError,
    CatalogError,
    DeadlineError,
    EscaladeError,
    NoDecisionError,
    OverloadedError,
    SettingsError,
    StateError,
)
from escalade.graph.decision import decided
from escalade.neural.actions import action_probabilities, select_action
from escalade.neural.confidence import policy_features
from escalade.nodes.context import DecisionContext
from escalade.nodes.parse import MAX_ID_LENGTH, canonical_text
from escalade.training.background import flush_all
from escalade.training.outcomes import LONGEST_NAME, Outcome


def _finite(value: JsonValue) -> JsonValue:
    """JSON has no NaN and no infinity, though Python's reader lets them through."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _finite(part)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    return value


State = Annotated[JsonValue, AfterValidator(_finite), Field(description="A state as its domain writes it: `4455`.")]
DomainName = Annotated[str | None, Field(description="One of the domains served; the first by default.")]


class PredictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: State
    temperature: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False, description="0 takes the best action.")
    domain: DomainName = None
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Makes the draw repeatable.")


class Prediction(BaseModel):
    action: int
    confidence: float = Field(
        description="Calibrated confidence in the action if it is the network's first choice; else, and where no "
        "calibrator was fitted, its probability."
    )
    value: float
    latency_ms: float


class DecideRequest(DecisionContext):
    state: State
    domain: DomainName = None
    decision_id: str | None = Field(default=None, min_length=1, max_length=MAX_ID_LENGTH)

    @field_validator("human", "ladder")
    @classmethod
    def _nobody_to_ask(cls, given: bool | tuple[str, ...] | None) -> bool | tuple[str, ...] | None:
        if given is True or (isinstance(given, tuple) and "human" in given):
            raise ValueError("a person cannot be asked over this route: run the graph on the LangGraph server instead")
        return given

    def context(self) -> DecisionContext:
        """The options that were given, and no others."""
        return DecisionContext(
            **{f: getattr(self, f) for f in self.model_fields_set & DecisionContext.model_fields.keys()}
        )


class OutcomeReport(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decision_id: str = Field(min_length=1, max_length=LONGEST_NAME)
    value: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        allow_inf_nan=False,
        strict=True,
        description="How it ended, in [-1, 1], as the player who was to move in the decided state sees it.",
    )
    action: str | None = Field(
        default=None, max_length=10_000, description="The name of the action that would have been right."
    )
    by: str = Field(default="", max_length=LONGEST_NAME, description="Who says so.")
    domain: DomainName = None

    @field_validator("decision_id", "by")
    @classmethod
    def _can_be_kept(cls, given: str) -> str:
        if not given.isprintable():
            raise ValueError("only printable characters")
        return given

    @model_validator(mode="after")
    def _says_something(self) -> OutcomeReport:
        if self.value is None and self.action is None:
            raise ValueError("give value, action, or both")
        return self


class Accepted(BaseModel):
    status: str = Field(description="accepted: it is on disk within 30 seconds.")


class Health(BaseModel):
    status: str
    version: str
    domains: dict[str, str | None] = Field(description="Domains served, with the version of their bundle, if any.")


def create_app(settings: Settings | None = None, metrics: Metrics = METRICS) -> FastAPI:
    """The app; settings are read from the environment when it starts, unless given."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        chosen = settings or read_settings()
        app.state.deciders, app.state.api_keys = {}, chosen.api_keys
        model = open_language_model(chosen, read_prices(chosen.prices), metrics)
        for name in chosen.domains:
            decider = open_decider(
                chosen,
                name,
                language_model=model,
                sinks=[metrics.record],
                failure_sinks=[metrics.record_failure],
                metrics=metrics,
            )
            app.state.deciders[decider.domain.name] = decider
        yield
        for decider in app.state.deciders.values():
            await asyncio.to_thread(decider.close)
        flush_all()  # what the graph on the LangGraph server has decided beside us

    app = FastAPI(title="Escalade", version=__version__, lifespan=lifespan)
    app.router.route_class = GuardedRoute
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(EscaladeError, _failed)
    app.add_exception_handler(HTTPException, _unreadable)

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

    @app.post("/decide")
    async def decide(body: DecideRequest, request: Request) -> Decision:
        """The whole ladder."""
        decider = _decider(request, body.domain)
        given: Any = {"state": body.state} | ({"decision_id": body.decision_id} if body.decision_id else {})
        with sampled(decider.trace_share):
            result = await decider.graph.ainvoke(given, context=body.context())
        return Decision.model_validate(decided(result))

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
    async def expose() -> Response:
        return Response(metrics.exposition(), media_type="text/plain; version=0.0.4")

    return app


def _decider(request: Request, name: str | None) -> Decider:
    deciders: dict[str, Decider] = request.app.state.deciders
    if name is None:
        return next(iter(deciders.values()))
    if name not in deciders:
        raise CatalogError(f"domain '{name[:80]}' is not served here: choose one of {', '.join(deciders)}")
    return deciders[name]


LOCATION_DEPTH, MOST_FAULTS = 8, 20
"""How much is told of a bad body: an answer must not be larger than the question."""
FIELDS: dict[type[EscaladeError], str] = {
    StateError: "state",
    ActionError: "action",
    CatalogError: "domain",
    SettingsError: "options",
}


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """422 without the input itself, which may hold what JSON cannot say, or somebody's secret."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"loc": list(fault["loc"])[:LOCATION_DEPTH], "msg": fault["msg"], "type": fault["type"]}
        for fault in error.errors()[:MOST_FAULTS]
    ]
    return _answer({"detail": faults}, 422)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    """A body that the JSON reader gives up on (too deep, numbers too long) is bad input like any other."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and request.method == "POST":
        return _answer({"detail": [{"loc": ["body"], "msg": "the body cannot be read as JSON", "type": "json"}]}, 422)
    return _answer({"detail": error.detail}, error.status_code, error.headers)


def _answer(content: Any, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """JSON that can be sent whatever a message quotes: half of a surrogate pair becomes a question mark."""
    return JSONResponse(_sendable(content), status, headers)


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_sendable(part) for part in value]
    return {key: _sendable(part) for key, part in value.items()} if isinstance(value, dict) else value


async def _failed(request: Request, error: Exception) -> JSONResponse:
    for kind, field in FIELDS.items():
        if isinstance(error, kind):
            fault: dict[str, Any] = {"loc": ["body", field], "msg": str(error), "type": kind.__name__}
            if isinstance(error, StateError) and error.position is not None:
                fault["position"] = error.position
            return _answer({"detail": [fault]}, 422)
    if isinstance(error, NoDecisionError):
        return _answer({"detail": str(error), "rungs": error.reports}, 503)
    if isinstance(error, OverloadedError | DeadlineError):
        return _answer({"detail": str(error)}, 503, {"Retry-After": "1"})
    kind_name = "bundle" if isinstance(error, BundleError) else "internal"
    return _answer({"detail": f"{kind_name} error: {error}"}, 500)


app = create_app()
