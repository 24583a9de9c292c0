"""Experience from production: every decision becomes a row, with a target where somebody stronger than a network has
decided."""

from __future__ import annotations

import errno
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.base import Domain, legal_mask
from escalade.domains.decision import Decision
from escalade.domains.errors import SettingsError
from escalade.training.background import CLOSING_S, Background, OnFate
from escalade.training.rows import RowError, Rows
from escalade.training.store import ExperienceStore

SOURCES = {"policy": "decision", "value": "decision", "reason": "llm", "search": "search", "human": "human"}
"""What each rung's decisions are called as rows."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What a disk without room says; it may have some again later."""

log = logging.getLogger("escalade")


def decision_rows(domain: Domain[Any], decisions: Sequence[Decision], model: str = "") -> Rows:
    """A row each, in order: a game of its own, named by the decision's id, whose outcome is not known yet.

    The policy to learn is a search's own, and all on the action where a language model or a person decided. A network's
    decisions teach nothing by themselves, since it would learn its own mistakes; their outcomes do. The value is the
    search's, whoever decided. model: what a search asked about its leaves, which no decision says.
    Raises StateError or RowError for a decision that is not this domain's.
    """
    for decision in decisions:
        if decision.domain != domain.name:
            raise RowError(f"decision '{decision.decision_id}' is of domain '{decision.domain}', not '{domain.name}'")
    states = [domain.parse(decision.state) for decision in decisions]
    legal = legal_mask(domain, states)
    policy = np.full(legal.shape, np.nan, np.float32)
    for row, decision in enumerate(decisions):
        if decision.source in ("reason", "human"):
            policy[row] = np.arange(domain.num_actions) == decision.action
        elif decision.source == "search" and decision.policy is not None:
            policy[row] = decision.policy
    rows = Rows(
        game=np.array([decision.decision_id for decision in decisions], np.str_),
        ply=np.zeros(len(decisions), np.int32),
        state=np.array([decision.state for decision in decisions], np.str_),
        observation=domain.encode(states),
        legal=legal,
        policy=policy,
        action=np.array([decision.action for decision in decisions], np.int32),
        value=np.array([_value(decision) for decision in decisions], np.float32),
        outcome=np.full(len(decisions), np.nan, np.float32),
        source=np.array([SOURCES[decision.source] for decision in decisions], np.str_),
        model=np.array([_model(decision, model) for decision in decisions], np.str_),
        decision=np.array([decision.decision_id for decision in decisions], np.str_),
    )
    rows.check()
    return rows


def _value(decision: Decision) -> float:
    values = [report.value for report in decision.rungs if report.rung == "search" and report.value is not None]
    return values[-1] if values else np.nan


def _model(decision: Decision, searched_with: str) -> str:
    if decision.source == "search":
        return searched_with
    details = [report.details for report in decision.rungs if report.rung == decision.source][-1:]
    names = [each.get("bundle") or each.get("model") for each in details]
    return str(names[0]) if names and names[0] else ""


class ExperienceSink:
    """A decision sink that writes rows to the store in `folder`, from a thread of its own. Close it; what it holds when
    the process ends is written, what a killed process holds is lost: up to `batch` rows, or `seconds`.

    model: as in `decision_rows`. Other options: as `Background`; a disk that takes no rows costs rows, not decisions.
    Raises StoreError if the store is another domain's, SettingsError if there can be none.
    """

    def __init__(
        self,
        folder: Path | str,
        domain: Domain[Any],
        *,
        model: str = "",
        on_fate: OnFate | None = None,
        batch: int = 4096,
        seconds: float = 30.0,
        retry_seconds: float = 5.0,
        most: int = 16_384,
    ) -> None:
        self.folder = Path(folder)
        self.domain = domain
        self.model = model
        self._store: ExperienceStore | None = None
        try:
            self._opened()
        except OSError as error:
            if error.errno not in FULL:
                raise SettingsError(
                    f"experience: there can be no store in '{folder}' ({error.strerror}); give another folder"
                ) from None
        self._background = Background(
            self._write,
            what="decisions",
            on_fate=on_fate,
            batch=batch,
            seconds=seconds,
            retry_seconds=retry_seconds,
            most=most,
        )

    def __call__(self, decision: Decision) -> None:
        """Take it in, if there is room."""
        self._background.offer(decision)

    @property
    def written(self) -> int:
        """Rows on disk."""
        return self._background.written

    @property
    def shed(self) -> int:
        """Decisions that left no row."""
        return self._background.shed

    def close(self, seconds: float = CLOSING_S) -> None:
        """Write what waits, as much as that time allows."""
        self._background.close(seconds)

    def _opened(self) -> ExperienceStore:
        if self._store is None:
            self._store = ExperienceStore(self.folder, self.domain, refresh=False)
        return self._store

    def _write(self, decisions: list[Decision]) -> int:
        store = self._opened()
        try:
            rows = decision_rows(self.domain, decisions, self.model)
        except Exception:  # noqa: BLE001 -- a domain's own errors; whose decision it is shows one at a time
            decisions = [decision for decision in decisions if self._is_sound(decision)]
            if not decisions:
                return 0
            rows = decision_rows(self.domain, decisions, self.model)
        store.add(rows, "decisions")
        return len(rows)

    def _is_sound(self, decision: Decision) -> bool:
        try:
            decision_rows(self.domain, [decision], self.model)
        except Exception as error:  # noqa: BLE001 -- as above
            log.error("decision '%s' makes no row: %s", decision.decision_id, error)
            return False
        return True
