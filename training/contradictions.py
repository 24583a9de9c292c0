"""States whose labels contradict each other, and how much of the labels' error no network can avoid.

The same text sent to two queues is real, and is not refused: but whoever learns from such labels, or is judged by them,
should know that part of the error is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from escalade.domains.base import BoolArray, Domain, IntArray, legal_mask
from escalade.training.position_keys import position_keys
from escalade.training.rows import Rows

WORST = 5
"""Contradictory states that are named."""
ENCODED_AT_ONCE = 1024
TAUGHT_BY_PLAY = ("self_play", "solver", "search")
"""Sources of rows whose policies are no labels: searches may differ from game to game, and a solver is right."""


@dataclass(frozen=True)
class ContradictoryState:
    """A state whose labels differ."""

    state: str
    """As `Domain.format` writes it, the first spelling of those that a network cannot tell apart."""
    labels: dict[str, int]
    """How many rows accept each action, by its name, the most frequent first."""


@dataclass(frozen=True)
class Contradictions:
    """What the labels of some rows allow at best. Rows belong to one state if a network cannot tell them apart."""

    rows: int
    """All of them."""
    states: int
    """Different ones among them."""
    contradictory_states: int
    """Those of which no action is right in every row."""
    contradictory_rows: int
    """Rows of these."""
    best_accuracy: float
    """The largest share of the rows on which anyone who sees the states alone can be right: whoever answers each by its
    most frequent label (the Bayes classifier of these rows)."""
    worst: tuple[ContradictoryState, ...]
    """Those that cost the most rows, at most WORST."""

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "worst": [asdict(one) for one in self.worst]}

    def __str__(self) -> str:
        """One sentence; empty where nothing contradicts."""
        if not self.contradictory_states:
            return ""
        named = "; ".join(
            f"{_cut(one.state)!r}: {', '.join(f'{name} {count}' for name, count in one.labels.items())}"
            for one in self.worst
        )
        more = self.contradictory_states - len(self.worst)
        return (
            f"{self.contradictory_states:,} of {self.states:,} different states have contradictory labels "
            f"({self.contradictory_rows:,} of {self.rows:,} rows), so at most {self.best_accuracy:.2%} of all rows can "
            f"be decided as labelled: {named}" + (f"; and {more:,} more" if more else "")
        )


def contradictions(domain: Domain[Any], states: Sequence[str], acceptable: BoolArray) -> Contradictions:
    """Of N states as texts, and the actions that are right in each row, acceptable `[N, A]` bool."""
    parts = []
    for first in range(0, len(states), ENCODED_AT_ONCE):
        parsed = [domain.parse(text) for text in states[first : first + ENCODED_AT_ONCE]]
        parts.append(position_keys(domain.encode(parsed), legal_mask(domain, parsed)))
    _, group = np.unique(np.concatenate(parts), return_inverse=True) if parts else (None, np.zeros(0, np.int64))
    return _found(domain, lambda row: states[row], acceptable, group)


def contradictions_of_rows(domain: Domain[Any], rows: Rows) -> Contradictions:
    """Of the labels in rows of experience: where a language model, a person or a file chose one action. States that a
    solver has labelled too are left out, as nobody else is heard there."""
    taught = np.flatnonzero(~np.isin(rows.source, TAUGHT_BY_PLAY))
    found = rows.take(taught[np.nan_to_num(rows.policy[taught]).max(axis=1, initial=0.0) == 1.0])
    keys = position_keys(found.observation, found.legal)
    if len(found) and (solved := np.flatnonzero(rows.source == "solver")).size:
        fresh = ~np.isin(keys, position_keys(rows.observation[solved], rows.legal[solved]))
        found, keys = found.take(fresh), keys[fresh]
    _, group = np.unique(keys, return_inverse=True)
    return _found(domain, lambda row: str(found.state[row]), found.policy == 1.0, group)


def _found(domain: Domain[Any], state: Callable[[int], str], acceptable: BoolArray, group: IntArray) -> Contradictions:
    """state: the text of a row. group `[N]` int64: which rows are of one state, numbered from 0."""
    count = int(group.max()) + 1 if len(group) else 0
    votes = np.zeros((count, acceptable.shape[1]), np.int64)
    np.add.at(votes, group, acceptable)
    met, most = np.bincount(group, minlength=count), votes.max(axis=1, initial=0)
    lost = met - most
    first = np.full(count, len(group), np.int64)
    np.minimum.at(first, group, np.arange(len(group)))
    worst = np.flatnonzero(lost)[np.lexsort((first[lost > 0], -lost[lost > 0]))][:WORST]
    return Contradictions(
        rows=len(group),
        states=count,
        contradictory_states=int((lost > 0).sum()),
        contradictory_rows=int(met[lost > 0].sum()),
        best_accuracy=float(most.sum() / max(len(group), 1)) if len(group) else 1.0,
        worst=tuple(
            ContradictoryState(
                state(int(first[place])),
                {
                    domain.action_name(action): int(votes[place, action])
                    for action in np.argsort(-votes[place], kind="stable").tolist()
                    if votes[place, action]
                },
            )
            for place in worst.tolist()
        ),
    )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
