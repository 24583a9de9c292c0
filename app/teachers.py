"""Who labels positions: an exact solver, a search, or a search that a language model guides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np

from escalade.app.waiting import run_asking
from escalade.domains.base import Domain, legal_mask
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.domains.evaluator import AnyEvaluator
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.llm_prior import Ranking, ask_rankings, guided_by
from escalade.nodes.patience import while_patient
from escalade.search.config import SearchConfig
from escalade.search.solvers import exact_solver
from escalade.training.relabel import relabelled_rows
from escalade.training.rows import Rows
from escalade.training.solved import solved_rows

TeacherName = Literal["solver", "search", "llm"]


class Teacher(Protocol):
    batch: int
    """Positions that are labelled, and written, together."""
    fingerprint: list[Any]
    """All that its labels depend on, as JSON."""

    def label(self, rows: Rows, seed: Sequence[int]) -> Rows:
        """The rows with its labels; those that it cannot label are left out. Slow, and to be called off the loop."""
        ...


class SolverTeacher:
    """Every optimal move, and the true value. Raises SettingsError for a domain without a solver."""

    batch = 128

    def __init__(self, domain: Domain[Any]) -> None:
        if exact_solver(domain) is None:
            raise SettingsError(f"--teacher solver: there is no exact solver for domain '{domain.name}'")
        self.domain = domain
        self.fingerprint = ["solver"]

    def label(self, rows: Rows, seed: Sequence[int]) -> Rows:
        states = [self.domain.parse(text) for text in rows.state.tolist()]
        return solved_rows(self.domain, states, rows.game.tolist(), rows.ply.tolist())


class SearchTeacher:
    """model: the name of what the evaluator is. Raises SettingsError for a domain that cannot look ahead."""

    batch = 256

    def __init__(self, domain: Domain[Any], evaluator: AnyEvaluator | None, model: str, config: SearchConfig) -> None:
        if evaluator is None:
            raise SettingsError(f"--teacher search: domain '{domain.name}' has no simulator; use --teacher llm")
        self.domain, self.evaluator, self.model, self.config = domain, evaluator, model, config
        self.fingerprint = ["search", model, config.simulations]

    def label(self, rows: Rows, seed: Sequence[int]) -> Rows:
        return relabelled_rows(self.domain, self.evaluator, rows, self.config, seed=seed, model=self.model)[0]


@dataclass
class Bill:
    """What the calls to a language model came to. usd: of those that have a price. failed: by reason."""

    calls: int = 0
    unpriced: int = 0
    usd: float = 0.0
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, ranking: Ranking) -> None:
        self.calls += 1
        self.unpriced += ranking.cost_usd is None
        self.usd += ranking.cost_usd or 0.0
        if ranking.reason:
            self.failed[ranking.reason] += 1


class LanguageModelTeacher:
    """A search whose prior at the root comes from a language model; where that gave none, a plain search, and the row
    says so. Without a simulator, its first choice is the label, and positions without one are left out.

    evaluator: says the rest of what a search asks, None without a simulator; other_model: its name. Where the model's
    endpoint has patience it is waited for, and `on_wait` told so.
    """

    batch = 16  # what is lost where it is stopped was paid for

    def __init__(
        self,
        domain: Domain[Any],
        model: LanguageModel | None,
        evaluator: AnyEvaluator | None,
        other_model: str,
        config: SearchConfig,
    ) -> None:
        if model is None:
            raise SettingsError("--teacher llm: configure a language model (ESCALADE_LLM_MODEL and OPENAI_API_KEY)")
        self.domain, self.model, self.evaluator, self.config = domain, model, evaluator, config
        self.other_model = other_model
        self.bill = Bill()
        self.on_wait: Callable[[float], None] | None = None
        self.fingerprint = ["llm", model.name, other_model, config.simulations if evaluator is not None else 0]

    def label(self, rows: Rows, seed: Sequence[int]) -> Rows:
        """Raises EscaladeError where no question at all was answered: the rest would go the same way; PatienceOver
        where the endpoint does not come back."""
        states = [self.domain.parse(text) for text in rows.state.tolist()]
        asking = ask_rankings(self.model, self.domain, states, on_answer=self.bill.add)
        rankings = run_asking(while_patient(self.model.endpoint.patience, asking, self.on_wait), self.model)
        told = np.array([bool(ranking.actions) for ranking in rankings], np.bool_)
        if not told.any():
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.bill.failed.most_common())
            raise EscaladeError(
                f"language model '{self.model.name}' answered none of {len(told)} questions ({reasons})"
            )
        if self.evaluator is None:
            return self._first_choices(rows, rankings, told)
        evaluator = guided_by(self.domain, self.evaluator, states, rankings)
        searched, _ = relabelled_rows(self.domain, evaluator, rows, self.config, seed=seed)
        return replace(
            searched,
            source=np.where(told, "llm", "search"),
            model=np.where(told, self.model.name, self.other_model),
        )

    def _first_choices(self, rows: Rows, rankings: Sequence[Ranking], told: Any) -> Rows:
        action = np.array([ranking.actions[0] if ranking.actions else -1 for ranking in rankings], np.int32)
        named = replace(
            rows,
            action=action,
            policy=(np.arange(rows.legal.shape[1]) == action[:, None]).astype(np.float32),
            source=np.full(len(rows), "llm"),
            model=np.full(len(rows), self.model.name),
        )
        return named.take(told)


def unlabelled(domain: Domain[Any], states: Sequence[Any], games: Sequence[str], plies: Sequence[int]) -> Rows:
    """Rows of unfinished states that nobody has labelled yet."""
    legal = legal_mask(domain, states)
    nothing = np.full(len(states), np.nan, np.float32)
    return Rows(
        game=np.array(games, np.str_),
        ply=np.array(plies, np.int32),
        state=np.array([domain.format(state) for state in states], np.str_),
        observation=domain.encode(states),
        legal=legal,
        policy=np.full(legal.shape, np.nan, np.float32),
        action=np.full(len(states), -1, np.int32),
        value=nothing,
        outcome=nothing,
        source=np.full(len(states), "decision"),
        model=np.full(len(states), ""),
        decision=np.full(len(states), ""),
    )
