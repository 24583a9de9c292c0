"""Labelled states from production: the rows of an experience store that are a fair sample of what is decided.

Once a network decides, what reaches a language model or a person is what the network was not sure of: proven on these,
a certificate would be about the hard decisions alone. Audits (`escalade.training.audits`) are drawn at random from all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.base import Domain, IntArray
from escalade.domains.errors import SettingsError
from escalade.training.audits import AuditRow, thinned
from escalade.training.reference import RECORDED, Labelled, numbered
from escalade.training.store import ExperienceStore

LEAST_SURE = "least-sure"
"""Games whose names begin so were chosen as those that a network was least sure of."""
AUDITED_BY = {"person": ("person", "labels")}
"""Whose audits count for a reference; where it is not named, its own."""


@dataclass
class _Kinds:
    """Rows of a store, by how they came to be decided by the reference."""

    fair: list[tuple[str, int, str]] = field(default_factory=list)
    """State, action and game of rows from before any network decided, and of states that were labelled."""
    escalated: int = 0
    """Rows that networks had left to it."""
    chosen: int = 0
    """Rows that were labelled since a network was unsure of them."""
    networks: int = 0
    """Rows that networks decided."""


def recorded_labels(domain: Domain[Any], folder: Path, reference: str, *, least: int = 0, seed: int = 0) -> Labelled:
    """What a reference ("llm", "person"; with audits any) held for right in decisions of the store in `folder`.

    Where networks have decided, the audits by this reference, or, if these are fewer than `least`, what it decided
    before; where none has, all that it decided. `Labelled.source` says what was used and what was left out. seed: of
    thinning audits that were drawn with different probabilities.
    Raises SettingsError if there is no store, or nothing in it that can prove anything, naming what there is.
    """
    if not folder.is_dir():  # to open one is to begin one
        raise SettingsError(f"there is no store '{folder}': give another by --experience")
    store = ExperienceStore(folder, domain)
    found = store.audits.of(AUDITED_BY.get(reference, (reference,)))
    audits, kinds = thinned(found, seed), _kinds(store, RECORDED.get(reference))
    name = folder.name
    if audits and len(audits) >= (least if kinds.fair else 1):
        return _of_audits(domain, audits, reference, f"{_audits(audits, found)} in {name}{_left_out(kinds, True)}")
    if kinds.fair:
        few = f"; {len(audits)} audits are fewer than {least}" if audits else ""
        when = " before a network decided" if kinds.networks else ""
        source = f"{len(kinds.fair):,} decisions{when} in {name}{_left_out(kinds, False)}{few}"
        return _of_rows(domain, kinds.fair, reference, source)
    if not kinds.escalated and not kinds.chosen:
        raise SettingsError(f"the store '{folder}' holds no decision of a {reference}: give another by --experience")
    raise SettingsError(
        f"the store '{folder}' holds no fair sample of decisions{_left_out(kinds, False)}, and no audits by "
        f"{reference}: set ESCALADE_WATCH, and a share of all decisions (ESCALADE_AUDIT_SHARE) is audited"
    )


def _kinds(store: ExperienceStore, source: str | None) -> _Kinds:
    kinds = _Kinds()
    if source is None:
        return kinds
    for entry in store.entries:  # oldest first, as rows are within a shard
        rows = store.read(entry.name) if entry.sources.get(source) else None
        if rows is not None:
            networks = kinds.networks + np.cumsum(rows.source == "decision")
            for place in np.flatnonzero((rows.source == source) & (rows.action >= 0)).tolist():
                game = str(rows.game[place])
                if game.startswith(LEAST_SURE):
                    kinds.chosen += 1
                elif networks[place] and rows.decision[place] != "":
                    kinds.escalated += 1
                else:
                    kinds.fair.append((str(rows.state[place]), int(rows.action[place]), game))
        kinds.networks += entry.sources.get("decision", 0)
    return kinds


def _audits(audits: Sequence[AuditRow], found: Sequence[AuditRow]) -> str:
    shares = sorted({each.share for each in found})
    drawn = f"{shares[0]:.3g}" if len(shares) == 1 else f"{shares[0]:.3g} to {shares[-1]:.3g}"
    thinned_by = "" if len(audits) == len(found) else f", {len(found) - len(audits)} thinned out"
    return f"{len(audits):,} audits drawn from all decisions (share {drawn}{thinned_by})"


def _left_out(kinds: _Kinds, audited: bool) -> str:
    lacking = []
    if kinds.escalated:
        lacking.append(f"{kinds.escalated:,} that networks had left to it")
    if kinds.chosen:
        lacking.append(f"{kinds.chosen:,} that a network was least sure of")
    if audited and kinds.fair:
        lacking.append(f"{len(kinds.fair):,} from before networks decided")
    return f"; not used: {', '.join(lacking)}" if lacking else ""


def _of_audits(domain: Domain[Any], audits: Sequence[AuditRow], reference: str, source: str) -> Labelled:
    acceptable = np.zeros((len(audits), domain.num_actions), np.bool_)
    for row, audit in enumerate(audits):
        acceptable[row, list(audit.right)] = True
    states = tuple(audit.state for audit in audits)
    return Labelled(states, acceptable, np.arange(len(audits)), reference, source)


def _of_rows(domain: Domain[Any], rows: Sequence[tuple[str, int, str]], reference: str, source: str) -> Labelled:
    texts, actions, games = zip(*rows, strict=True)
    acceptable = np.zeros((len(rows), domain.num_actions), np.bool_)
    acceptable[np.arange(len(rows)), np.array(actions, np.int64)] = True
    group: IntArray = numbered(games)
    return Labelled(tuple(texts), acceptable, group, reference, source)
