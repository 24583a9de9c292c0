"""What a decision's trace has besides the runs that LangGraph makes of its nodes: the networks' batches and the
searches as runs of their own, and each node's findings as metadata.

LangSmith's switch decides whether anything is traced (`LANGSMITH_TRACING`, and `LANGSMITH_OTEL_ENABLED` for
OpenTelemetry); where nothing is, all of this costs one look at a context variable.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from langgraph.types import TracePolicy
from langsmith.run_helpers import get_current_run_tree
from langsmith.run_trees import RunTree
from langsmith.utils import tracing_is_enabled

from escalade.domains.base import BoolArray, Domain, FloatArray
from escalade.neural.batch_item import Answer, Item
from escalade.neural.batcher import Batcher
from escalade.search.results import SearchResult

STATE_CHARACTERS = 2000
"""Of a state's text in a trace."""
_PROPOSED = ("rung", "outcome", "reason", "action", "confidence", "threshold", "value", "cost_usd", "work_ms")
_DETAILS = ("bundle", "model", "tokens", "batch", "samples", "votes", "rounds", "refuted", "simulated", "novelty")
_DECIDED = ("source", "action_name", "confidence", "certified", "best_effort", "value", "cost_usd", "latency_ms")
_STEPS = ("next_rung", "why", "goes_to", "best", "rounds", "asked", "refuted", "spent")


class Traced:
    """A run of ours; does nothing where nothing is traced."""

    def __init__(self, run: RunTree | None) -> None:
        self.run = run

    def note(self, outputs: dict[str, Any] | None = None, **metadata: Any) -> None:
        if self.run is not None:
            self.run.add_metadata(metadata)
            if outputs is not None:
                self.run.add_outputs(outputs)


_UNTRACED = Traced(None)


@contextmanager
def traced(name: str, inputs: dict[str, Any], **metadata: Any) -> Iterator[Traced]:
    """A run under the node that is running, if that is traced."""
    parent = get_current_run_tree()
    if parent is None:
        yield _UNTRACED
        return
    run = parent.create_child(name, "tool", inputs=inputs, extra={"metadata": metadata})
    run.post()
    try:
        yield Traced(run)
    except BaseException as error:
        run.end(error=type(error).__name__)
        raise
    else:
        run.end()
    finally:
        run.patch()


def is_traced() -> bool:
    """Whether the node that is running is part of a trace."""
    return get_current_run_tree() is not None


def evaluate(
    network: Batcher, observations: FloatArray, legal: BoolArray, deadline: float | None, bundle: str | None
) -> Answer:
    """`Batcher.evaluate`, as a run with the batch's number, which it shares with all who were in it."""
    with traced("neural batch", {"rows": len(legal)}, bundle=bundle) as run:
        item = network.submit(observations, legal, deadline)
        answer = network.wait(item, deadline)
        _note_batch(run, item)
        return answer


async def evaluate_async(
    network: Batcher, observations: FloatArray, legal: BoolArray, deadline: float | None, bundle: str | None
) -> Answer:
    """`Batcher.evaluate_async`, as `evaluate`."""
    with traced("neural batch", {"rows": len(legal)}, bundle=bundle) as run:
        item = network.submit(observations, legal, deadline)
        answer = await network.wait_async(item, deadline)
        _note_batch(run, item)
        return answer


def _note_batch(run: Traced, item: Future[Answer]) -> None:
    if run.run is not None and isinstance(item, Item):
        run.note({"rows": item.batch_rows}, batch=item.batch)


def noted(run: Traced, domain: Domain[Any], result: SearchResult) -> None:
    """What a search found, for its run."""
    told = {"value": float(result.value), "proven": bool(result.proven)}
    run.note({"action": domain.action_name(result.action), **told}, stopped=result.stopped)


def told_state(state: Any) -> Any:
    """What a trace has of a node's input: the state's text."""
    if not isinstance(state, dict) or not tracing_is_enabled():
        return state  # what LangGraph takes for nothing to do
    text = state.get("text", state.get("state"))
    return {"state": (text if isinstance(text, str) else repr(text))[:STATE_CHARACTERS]}


def told_update(update: Any) -> Any:
    """What a trace has of a node's output."""
    return findings(update) if isinstance(update, dict) and tracing_is_enabled() else update


def findings(update: dict[str, Any]) -> dict[str, Any]:
    """What a node found, for its run's metadata and output."""
    found = {name: update[name] for name in _STEPS if update.get(name) is not None}
    report = update.get("proposal") or (update["reports"][-1] if update.get("reports") else None)
    if report:
        found |= {name: report[name] for name in _PROPOSED if report.get(name) is not None}
        details = report.get("details") or {}
        found |= {name: details[name] for name in _DETAILS if details.get(name) is not None}
    decision = update.get("decision")
    if decision:
        found |= {name: decision[name] for name in _DECIDED if decision.get(name) is not None}
    return found


def annotate(update: dict[str, Any]) -> None:
    """A node's findings as metadata of its run, if that is traced."""
    run = get_current_run_tree()
    if run is not None:
        run.add_metadata(findings(update))


POLICY = TracePolicy(process_inputs=told_state, process_outputs=told_update)
"""Of every node."""
