"""The experience store: a folder of shards of one domain, to which many writers add and from which learners read.

    shards/     immutable Parquet files, in order of time (training/shards.py)
    outcomes/   what became of decisions, learned late (training/outcomes.py)
    audits/     what would have been right in decisions drawn at random (training/audits.py)
    damaged/    those that could not be read, set aside with the reason beside each, and the reason alone for those gone
    manifest.json   what is known of each shard

The shards are the truth. The manifest only saves reading them again: who opens the store takes in new shards, and a
manifest that is lost, or of another store, is made anew from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import EscaladeError
from escalade.neural.files import write_whole
from escalade.neural.manifest import DomainStamp
from escalade.training.audits import AuditShards
from escalade.training.outcomes import OutcomeShards, with_outcomes
from escalade.training.packed import compact
from escalade.training.rows import Rows, joined
from escalade.training.shards import SCHEMA_VERSION, SUFFIX, ShardError, read_shard, write_shard

ABANDONED_SECONDS = 3600.0
"""A file half written is somebody's work in progress; after so long nobody comes back to it."""


class StoreError(EscaladeError, ValueError):
    """A folder is not the experience store of this domain."""


@dataclass(frozen=True)
class ShardEntry:
    """What the manifest says of a shard. sources, models: rows of each. sha256: of the whole file."""

    name: str
    bytes: int
    sha256: str
    rows: int
    games: int
    sources: dict[str, int]
    models: dict[str, int]


@dataclass(frozen=True)
class Damage:
    """A shard that was set aside, or that is gone; why, in a sentence that names it."""

    name: str
    reason: str
    gone: bool = False


class ExperienceStore:
    """Open, or begin, the store of a domain in a folder. Raises StoreError if it holds another domain's.

    refresh: False for who only writes, and need not wait until all that is new has been read.
    Safe for many writers and readers in many processes at once. A shard that the system would not let be read (a right,
    too many open files) is no damaged one: that OSError is the caller's.
    """

    def __init__(self, folder: Path | str, domain: Domain[Any], *, refresh: bool = True) -> None:
        self.folder = Path(folder)
        self.stamp = DomainStamp.of(domain)
        self.shards_folder = self.folder / "shards"
        self.damaged_folder = self.folder / "damaged"
        self.noticed: list[Damage] = []
        """What was found damaged or gone since this object was made, in that order."""
        self.shards_folder.mkdir(parents=True, exist_ok=True)
        self.outcomes = OutcomeShards(self.folder / "outcomes", self.stamp, self._set_aside)
        self.audits = AuditShards(self.folder / "audits", self.stamp, self._set_aside)
        self._entries: dict[str, ShardEntry] = self._read_manifest()
        if refresh or not self._manifest.exists():  # which says whose store it is
            self.refresh()

    def add(
        self, rows: Rows, writer: str = "", *, name: str | None = None, notes: dict[str, Any] | None = None
    ) -> Path:
        """Write rows as one shard; as `write_shard`. Raises RowError for rows that are not this domain's."""
        return write_shard(self.shards_folder, rows, self.stamp, writer, name=name, notes=notes)

    def refresh(self) -> list[Damage]:
        """Take in shards that are new, and set aside those that cannot be read and copies of others. Returns these, and
        those that are gone though they were known: nobody but a person or a broken disk takes a shard away. One that
        has another name now is not gone. Folders are passed over."""
        found = {path.name: path for path in self.shards_folder.glob(f"*{SUFFIX}") if path.is_file()}
        entries: dict[str, ShardEntry] = {}
        damages: list[Damage] = []
        gone: dict[str, str] = {}
        for name in sorted(self._entries.keys() - found.keys()):
            path = self.shards_folder / name
            if path.is_file():  # a listing made while others write may miss one
                found[name] = path
            else:
                gone[self._entries[name].sha256] = name
        known_as = {entry.sha256: name for name, entry in self._entries.items() if name in found}
        changed = found.keys() != self._entries.keys()
        for name, path in sorted(found.items()):
            known = self._entries.get(name)
            if known is None or _size(path) != known.bytes:
                entry, reason = self._examine(path)
                if entry is None:
                    damages += self._set_aside(path, reason)
                    continue
                original = known_as.setdefault(entry.sha256, name)
                if original != name:
                    damages += self._set_aside(path, f"shard '{name}' is a copy of '{original}'")
                    continue
                known, changed = entry, True
                gone.pop(entry.sha256, None)
                self._forget_reason(name)
            entries[name] = known
        for name in gone.values():
            damages += self._gone(name)
        self._entries = entries
        self._forget_abandoned()
        if changed or not self._manifest.exists():
            self._write_manifest()
        return damages

    def check(self, on_shard: Callable[[ShardEntry], None] | None = None) -> list[Damage]:
        """Read every shard again and compare it with the manifest, and all outcomes. Returns the damaged and gone."""
        damages = self.refresh()
        for entry in self.entries:
            path = self.shards_folder / entry.name
            now, reason = self._examine(path)
            if now is not None and now.sha256 != entry.sha256:
                now, reason = None, f"shard '{entry.name}' is damaged: its contents have changed since it was written"
            if now is None:
                damages += self._set_aside(path, reason)
                del self._entries[entry.name]
            if on_shard is not None:
                on_shard(entry)
        if damages:
            self._write_manifest()
        return damages + self.outcomes.check() + self.audits.check()

    def rebuild(self) -> list[Damage]:
        """Make the manifest anew from the shards alone. Returns what is damaged or gone."""
        damages = self.refresh()
        self._entries = {}
        return damages + self.refresh()

    @property
    def entries(self) -> list[ShardEntry]:
        """Every shard known, oldest first."""
        return [self._entries[name] for name in sorted(self._entries)]

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self._entries.values())

    def read(self, name: str) -> Rows | None:
        """The rows of a shard; None if it is damaged, and then it is set aside, or gone."""
        try:
            return read_shard(self.shards_folder / name, self.stamp)
        except ShardError as error:
            self._set_aside(self.shards_folder / name, str(error))
            if self._entries.pop(name, None) is not None:  # or it would be found gone the next time
                self._write_manifest()
            return None

    def recent(self, most: int) -> Rows | None:
        """The newest rows, oldest first: as many whole shards as reach `most`, cut to it. None if there are none.

        A shard that cannot be read is set aside and passed over. What is known by now of a decision's outcome is in its
        rows; one that was recorded twice (by a run that was killed, and resumed) is there once.
        """
        parts: list[Rows] = []
        count = 0
        for entry in reversed(self.entries):
            if count >= most:
                break
            rows = self.read(entry.name)
            if rows is None:
                continue
            parts.append(replace(rows, observation=compact(rows.observation)))
            count += len(rows)
        if not parts:
            return None
        rows = once(joined(parts[::-1]))
        rows = rows.take(np.arange(max(0, len(rows) - most), len(rows)))
        return with_outcomes(rows, self.outcomes.table()) if (rows.decision != "").any() else rows

    @property
    def damaged(self) -> list[Damage]:
        """All that was ever set aside here, or was found gone and has not come back."""
        found = [(path, path.with_suffix("").exists()) for path in sorted(self.damaged_folder.glob("*.reason"))]
        return [Damage(path.stem, path.read_text().strip(), gone=not kept) for path, kept in found]

    @property
    def problems(self) -> tuple[str, ...]:
        """`noticed`, a sentence each that names the shard: for who learns from the store and has to tell of it."""
        return tuple(damage.reason for damage in self.noticed)

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def _read_manifest(self) -> dict[str, ShardEntry]:
        try:
            data = json.loads(self._manifest.read_bytes())
            stamp = DomainStamp.model_validate(data["domain"])
            entries = [ShardEntry(**entry) for entry in data["shards"]]
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}  # it says nothing that the shards do not
        if (difference := stamp.difference(self.stamp)) is not None:
            raise StoreError(f"'{self.folder}' is the store of another domain: {difference}; choose another folder")
        return {entry.name: entry for entry in entries} if data.get("schema_version") == SCHEMA_VERSION else {}

    def _write_manifest(self) -> None:
        data = {
            "schema_version": SCHEMA_VERSION,
            "domain": self.stamp.model_dump(mode="json"),
            "shards": [asdict(entry) for entry in self.entries],
        }
        write_whole(self._manifest, lambda file: file.write(json.dumps(data, indent=1).encode()))

    def _examine(self, path: Path) -> tuple[ShardEntry | None, str]:
        """What there is to say of a shard, or why nothing can be."""
        try:
            raw = path.read_bytes()
            rows = read_shard(path, self.stamp)
        except (ShardError, FileNotFoundError) as error:
            return None, str(error)
        entry = ShardEntry(
            name=path.name,
            bytes=len(raw),
            sha256=hashlib.sha256(raw).hexdigest(),
            rows=len(rows),
            games=len(np.unique(rows.game)),
            sources=_counts(rows.source),
            models=_counts(rows.model),
        )
        return entry, ""

    def _set_aside(self, path: Path, reason: str) -> list[Damage]:
        self.damaged_folder.mkdir(exist_ok=True)
        try:
            os.replace(path, self.damaged_folder / path.name)
        except FileNotFoundError:
            return self._gone(path.name)
        return self._note(Damage(path.name, reason))

    def _gone(self, name: str) -> list[Damage]:
        """What there is to say of a shard that is not there any more. One that was never known has been set aside, or
        taken back, by whoever put it there."""
        known = self._entries.get(name)
        if known is None:
            return []
        if (self.damaged_folder / name).exists():
            self.noticed.append(Damage(name, f"shard '{name}' was damaged, and another process has set it aside"))
            return self.noticed[-1:]
        self.damaged_folder.mkdir(exist_ok=True)
        reason = f"shard '{name}' is gone, and with it {known.rows} rows: the manifest lists it, but it was removed"
        return self._note(Damage(name, reason, gone=True))

    def _note(self, damage: Damage) -> list[Damage]:
        path = self.damaged_folder / f"{damage.name}.reason"
        write_whole(path, lambda file: file.write(damage.reason.encode()))
        self.noticed.append(damage)
        return [damage]

    def _forget_reason(self, name: str) -> None:
        """A shard that was gone and is back is no loss any more."""
        if not (self.damaged_folder / name).exists():
            (self.damaged_folder / f"{name}.reason").unlink(missing_ok=True)

    def _forget_abandoned(self) -> None:
        for folder in (self.folder, self.shards_folder, self.outcomes.folder, self.audits.folder):
            for path in folder.glob(".*.partial"):
                with suppress(FileNotFoundError):  # it has just been finished
                    if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                        path.unlink()


def once(rows: Rows) -> Rows:
    """Without the rows of a decision that its teacher gave again later: of those, the last."""
    which = np.flatnonzero(rows.decision != "")[::-1]
    if not len(which):
        return rows
    names = np.strings.add(np.strings.add(rows.source[which], "/"), rows.decision[which])
    _, first = np.unique(names, return_index=True)
    keep = rows.decision == ""
    keep[which[first]] = True
    return rows if keep.all() else rows.take(keep)


def _counts(values: Any) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
