"""What a decision would have cost had only one dear rung decided it: the language model, or the search.

Where that rung was asked, the call it made is the one it would have made. Elsewhere its cost is estimated. Tokens: by
the length of the prompt and what calls have used so far; before the first call, three characters a token and ANSWER
tokens. Seconds of a search: those a simulation has taken here so far, times the simulations that a search runs over all
kinds of states as the certificate counted them, as many times larger as runs here search by default, since the states
that networks leave to a search are not like the others; the certificate's own seconds count beside them as CERTIFIED
searches do. Without a certificate the searches so far are taken to be like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from escalade.app.prices import ModelPrice
from escalade.domains.base import Domain
from escalade.domains.decision import Decision, FailedDecision, RungReport
from escalade.nodes.language_model import ASIDE, CHARACTERS_PER_TOKEN, question_length
from escalade.nodes.questions import choice, names_of, situation

ANSWER = 20
"""Tokens of a forced function call that names one action."""
CERTIFIED = 30
"""Searches here that are believed as much as the certificate."""


@dataclass
class Averages:
    """What calls have cost so far, by their counts and sums; plain numbers that a ledger keeps."""

    calls: float = 0.0
    characters: float = 0.0
    read: float = 0.0
    written: float = 0.0
    searches: float = 0.0
    simulations: float = 0.0
    seconds: float = 0.0

    def add(self, other: Averages) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass(frozen=True)
class Alone:
    """usd: None if it has no price. seconds: of this machine's work. estimated: whether no such call was made."""

    usd: float | None
    seconds: float
    estimated: bool


@dataclass
class Counterfactuals:
    """price: of the language model, None if unpriced or if there is none. usd_per_hour: of this machine's time.
    search_seconds, search_simulations: of a search on average over all states, as a certificate has them; None without
    one. search_scale: how many times larger searches are here."""

    domain: Domain[Any]
    price: ModelPrice | None = None
    usd_per_hour: float = 0.0
    search_seconds: float | None = None
    search_simulations: float | None = None
    search_scale: float = 1.0
    averages: Averages = field(default_factory=Averages)

    def learned(self, decision: Decision) -> Averages:
        """What there is to learn from a decision: its own calls."""
        found, reports = Averages(), _by_rung(decision)
        tokens = _tokens(reports.get("reason"))
        if tokens is not None:
            found.calls, found.characters = 1.0, float(self._characters(decision.state))
            found.read, found.written = tokens
        search = reports.get("search")
        if search is not None and search.action is not None:
            found.searches, found.seconds = 1.0, search.work_ms / 1000
            ran = search.details.get("rootInfo", {}).get("visits", 0)
            found.simulations = float(ran) if isinstance(ran, int | float) else 0.0
        return found

    def llm_alone(self, decision: Decision) -> Alone | None:
        """As if the language model had decided at once; None where it has no price."""
        if self.price is None:
            return None
        tokens = _tokens(_by_rung(decision).get("reason"))
        if tokens is not None:
            return Alone(self.price.cost(*tokens), 0.0, estimated=False)
        a, characters = self.averages, self._characters(decision.state)
        if a.calls:
            read, written = a.read / max(a.characters, 1.0) * characters, a.written / a.calls
        else:
            read, written = characters / CHARACTERS_PER_TOKEN + ASIDE, float(ANSWER)
        return Alone(self.price.cost(read, written), 0.0, estimated=True)

    def search_alone(self, decision: Decision) -> Alone | None:
        """As if a full search had decided at once; None where it is not known how long that takes."""
        if not self.domain.has_simulator:
            return None
        search = _by_rung(decision).get("search")
        if search is not None and search.action is not None:
            seconds, estimated = search.work_ms / 1000, False
        else:
            estimated = True
            known = self._mean_seconds()
            if known is None:
                return None
            seconds = known
        return Alone(seconds / 3600 * self.usd_per_hour, seconds, estimated)

    def _mean_seconds(self) -> float | None:
        """Of a search, over all kinds of states."""
        a = self.averages
        if self.search_seconds is None:
            return a.seconds / a.searches if a.searches else None
        # The certificate's own count as so many, for the first few may be of states that are proven at once.
        seconds = a.seconds + CERTIFIED * self.search_seconds
        if self.search_simulations:
            ran = a.simulations + CERTIFIED * self.search_simulations
            return seconds / ran * self.search_simulations * self.search_scale
        return seconds / (a.searches + CERTIFIED)

    def _characters(self, state: str) -> int:
        """Of the prompt that asks about a state."""
        domain, parsed = self.domain, self.domain.parse(state)
        form = choice(names_of(domain, domain.legal_actions(parsed)), evaluates=domain.has_simulator)
        return question_length(form, situation(domain, parsed))


def work_seconds(decision: Decision | FailedDecision) -> float:
    """Seconds of this machine's work: its networks and searches."""
    return sum(report.work_ms for report in decision.rungs) / 1000


def _by_rung(decision: Decision) -> Mapping[str, RungReport]:
    return {report.rung: report for report in decision.rungs if report.outcome != "skipped"}


def _tokens(report: RungReport | None) -> tuple[float, float] | None:
    """Read and written, by the provider's usage record."""
    tokens = None if report is None else report.details.get("tokens")
    if not isinstance(tokens, dict):
        return None
    read, written = tokens.get("input_tokens"), tokens.get("output_tokens")
    if not isinstance(read, int | float) or not isinstance(written, int | float):
        return None
    return float(read), float(written)
