"""Keeping certificates true: a share of the decisions that networks made alone is audited, off the request's path.

Which ones is settled by their ids, before anyone knows how they turn out. The certificate's reference says what would
have been right (a solver, a search or a language model at once; labels and persons when their outcomes are reported),
and every certificate that would have let the networks decide that state, whoever did, learns what had come of it. Where
the losses show that a promise no longer holds (`escalade.neural.e_detector`), its certificate is not used any more, in
this process and, once they audit next, in all others that watch with the same file, restarts included. A new
certificate starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from escalade.app.sqlite_file import open_file
from escalade.domains.base import Domain
from escalade.domains.decision import Decision, RungReport
from escalade.neural.certificate import Certificate
from escalade.neural.e_detector import RISKS, EDetector, limit_for
from escalade.training.background import Background

HORIZON = 100_000
"""Decisions over which the chance of a false alarm is stated."""
PENDING = 10_000
"""Audited decisions that wait for their outcome, at most; the oldest go first."""
_TABLES = """
CREATE TABLE IF NOT EXISTS detectors (
  certificate TEXT PRIMARY KEY, domain TEXT NOT NULL, alpha REAL NOT NULL, delta REAL NOT NULL, reference TEXT NOT NULL,
  bundle TEXT NOT NULL, wealth TEXT NOT NULL, audits INTEGER NOT NULL, wrong INTEGER NOT NULL, since REAL NOT NULL,
  alarm_at REAL, problem TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (
  number INTEGER PRIMARY KEY, domain TEXT NOT NULL, decision TEXT NOT NULL UNIQUE, document TEXT NOT NULL);
"""
_SCHEMA_VERSION = 2

Acceptable = Callable[[str], set[int] | None]
"""The actions that the reference holds for right in a state's text; None where only an outcome can tell."""
NeuralReports = Callable[[str], Sequence[RungReport]]
"""What every network says of a state."""
OnAudit = Callable[[str], None]
"""Hears of each audit: right, wrong, failed, pending or shed."""

log = logging.getLogger("escalade")


@dataclass(frozen=True)
class WatchConfig:
    """share: of the decisions that are audited. false_alarms: chance of one within HORIZON of them while the
    promise holds."""

    share: float = 0.05
    false_alarms: float = 0.05

    @property
    def limit(self) -> float:
        """Of the detector."""
        return limit_for(self.false_alarms, max(1.0, HORIZON * self.share))


def certificate_key(certificate: Certificate) -> str:
    """16 hex digits that stand for all of a certificate."""
    return hashlib.sha256(certificate.model_dump_json().encode()).hexdigest()[:16]


def is_chosen(decision_id: str, share: float) -> bool:
    """Whether a decision of this id is audited: for about that share of ids."""
    number = int.from_bytes(hashlib.blake2b(b"audit" + decision_id.encode(), digest_size=8).digest(), "big")
    return number < share * 2**64


def accepted_action(certificate: Certificate, reports: Sequence[RungReport]) -> int | None:
    """What a certificate would have had the networks decide that said this; None if it would not have."""
    known = {report.rung: report for report in reports}
    for name in certificate.ladder:
        report, threshold = known.get(name), certificate.threshold(name)  # type: ignore[call-overload]
        if threshold is None or report is None or report.confidence is None or report.action is None:
            return None
        if report.details.get("novelty", 0.0) > 1.0:
            return None
        if threshold < 1 and report.confidence >= threshold:
            return int(report.action)
    return None


def _unheard(what: Any) -> None: ...


class Watch:
    """A decision sink, and what tells the router which certificates still hold. Close it; audits that wait when the
    process is killed are not made."""

    def __init__(
        self,
        path: Path,
        domain: Domain[Any],
        certificates: Sequence[Certificate],
        acceptable: Acceptable,
        reports: NeuralReports,
        config: WatchConfig | None = None,
        *,
        clock: Callable[[], float] = time.time,
        on_audit: OnAudit | None = None,
        on_alarm: Callable[[Certificate], None] | None = None,
        most: int = 1000,
    ) -> None:
        self.path, self.domain, self.certificates = path, domain, tuple(certificates)
        self._keys = {id(one): certificate_key(one) for one in self.certificates}
        self._acceptable, self._reports = acceptable, reports
        self.config, self._clock = config or WatchConfig(), clock
        self._on_audit, self._on_alarm = on_audit or _unheard, on_alarm or _unheard
        self._problems: dict[str, str] = {}
        with closing(_open(path)) as database:
            self._refresh(database)
        self._background: Background[Decision | tuple[str, int]] = Background(
            self._work, what="audits", seconds=0.5, batch=16, most=most, on_fate=self._fate
        )

    def __call__(self, decision: Decision) -> None:
        """Audit it if it is one of those to be, and there is room."""
        if is_chosen(decision.decision_id, self.config.share):
            self._background.offer(decision)

    def outcome(self, decision_id: str, action: int) -> None:
        """What would have been right in a decision, learned late."""
        if is_chosen(decision_id, self.config.share):
            self._background.offer((decision_id, action))

    def problem(self, certificate: Certificate) -> str | None:
        """Why a certificate is not to be used any more, as a clause; None while it is."""
        return self._problems.get(self._keys.get(id(certificate), ""))

    def flush(self) -> None:
        """Make the audits that wait."""
        self._background.flush()

    def close(self) -> None:
        self._background.close()

    def _fate(self, fate: str, count: int) -> None:
        if fate == "shed":
            for _ in range(count):
                self._on_audit("shed")

    def _work(self, things: list[Decision | tuple[str, int]]) -> int:
        with closing(_open(self.path)) as database:
            for thing in things:
                try:
                    self._take(database, thing)
                except sqlite3.Error as error:
                    raise OSError(f"the watch's file: {error}") from None  # tried again later
                except Exception as error:  # noqa: BLE001 -- a reference's own; the next audit may go well
                    log.warning("an audit failed: %s: %s", type(error).__name__, error)
                    self._on_audit("failed")
            self._refresh(database)
        return len(things)

    def _take(self, database: sqlite3.Connection, thing: Decision | tuple[str, int]) -> None:
        if isinstance(thing, tuple):
            decision_id, action = thing
            row = database.execute(
                "SELECT document FROM pending WHERE domain = ? AND decision = ?", (self.domain.name, decision_id)
            ).fetchone()
            if row is None:
                return
            known = json.loads(row[0])
            self._learn(database, known["action"], known["accepted"], {action})
            with database:
                database.execute("DELETE FROM pending WHERE decision = ?", (decision_id,))
            return
        # Asked anew, of every network: whom the decision asked depends on the certificate it was made by, and what is
        # learned of another one must not.
        reports = self._reports(thing.state)
        accepted: dict[str, int] = {}
        for one in self.certificates:
            chosen = accepted_action(one, reports)
            if chosen is not None:
                accepted[self._keys[id(one)]] = chosen
        if not accepted:
            return  # no promise is about it
        right = self._acceptable(thing.state)
        if right is not None:
            self._learn(database, thing.action, accepted, right)
            return
        with database:
            known = json.dumps({"action": thing.action, "accepted": accepted})
            values = (self.domain.name, thing.decision_id, known)
            database.execute("INSERT OR IGNORE INTO pending (domain, decision, document) VALUES (?, ?, ?)", values)
            database.execute("DELETE FROM pending WHERE number <= (SELECT max(number) FROM pending) - ?", (PENDING,))
        self._on_audit("pending")

    def _learn(self, database: sqlite3.Connection, done: int, accepted: Mapping[str, int], right: set[int]) -> None:
        """Tell every certificate that would have accepted an action, by key. done: the action that was taken."""
        self._on_audit("right" if done in right else "wrong")
        for certificate in self.certificates:
            action = accepted.get(self._keys[id(certificate)])
            if action is not None:
                self._update(database, certificate, action not in right)

    def _update(self, database: sqlite3.Connection, certificate: Certificate, wrong: bool) -> None:
        key, now = self._keys[id(certificate)], self._clock()
        database.execute("BEGIN IMMEDIATE")  # other processes read and write the same detector
        with database:
            row = database.execute(
                "SELECT wealth, audits, wrong, since, alarm_at FROM detectors WHERE certificate = ?", (key,)
            ).fetchone()
            known = EDetector(certificate.alpha, self.config.limit)
            since, alarm_at = now, None
            if row is not None:
                wealth, audits, errors, since, alarm_at = row
                known = EDetector(certificate.alpha, self.config.limit, json.loads(wealth), audits, errors)
            raised = known.update(wrong) and alarm_at is None
            problem = None
            if raised:
                alarm_at, problem = now, self._told(database, certificate, known, since, now)
            database.execute(
                "INSERT INTO detectors VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (certificate) DO UPDATE SET wealth = excluded.wealth, audits = excluded.audits, "
                "wrong = excluded.wrong, alarm_at = excluded.alarm_at, problem = coalesce(excluded.problem, problem)",
                (
                    key,
                    self.domain.name,
                    certificate.alpha,
                    certificate.delta,
                    certificate.reference,
                    certificate.bundle,
                    json.dumps(known.wealth),
                    known.audits,
                    known.wrong,
                    since,
                    alarm_at,
                    problem,
                ),
            )
        if raised:
            log.error("certificate of '%s' at alpha %g: %s", self.domain.name, certificate.alpha, problem)
            self._on_alarm(certificate)

    def _told(
        self, database: sqlite3.Connection, certificate: Certificate, known: EDetector, since: float, now: float
    ) -> str:
        earlier = database.execute(
            "SELECT count(*) FROM detectors WHERE domain = ? AND alarm_at IS NOT NULL", (self.domain.name,)
        ).fetchone()[0]
        # However often it is certified anew, all together are wrong with chance delta at most.
        delta = certificate.delta * 6 / (math.pi**2 * (earlier + 2) ** 2)
        days = [time.strftime("%Y-%m-%d", time.gmtime(when)) for when in (since, now)]
        return (
            f"the watch raised the alarm on {days[1]}: {known.wrong} of {known.audits} audits since {days[0]} were "
            f"wrong, so more than {certificate.alpha:g} are by now; certify again, with --delta {delta:.2g}"
        )

    def _refresh(self, database: sqlite3.Connection) -> None:
        """Read which of our certificates have an alarm, raised here or elsewhere."""
        rows = database.execute("SELECT certificate, problem FROM detectors WHERE alarm_at IS NOT NULL").fetchall()
        self._problems = {key: problem or "the watch raised the alarm" for key, problem in rows}


@dataclass(frozen=True)
class Watched:
    """What the file says of one certificate. value, over limit: how near the alarm is."""

    domain: str
    alpha: float
    delta: float
    reference: str
    bundle: str
    audits: int
    wrong: int
    since: float
    value: float
    problem: str | None


def watched(path: Path, domain: str | None = None) -> list[Watched]:
    """All certificates in a watch's file."""
    with closing(_open(path)) as database:
        rows = database.execute(
            "SELECT domain, alpha, delta, reference, bundle, audits, wrong, since, problem, wealth FROM detectors "
            "WHERE domain = coalesce(?, domain) ORDER BY domain, alpha, since",
            (domain,),
        ).fetchall()
    found = []
    for name, alpha, delta, reference, bundle, audits, wrong, since, problem, wealth in rows:
        value = sum(json.loads(wealth)) / len(RISKS)
        found.append(Watched(name, alpha, delta, reference, bundle, audits, wrong, since, value, problem))
    return found


def _open(path: Path) -> sqlite3.Connection:
    return open_file(path, "watch", "ESCALADE_WATCH", _TABLES, _SCHEMA_VERSION)
