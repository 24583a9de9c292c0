"""Repeated discrete decisions on a ladder: neural policy, neural value, LLM, tree search, a person.

The public face: what a user imports. Names are loaded when first used, so `import escalade` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from escalade.domains.base import ArrayDomain, Domain, Symmetry
    from escalade.domains.catalog import load_domain
    from escalade.domains.conformance import check_domain
    from escalade.domains.decision import Decision, FailedDecision, RungReport
    from escalade.domains.errors import (
        ActionError,
        BundleError,
        CatalogError,
        EscaladeError,
        NoDecisionError,
        StateError,
    )
    from escalade.domains.evaluator import Evaluator, StateEvaluator
    from escalade.domains.kernels import RowKernels
    from escalade.graph.decision import build_decision_graph
    from escalade.graph.embed import DecisionNode, decision_agent, decision_tool
    from escalade.neural.bundle import read_bundle, write_bundle
    from escalade.nodes.context import DecisionContext
    from escalade.nodes.language_model import LanguageModel
    from escalade.search.config import SearchConfig
    from escalade.search.evaluators import MixedEvaluator, PolicyRolloutEvaluator, RolloutEvaluator, UniformEvaluator
    from escalade.search.results import SearchResult
    from escalade.search.service import SearchService
    from escalade.search.session import Searcher
    from escalade.search.solvers import exact_solver

__version__ = "0.1.0"

_HOME = {
    "ActionError": "domains.errors",
    "ArrayDomain": "domains.base",
    "BundleError": "domains.errors",
    "CatalogError": "domains.errors",
    "Decision": "domains.decision",
    "FailedDecision": "domains.decision",
    "DecisionContext": "nodes.context",
    "DecisionNode": "graph.embed",
    "Domain": "domains.base",
    "EscaladeError": "domains.errors",
    "Evaluator": "domains.evaluator",
    "LanguageModel": "nodes.language_model",
    "MixedEvaluator": "search.evaluators",
    "NoDecisionError": "domains.errors",
    "PolicyRolloutEvaluator": "search.evaluators",
    "RolloutEvaluator": "search.evaluators",
    "RowKernels": "domains.kernels",
    "RungReport": "domains.decision",
    "SearchConfig": "search.config",
    "SearchResult": "search.cohort",
    "SearchService": "search.service",
    "Searcher": "search.session",
    "StateError": "domains.errors",
    "StateEvaluator": "domains.evaluator",
    "Symmetry": "domains.base",
    "UniformEvaluator": "search.evaluators",
    "build_decision_graph": "graph.decision",
    "check_domain": "domains.conformance",
    "decision_agent": "graph.embed",
    "decision_tool": "graph.embed",
    "exact_solver": "search.solvers",
    "load_domain": "domains.catalog",
    "read_bundle": "neural.bundle",
    "write_bundle": "neural.bundle",
}

__all__ = [
    "ActionError",
    "ArrayDomain",
    "BundleError",
    "CatalogError",
    "Decision",
    "DecisionContext",
    "DecisionNode",
    "Domain",
    "EscaladeError",
    "Evaluator",
    "FailedDecision",
    "LanguageModel",
    "MixedEvaluator",
    "NoDecisionError",
    "PolicyRolloutEvaluator",
    "RolloutEvaluator",
    "RowKernels",
    "RungReport",
    "SearchConfig",
    "SearchResult",
    "SearchService",
    "Searcher",
    "StateError",
    "StateEvaluator",
    "Symmetry",
    "UniformEvaluator",
    "__version__",
    "build_decision_graph",
    "check_domain",
    "decision_agent",
    "decision_tool",
    "exact_solver",
    "load_domain",
    "read_bundle",
    "write_bundle",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'escalade' has no attribute '{name}'")
    # What is imported may have to be compiled first, which is no work for the thread of an event loop.
    from escalade.nodes.daemon import off_loop

    return getattr(off_loop(import_module)(f"escalade.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
