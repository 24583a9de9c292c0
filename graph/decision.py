"""The decision graph: parse, then the router and the rungs, then conclude. What Studio draws is the architecture."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast, overload

from langchain_core.language_models import BaseChatModel
from langgraph.graph import END, START
from langgraph.types import Checkpointer
from typing_extensions import TypedDict

from escalade.domains.base import RUNGS, Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import CatalogError, NoDecisionError, SettingsError
from escalade.domains.evaluator import AnyEvaluator
from escalade.graph.decision_graph import INTERRUPT, DecisionGraph, DecisionStateGraph
from escalade.graph.reasoning import Asked, reasoning_graph
from escalade.graph.warm_up import warm_up
from escalade.neural.batcher import Batcher
from escalade.neural.sources import bundle_folder
from escalade.nodes.conclude import conclude_node
from escalade.nodes.context import NO_LIMITS, DecisionContext, Limits, make_context
from escalade.nodes.daemon import off_loop
from escalade.nodes.human import human_node
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.parse import parse_node
from escalade.nodes.policy import policy_node
from escalade.nodes.question_batches import batches_for
from escalade.nodes.reason_calibration import ReasonCalibration
from escalade.nodes.resources import FailureSink, Resources, SimilarDecisions, Sink
from escalade.nodes.router import END_OF_LADDER, router_node
from escalade.nodes.search import search_node
from escalade.nodes.step import Route
from escalade.nodes.tracing import POLICY
from escalade.nodes.value import value_node
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.service import SearchService

if TYPE_CHECKING:
    from escalade.neural.bundle import Bundle


class GraphOptions(TypedDict, total=False):
    """What `make_resources` takes besides the domain, and says."""

    bundle: Bundle | str | Path | None
    language_model: LanguageModel | BaseChatModel | None
    evaluator: AnyEvaluator | None
    defaults: DecisionContext | Mapping[str, Any] | None
    sinks: Sequence[Sink]
    failure_sinks: Sequence[FailureSink]
    similar: SimilarDecisions | None
    reason_calibration: ReasonCalibration | None
    compute_usd_per_hour: float
    clock: Callable[[], float]
    limits: Limits


@off_loop
def make_resources(
    domain: Domain[Any] | str,
    *,
    bundle: Bundle | str | Path | None = None,
    language_model: LanguageModel | BaseChatModel | None = None,
    evaluator: AnyEvaluator | None = None,
    defaults: DecisionContext | Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
    failure_sinks: Sequence[FailureSink] = (),
    similar: SimilarDecisions | None = None,
    reason_calibration: ReasonCalibration | None = None,
    compute_usd_per_hour: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
    limits: Limits = NO_LIMITS,
) -> Resources:
    """Everything the nodes of one decision graph work with, compiled and loaded.

    domain: a domain, or the name of one. bundle: a trained bundle, its folder, or `builtin:NAME`; without it the
    neural rungs are skipped. language_model: any LangChain chat model, with prices if wrapped in a `LanguageModel`;
    without it that rung is skipped. evaluator: what search asks about leaves; the bundle's network by default, random
    rollouts without one. defaults: options of runs that give none. sinks: receive every decision; failure_sinks: a
    `FailedDecision` of every run that ended without one. similar: what was
    decided before, such as `escalade.training.similar.RecordedDecisions`, for reasoning agents.
    reason_calibration: of the language model's agreement, as `escalade llm calibrate` makes it. clock: seconds of
    a clock that never steps back, for deadlines and durations. limits: what a run may ask for.
    Raises CatalogError or BundleError for what cannot be loaded.
    """
    if isinstance(domain, str):
        domain = load_domain(domain)
    if not isinstance(domain, Domain) or isinstance(domain, type):
        raise CatalogError(f"a domain is a Domain object or the name of one, not {domain!r}")
    if isinstance(bundle, str | Path):
        from escalade.neural.bundle import read_bundle  # brings torch, which takes a second to load

        bundle = read_bundle(bundle_folder(bundle), domain)
    if bundle is not None:
        _to_fastest_device(bundle)
    if isinstance(language_model, BaseChatModel):
        name = getattr(language_model, "model_name", None) or type(language_model).__name__
        language_model = LanguageModel(language_model, str(name))
    network = Batcher(bundle.network, clock=clock) if bundle else None
    value_network = Batcher(bundle.value_network, clock=clock) if bundle and bundle.value_network else network
    if evaluator is None and domain.has_simulator:
        evaluator = bundle.network if bundle else RolloutEvaluator(domain)
    resources = Resources(
        domain=domain,
        defaults=defaults if isinstance(defaults, DecisionContext) else make_context(dict(defaults or {})),
        calibrators={rung: bundle.calibrator(rung) for rung in ("policy", "value", "search")} if bundle else {},
        network=network,
        value_network=value_network,
        search=SearchService(domain, evaluator, clock=clock) if evaluator and domain.has_simulator else None,
        language_model=language_model,
        batches=None if language_model is None else batches_for(domain, language_model),
        bundle_version=bundle.version if bundle else None,
        novelty=bundle.novelty if bundle else None,
        certificates=bundle.certificates if bundle else (),
        sinks=tuple(sinks),
        failure_sinks=tuple(failure_sinks),
        similar=similar,
        reason_calibration=reason_calibration,
        compute_usd_per_hour=compute_usd_per_hour,
        clock=clock,
        limits=limits,
    )
    warm_up(resources, lambda chosen: wire(chosen).compile())
    return resources


def _to_fastest_device(bundle: Bundle) -> None:
    """Move the networks to the GPU if there is one."""
    import torch

    if torch.cuda.is_available():
        for network in (bundle.network, bundle.value_network):
            if network is not None:
                network.to("cuda")


def wire(resources: Resources) -> DecisionStateGraph:
    """The graph of nodes and edges, not yet compiled."""
    graph = DecisionStateGraph(resources.domain)
    for node in (parse_node, router_node, policy_node, value_node, search_node, human_node, conclude_node):
        step = node(resources)
        graph.add_node(step.name, step, trace_policy=POLICY)
    graph.add_node("reason", reasoning_graph(resources), input_schema=Asked, trace_policy=POLICY)
    for rung in RUNGS:
        graph.add_edge(rung, "router")
    graph.add_edge(START, "parse")
    graph.add_edge("parse", "router")
    places = (*RUNGS, END_OF_LADDER)
    graph.add_conditional_edges("router", Route("next_rung", places), {name: name for name in places})
    graph.add_edge("conclude", END)
    return graph


@overload
def build_decision_graph(
    domain: Domain[Any] | str,
    *,
    compiled: Literal[True] = True,
    checkpointer: Checkpointer = None,
    **options: Unpack[GraphOptions],
) -> DecisionGraph: ...
@overload
def build_decision_graph(
    domain: Domain[Any] | str, *, compiled: Literal[False], checkpointer: None = None, **options: Unpack[GraphOptions]
) -> DecisionStateGraph: ...
def build_decision_graph(
    domain: Domain[Any] | str,
    *,
    compiled: bool = True,
    checkpointer: Checkpointer = None,
    **options: Unpack[GraphOptions],
) -> DecisionGraph | DecisionStateGraph:
    """The decision graph of a domain, to run or to embed.

    Input `{"state": …}`, context `DecisionContext`, output `{"decision": …}` (a `Decision` as a dict).
    options: as `make_resources`. compiled: False returns the `StateGraph`. checkpointer: needed for asking a person.
    """
    if not compiled and checkpointer is not None:
        raise SettingsError("checkpointer: only a compiled graph takes one; give it to compile()")
    resources = make_resources(domain, **options)
    graph = wire(resources)
    if not compiled:
        return graph
    return graph.compile(checkpointer=checkpointer, name=f"decide_{resources.domain.name}")


def decided(result: dict[str, Any]) -> dict[str, Any]:
    """The decision in what a run returned. Raises NoDecisionError if the run waits for a person instead, which only a
    caller who can resume it can deal with."""
    if "decision" not in result or INTERRUPT in result:  # which may hold the thread's decision before, too
        raise NoDecisionError(
            "the run asks a person, who cannot answer here: run the graph with a checkpointer, in Studio "
            "or on the LangGraph server, or leave the rung 'human' out"
        )
    return cast(dict[str, Any], result["decision"])
