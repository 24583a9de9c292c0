"""What audits found: of decisions drawn at random from all, the actions that the reference holds for right.

Reports (`escalade.training.report_shards`) in the store's folder `audits/`. Once a network decides, these alone are a
fair sample: what reaches a language model or a person is what the network was not sure of. Nothing is learned from a
decision that was audited, so that it can prove.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from escalade.domains.base import Domain
from escalade.neural.manifest import DomainStamp
from escalade.training.report_shards import AT, ReportShards, ReportSink, report_schema

if TYPE_CHECKING:
    from escalade.training.store import Damage


@dataclass(frozen=True)
class AuditRow:
    """One decision that was audited."""

    decision: str
    """Its id."""
    state: str
    """In text."""
    right: tuple[int, ...]
    """The actions that the reference holds for right."""
    reference: str
    """Who named them, such as "llm"."""
    source: str
    """The rung that had decided."""
    share: float
    """The probability with which a decision was drawn for an audit then, in (0, 1]."""
    at: float = 0.0
    """Seconds since the epoch; 0: when it is written."""


class AuditShards(ReportShards):
    """Those in one folder. set_aside: as `ReportShards`."""

    def __init__(
        self, folder: Path, stamp: DomainStamp, set_aside: Callable[[Path, str], list[Damage]] | None = None
    ) -> None:
        fields = [
            pa.field("decision", pa.string(), nullable=False),
            pa.field("state", pa.string(), nullable=False),
            pa.field("right", pa.list_(pa.int32()), nullable=False),
            pa.field("reference", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("share", pa.float64(), nullable=False),
            AT,
        ]
        super().__init__(folder, stamp, report_schema(stamp, "audits", fields), set_aside)

    def add(self, audits: Sequence[AuditRow], clock: Callable[[], float] = time.time) -> Path:
        """Write at least one as a new shard."""
        now = clock()
        columns: list[list[Any]] = [
            [each.decision for each in audits],
            [each.state for each in audits],
            [list(each.right) for each in audits],
            [each.reference for each in audits],
            [each.source for each in audits],
            [each.share for each in audits],
            [int((each.at or now) * 1e6) for each in audits],
        ]
        return self.write(columns, now)

    def decisions(self) -> NDArray[np.str_]:
        """The ids of all decisions that were audited."""
        return np.array(sorted(set(self.table().column("decision").to_pylist())), np.str_)

    def of(self, references: Sequence[str]) -> list[AuditRow]:
        """The audits by some references, each decision's last one."""
        found: dict[str, AuditRow] = {}
        for line in self.table().to_pylist():
            if line["reference"] in references:
                at = line.pop("at").timestamp()
                found[line["decision"]] = AuditRow(**{**line, "right": tuple(line["right"])}, at=at)
        return list(found.values())


def thinned(audits: Sequence[AuditRow], seed: int = 0) -> list[AuditRow]:
    """Those that are left once every decision had the same probability of being drawn, the least of all: with shares
    that changed, the others are kept with the least share over their own. All of these are then draws from all
    decisions, without weights."""
    if not audits:
        return []
    least = min(each.share for each in audits)
    drawn = np.random.default_rng((seed, 0xA0D1)).random(len(audits))
    return [each for each, number in zip(audits, drawn.tolist(), strict=True) if number * each.share <= least]


class AuditSink(ReportSink[AuditRow]):
    """Takes audits in and writes them to the store in `folder`. Options: as `ReportSink`."""

    def __init__(self, folder: Path | str, domain: Domain[Any], **options: Any) -> None:
        self.shards = AuditShards(Path(folder) / "audits", DomainStamp.of(domain))
        super().__init__(self.shards.add, "audits", **options)

    def __call__(self, audit: AuditRow) -> None:
        """Take it in, if there is room."""
        self.offer(audit)
