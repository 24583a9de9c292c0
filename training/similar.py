"""Past decisions by likeness: what was decided in states that look nearly the same to a network."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.base import Domain, FloatArray
from escalade.training.packed import compact
from escalade.training.rows import Rows
from escalade.training.store import ExperienceStore

ROWS = 50_000
"""So many of the newest are looked at."""
FRESH_S = 30.0
"""What was written since is seen after so long."""


class RecordedDecisions:
    """The newest decisions of an experience store. Likeness is the cosine between encoded states, from 0 to 1."""

    def __init__(
        self, folder: Path, domain: Domain[Any], *, rows: int = ROWS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.domain, self.rows, self._clock = folder, domain, rows, clock
        self._lock = threading.Lock()
        self._read_at: float | None = None
        self._known: tuple[Rows, Any, FloatArray] | None = None

    def similar(self, text: str, count: int) -> list[dict[str, Any]]:
        """The decisions in the states most like this one, the nearest and newest first; several of one state where
        several were made. Each: state, action, by (source and model) and likeness."""
        known = self._fresh()
        if known is None:
            return []
        rows, seen, lengths = known
        own = self.domain.encode([self.domain.parse(text)]).reshape(-1).astype(np.float32)
        near = np.empty(len(lengths), np.float32)
        for first in range(0, len(near), 8192):  # what is packed is unpacked piece by piece
            part = slice(first, first + 8192)
            near[part] = np.asarray(seen[part], np.float32) @ own
        near /= np.maximum(lengths * np.linalg.norm(own), 1e-9)
        newest_first = np.argsort(-near[::-1], kind="stable")[:count]
        return [
            {
                "state": str(rows.state[row]),
                "action": self.domain.action_name(int(rows.action[row])),
                "by": f"{rows.source[row]} ({rows.model[row]})",
                "likeness": round(float(near[row]), 4),
            }
            for row in (len(near) - 1 - newest_first).tolist()
        ]

    def _fresh(self) -> tuple[Rows, Any, FloatArray] | None:
        with self._lock:
            now = self._clock()
            if self._read_at is None or now - self._read_at > FRESH_S:
                self._known, self._read_at = self._read(), now
            return self._known

    def _read(self) -> tuple[Rows, Any, FloatArray] | None:
        if not self.folder.is_dir():  # to open a store is to begin one
            return None
        rows = ExperienceStore(self.folder, self.domain).recent(self.rows)
        if rows is None:
            return None
        rows = rows.take(rows.action >= 0)
        if not len(rows):
            return None
        seen = np.asarray(rows.observation, np.float32).reshape(len(rows), -1)
        return rows, compact(seen), np.linalg.norm(seen, axis=1)
