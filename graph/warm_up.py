"""Everything that a graph calls is compiled and loaded when the graph is built.

Numba compiles a kernel at its first call, which takes seconds on a machine that has never made that call. On an event
loop this would hold up every other task, and under `langgraph dev` it fails (compiling asks for the working directory,
which counts as blocking). So a graph asks each of its rungs once before anyone else does, and makes one decision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

from langgraph.graph.state import CompiledStateGraph
from langsmith.run_helpers import tracing_context

from escalade.domains.base import Domain
from escalade.domains.errors import DomainFault, EscaladeError
from escalade.neural.calibration import calibrator_from_json
from escalade.neural.confidence import reason_features
from escalade.nodes.context import NO_LIMITS, DecisionContext
from escalade.nodes.daemon import wait_for
from escalade.nodes.policy import policy_node
from escalade.nodes.resources import Resources
from escalade.nodes.router import unavailable
from escalade.nodes.search import search_node
from escalade.nodes.state import DecisionState
from escalade.nodes.value import value_node
from escalade.search.service import SearchService

SIMULATIONS = 8
"""MCTS simulations of a search that only loads what it calls."""
MEMORY = 16 * 2**20
"""Bytes of its trees."""

log = logging.getLogger("escalade")


def warm_up(resources: Resources, compiled: Callable[[Resources], CompiledStateGraph[Any, Any, Any, Any]]) -> None:
    """Ask every rung that needs no one outside this process, and run a graph of the same nodes once, without sinks,
    audits, traces or a language model.

    compiled: makes that graph. Raises DomainFault for a domain that cannot encode its initial state; what else fails
    here will fail, and be reported, where it is asked in earnest.
    """
    text = example_of(resources.domain)
    if text is None:
        return
    alone = replace(
        resources, sinks=(), failure_sinks=(), watch=None, language_model=None, batches=None, limits=NO_LIMITS
    )
    with ExitStack() as stack:
        if alone.search is not None:  # one with little memory: whoever builds many graphs need not use them all
            small = SearchService(alone.domain, alone.search.evaluator, memory=MEMORY)
            alone = replace(alone, search=stack.enter_context(small))
        _warm_up(alone, text, compiled)


def _warm_up(
    alone: Resources, text: str, compiled: Callable[[Resources], CompiledStateGraph[Any, Any, Any, Any]]
) -> None:
    context = DecisionContext(simulations=SIMULATIONS)
    state: DecisionState = {"state": text, "text": text, "reports": [], "allowance_ms": None}
    with tracing_context(enabled=False):
        for node in (policy_node, value_node, search_node):
            step = node(alone)
            if unavailable(step.name, context, alone) is None:  # type: ignore[arg-type]
                _tried(step.name, lambda step=step: step.run(state, context))  # type: ignore[misc]
        if alone.reason_calibration is not None:
            known = calibrator_from_json(alone.reason_calibration.calibrator, "reason")
            _tried("reason", lambda: known.confidences(reason_features({0: 1}, 0, 1)))
        graph = compiled(alone)
        given: Any = {"state": text}
        _tried("graph", lambda: wait_for(graph.ainvoke(given, context=context)))


def example_of(domain: Domain[Any]) -> str | None:
    """The text of a state to try things with; None where none is known. Raises DomainFault for a domain with a
    simulator that cannot encode its initial state, as `observation_shape` has it."""
    if not domain.has_simulator:
        with suppress(Exception):  # a user's code, asked about a text that may be none of its states
            return domain.format(domain.parse("x"))
        return None
    try:
        state = domain.initial_state()
        shape, text = domain.encode([state]).shape, domain.format(state)
    except Exception as error:
        raise DomainFault(f"domain '{domain.name}' cannot encode its initial state: {error!r}") from error
    if shape != (1, *domain.observation_shape):
        raise DomainFault(f"domain '{domain.name}' encodes one state as {shape}, not (1, *{domain.observation_shape})")
    return text


def _tried(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except EscaladeError as error:  # such as an initial state that leaves nothing to decide
        log.debug("%s could not be tried when the graph was built: %s", what, error)
    except Exception as error:  # noqa: BLE001 -- a user's domain or evaluator; a rung that fails is reported by decisions
        log.warning("%s failed when the graph was built: %s: %s", what, type(error).__name__, error)
