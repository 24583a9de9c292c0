"""Keeping certificates true: a share of the decisions that networks made alone is audited, off the request's path.

Which ones is settled by their ids, before anyone knows how they turn out. The certificate's reference says what would
have been right (a solver, a search or a language model at once, a person where one decided; labels and persons else
when their outcomes are reported), and every certificate that would have let the networks decide that state, whoever
did, learns what had come of it. Where the losses show that a promise no longer holds (`escalade.neural.e_detector`),
its certificate is not used any more, in this process and, once they audit next, in all others that watch with the same
file, restarts included. A new certificate starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from escalade.app.sqlite_file import written_later
from escalade.app.watch_file import WATCH, count_left_out, open_watch_file, problem_of, problems_in
from escalade.domains.base import Domain
from escalade.domains.decision import Decision, RungReport
from escalade.neural.certificate import Certificate
from escalade.neural.e_detector import EDetector, limit_for
from escalade.training.audits import AuditRow
from escalade.training.background import CLOSING_S, Background

HORIZON = 100_000
"""Decisions over which the chance of a false alarm is stated."""
PENDING = 10_000
"""Audited decisions that wait for their outcome, at most; the oldest go first."""
EARLY = 10_000
"""Outcomes that came before their audit and are kept for it, at most; the oldest go first."""
LOOK_SECONDS = 5.0
"""How often is looked for alarms that other processes raised."""
DECIDES = {"llm": "reason", "person": "human"}
"""References, and the rung that decides as they would: such a decision needs no audit to be asked of them."""
Acceptable = Callable[[str], set[int] | None]
"""The actions that the reference holds for right in a state's text; None where only an outcome can tell."""
NeuralReports = Callable[[str], Sequence[RungReport]]
"""What every network says of a state."""
Reported = tuple[str, int]
"""A decision's id, and the action that would have been right."""
OnAudit = Callable[[str], None]
"""Hears of each audit: right, wrong, failed, pending, shed, or taught, which is left out."""

log = logging.getLogger("escalade")


@dataclass(frozen=True)
class Audit:
    """A decision that was looked into."""

    decision: Decision
    accepted: dict[str, int]
    """What each certificate would have had the networks do, by key."""
    right: set[int] | None
    """What the reference holds for right, None where only an outcome can tell."""


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
    process is killed are not made.

    taught: whether a state taught the bundle; such audits are left out. keep: is given what each audit found, whatever
    the certificates, so that later ones can be proven on it; then every decision that is drawn is audited. reference:
    who is asked, as these name it.
    """

    def __init__(
        self,
        path: Path,
        domain: Domain[Any],
        certificates: Sequence[Certificate],
        acceptable: Acceptable,
        reports: NeuralReports,
        config: WatchConfig | None = None,
        *,
        taught: Callable[[str], bool] | None = None,
        keep: Callable[[AuditRow], None] | None = None,
        reference: str = "",
        clock: Callable[[], float] = time.time,
        on_audit: OnAudit | None = None,
        on_alarm: Callable[[Certificate], None] | None = None,
        most: int = 1000,
    ) -> None:
        self.path, self.domain, self.certificates = path, domain, tuple(certificates)
        self._keys = {id(one): certificate_key(one) for one in self.certificates}
        self._acceptable, self._reports, self._taught = acceptable, reports, taught
        self._keep, self._reference = keep, reference
        self.config, self._clock = config or WatchConfig(), clock
        self._on_audit, self._on_alarm = on_audit or _unheard, on_alarm or _unheard
        self._census = any(one.census for one in self.certificates)
        self._left_out = 0  # and not yet counted in the file
        self._problems: dict[str, str] = {}
        self._asked: dict[str, Audit | None] = {}
        with closing(open_watch_file(path)) as database:
            self._problems = problems_in(database)
        self._looked = time.monotonic()
        self._background: Background[Decision | Reported | None] = Background(
            self._work, what="audits", seconds=0.5, batch=16, most=most, on_fate=self._fate, records=False
        )

    def __call__(self, decision: Decision) -> None:
        """Audit it if it is one of those to be, and there is room."""
        if is_chosen(decision.decision_id, self.config.share):
            self._background.offer(decision)

    def outcome(self, decision_id: str, action: int) -> None:
        """What would have been right in a decision, learned late. The first that is told counts."""
        if is_chosen(decision_id, self.config.share):
            self._background.offer((decision_id, action))

    def problem(self, certificate: Certificate) -> str | None:
        """Why a certificate is not to be used any more, as a clause; None while it is."""
        now = time.monotonic()
        if now - self._looked > LOOK_SECONDS:
            self._looked = now
            self._background.offer(None)  # has another process raised an alarm?
        return self._problems.get(self._keys.get(id(certificate), ""))

    @property
    def waiting(self) -> int:
        """Audits to be made."""
        return self._background.waiting

    def flush(self, seconds: float = CLOSING_S) -> None:
        """Make the audits that wait, as many as that time allows."""
        self._background.flush(seconds)

    def close(self, seconds: float = CLOSING_S) -> None:
        """Make the audits that wait, as many as that time allows."""
        self._background.close(seconds)

    def _fate(self, fate: str, count: int) -> None:
        if fate == "shed":
            for _ in range(count):
                self._on_audit("shed")

    def _work(self, things: list[Decision | Reported | None]) -> int:
        """All of them in one transaction: after an error none of them has counted, and all come again."""
        for thing in things:  # beforehand, as the file is not to be held while a reference thinks
            if isinstance(thing, Decision) and thing.decision_id not in self._asked:
                self._asked[thing.decision_id] = self._ask(thing)
        told: list[str] = []
        found: list[AuditRow] = []
        with written_later(self.path, WATCH) as database:  # other processes read and write the same detectors
            for thing in things:
                if isinstance(thing, tuple):
                    told += self._late(database, *thing, found)
                elif thing is not None and (audit := self._asked[thing.decision_id]) is not None:
                    told += self._enter(database, audit, found)
            count_left_out(database, self.domain.name, self._left_out)
            problems = problems_in(database)
        self._left_out = 0
        self._asked.clear()
        if self._keep is not None:
            for row in found:
                self._keep(row)
        self._looked = time.monotonic()
        for result in told:
            self._on_audit(result)
        before, self._problems = self._problems, problems
        for one in self.certificates:
            key = self._keys[id(one)]
            if key in problems and key not in before:
                log.error("certificate of '%s' at alpha %g: %s", self.domain.name, one.alpha, problems[key])
                self._on_alarm(one)
        return len(things)

    def _ask(self, decision: Decision) -> Audit | None:
        """None where there is nothing to learn from the decision, or the reference failed."""
        try:
            accepted = self._accepted(decision.state)
            if not accepted and self._keep is None:
                return None
            right = self._acceptable(decision.state) if decision.source != DECIDES.get(self._reference) else None
            if right is None and decision.source in ("human", DECIDES.get(self._reference)):
                right = {decision.action}  # who decided is who would be asked, or waited for
            return Audit(decision, accepted, right)
        except Exception as error:  # noqa: BLE001 -- a reference's own; the next audit may go well
            log.warning("an audit failed: %s: %s", type(error).__name__, error)
            self._on_audit("failed")
            return None

    def _accepted(self, state: str) -> dict[str, int]:
        """What the certificates would have had the networks decide, by key; nothing where the state taught the bundle,
        which may know its answer by heart."""
        if not self.certificates:
            return {}
        if not self._census and self._taught is not None and self._taught(state):
            self._left_out += 1
            self._on_audit("taught")
            return {}
        # Asked anew, of every network: whom the decision asked depends on the certificate it was made by, and what is
        # learned of another one must not.
        reports = self._reports(state)
        found = {self._keys[id(one)]: accepted_action(one, reports) for one in self.certificates}
        return {key: action for key, action in found.items() if action is not None}

    def _enter(self, database: sqlite3.Connection, audit: Audit, found: list[AuditRow]) -> list[str]:
        """Take an audit in; what to report of it. found: is given what it found."""
        decision = audit.decision
        known = {"state": decision.state, "source": decision.source, "action": decision.action}
        if audit.right is not None:
            found.append(self._row(decision.decision_id, known, audit.right))
            return self._learn(database, decision.action, audit.accepted, audit.right)
        name = (self.domain.name, decision.decision_id)
        early = database.execute("SELECT action FROM early WHERE domain = ? AND decision = ?", name).fetchone()
        if early is not None:
            database.execute("DELETE FROM early WHERE domain = ? AND decision = ?", name)
            found.append(self._row(decision.decision_id, known, {early[0]}))
            return ["pending", *self._learn(database, decision.action, audit.accepted, {early[0]})]
        document = json.dumps({**known, "accepted": audit.accepted})
        database.execute(
            "INSERT OR IGNORE INTO pending (domain, decision, document) VALUES (?, ?, ?)", (*name, document)
        )
        database.execute("DELETE FROM pending WHERE number <= (SELECT max(number) FROM pending) - ?", (PENDING,))
        return ["pending"]

    def _late(self, database: sqlite3.Connection, decision: str, action: int, found: list[AuditRow]) -> list[str]:
        """Take in what would have been right in a decision; what to report of it."""
        name = (self.domain.name, decision)
        row = database.execute("SELECT document FROM pending WHERE domain = ? AND decision = ?", name).fetchone()
        if row is None:  # another process may still be at its audit; or no promise is about it
            database.execute("INSERT OR IGNORE INTO early (domain, decision, action) VALUES (?, ?, ?)", (*name, action))
            database.execute("DELETE FROM early WHERE number <= (SELECT max(number) FROM early) - ?", (EARLY,))
            return []
        database.execute("DELETE FROM pending WHERE domain = ? AND decision = ?", name)
        known = json.loads(row[0])
        if "state" in known:  # not so in files of older versions
            found.append(self._row(decision, known, {action}))
        return self._learn(database, known["action"], known["accepted"], {action})

    def _row(self, decision: str, known: Mapping[str, Any], right: set[int]) -> AuditRow:
        return AuditRow(
            decision,
            known["state"],
            tuple(sorted(right)),
            self._reference,
            known["source"],
            self.config.share,
            self._clock(),
        )

    def _learn(
        self, database: sqlite3.Connection, done: int, accepted: Mapping[str, int], right: set[int]
    ) -> list[str]:
        """Update every certificate that would have accepted an action, by key. done: the action that was taken."""
        for certificate in self.certificates:
            action = accepted.get(self._keys[id(certificate)])
            if action is not None:
                self._update(database, certificate, action not in right)
        return ["right" if done in right else "wrong"]

    def _update(self, database: sqlite3.Connection, certificate: Certificate, wrong: bool) -> None:
        key, now, limit = self._keys[id(certificate)], self._clock(), self.config.limit
        row = database.execute(
            "SELECT wealth, audits, wrong, since, alarm_at, alarm_limit FROM detectors WHERE certificate = ?", (key,)
        ).fetchone()
        known, since, alarm_at, problem = EDetector(certificate.alpha, limit), now, None, None
        # With other settings another chance of a false alarm is stated, so it begins afresh.
        if row is not None and (row[5] == limit or row[4] is not None):
            known = EDetector(certificate.alpha, limit, json.loads(row[0]), row[1], row[2])
            since, alarm_at = row[3], row[4]
        if known.update(wrong) and alarm_at is None:
            alarm_at, problem = now, self._told(database, certificate, known, since, now)
        values = {
            "certificate": key,
            "domain": self.domain.name,
            "alpha": certificate.alpha,
            "delta": certificate.delta,
            "reference": certificate.reference,
            "bundle": certificate.bundle,
            "alarm_limit": limit,
            "wealth": json.dumps(known.wealth),
            "audits": known.audits,
            "wrong": known.wrong,
            "since": since,
            "alarm_at": alarm_at,
            "problem": problem if row is None else problem or problem_of(database, key),
        }
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        database.execute(f"INSERT OR REPLACE INTO detectors ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608

    def _told(
        self, database: sqlite3.Connection, certificate: Certificate, known: EDetector, since: float, now: float
    ) -> str:
        earlier, first = database.execute(
            "SELECT count(*), max(delta) FROM detectors WHERE domain = ? AND alpha = ? AND alarm_at IS NOT NULL",
            (self.domain.name, certificate.alpha),
        ).fetchone()
        # Half as much each time: however often it is certified anew, all together come to twice the first one's.
        delta = max(first or 0.0, certificate.delta) / 2 ** (earlier + 1)
        days = [time.strftime("%Y-%m-%d", time.gmtime(when)) for when in (since, now)]
        return (
            f"the watch raised the alarm on {days[1]}: {known.wrong} of {known.audits} audits since {days[0]} were "
            f"wrong, so more than {certificate.alpha:g} are by now; certify again, with --delta {delta:.2g}"
        )
