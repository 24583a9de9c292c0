"""Does a domain keep the laws of `domains/base.py`? A check to run on your own:

    from escalade.domains.conformance import check_domain
    print(check_domain(MyDomain()))

Random games are played from the initial state (and from `states`), and every law is tried on the states reached. A
law that fails names one counterexample and what to mend. Whatever the domain raises is reported as a failed law, never
as a traceback; only an endless loop inside the domain cannot be caught.

What cannot be checked without knowing the game, and is not claimed: that the rules are the intended ones, that every
refused text is truly no state, and that planes of an observation are ordered from the mover's view. Of the
perspective law this much is checked: a game in which a player never wins by their own last move has its outcomes
turned round (see `last_mover_loses`); kernels, playouts, symmetries and states that encode alike agree on the sign.
For the rest, the report shows finished games in sentences (`finished`), which whoever knows the rules can judge.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from escalade.domains import conformance_arrays as arrays
from escalade.domains import conformance_examples as examples
from escalade.domains import conformance_laws as laws
from escalade.domains import conformance_play as play
from escalade.domains import conformance_proofs as proofs
from escalade.domains import conformance_solver as solving
from escalade.domains import conformance_words as words
from escalade.domains.conformance_probe import MAX_PLIES, Law, LawBroken, LawSkipped, Probe, told

WELL_FORMED = "its attributes are well formed"
GAMES = "games can be played and end"
INVERSE = "parse and format are inverse"
LEGAL = "legal actions are ascending, distinct and in range"
OUTCOMES = "outcomes are finite and in [-1, 1]"
PLAYER = "the player to move is 0 or 1"
ENDINGS = "ending_actions agrees with step"
PROOFS = "proven_actions agrees with what follows"
ENCODE = "encode gives float32 of the promised shape, whatever the batch"
ALIKE = "states that encode alike play alike"
ROWS = "to_rows gives int64 of the promised shape"
STEPS = "step_rows agrees with step"
RULES = "rules_rows agrees with the plain rules"
PLAYOUT = "playout_rows depends on row and key alone"

TO_JUDGE = "For you to judge, as no check can: has the right player won?"

LAWS = (
    Law(WELL_FORMED, laws.attributes),
    Law(GAMES, play.games_end),
    Law(INVERSE, laws.parse_undoes_format),
    Law("parse refuses what is not a state", laws.parse_refuses_politely),
    Law("action names are distinct, and parse_action is inverse to them", laws.action_names),
    Law(LEGAL, laws.legal_in_order),
    Law("finished states, and only they, have no legal action", laws.legal_until_over),
    Law("step refuses illegal actions", laws.step_refuses),
    Law("no call changes a state", play.nothing_changes),
    Law("the same question gets the same answer", play.same_answers, (GAMES,)),
    Law("answers are plain Python values", play.plain_answers),
    Law(PLAYER, laws.player_is_0_or_1),
    Law(OUTCOMES, laws.outcomes_in_range),
    Law("outcomes are seen from the player to move", play.outcomes_from_view, (OUTCOMES, PLAYER)),
    Law(ENDINGS, laws.endings_known, (GAMES, OUTCOMES, PLAYER)),
    Law(PROOFS, proofs.proofs_hold, (GAMES, OUTCOMES, PLAYER, ENDINGS)),
    Law("the exact solver agrees with playing out", solving.solver_is_exact, (GAMES, LEGAL, OUTCOMES, PLAYER)),
    Law("describe gives a text", words.describes),
    Law("examples are states that can be decided", words.shows_notation, (GAMES, INVERSE)),
    Law("rungs_for names rungs", laws.rules_name_rungs),
    Law(ENCODE, laws.encodes),
    Law(ALIKE, play.alike_play_alike, (GAMES, LEGAL, OUTCOMES, ENCODE)),
    Law("symmetries leave the rules unchanged", play.symmetries_hold, (GAMES, LEGAL, OUTCOMES, ENCODE, ALIKE)),
    Law(ROWS, arrays.rows),
    Law(STEPS, arrays.steps, (GAMES, ROWS)),
    Law(RULES, arrays.rules, (ROWS,)),
    Law("encode_rows agrees with encode", arrays.encodings, (ROWS, ENCODE)),
    Law("ends_rows agrees with step", arrays.ends, (GAMES, OUTCOMES, PLAYER, ROWS, STEPS, RULES)),
    Law("proofs_rows agrees with proven_actions", arrays.proofs, (GAMES, PROOFS, ROWS, RULES)),
    Law(PLAYOUT, arrays.playouts, (ROWS,)),
    Law("playout_rows plays like uniformly random steps", arrays.playout_means, (GAMES, OUTCOMES, ROWS, PLAYOUT)),
)
LAW_NAMES = tuple(law.name for law in LAWS)
"""Every law, in the order they are reported."""


@dataclass(frozen=True)
class LawResult:
    """What came of one law. `cases`: how many were tried, the failing one included. `detail`: why it was
    skipped, the counterexample and the fix, or what else is worth knowing of a law that passed."""

    law: str
    outcome: Literal["passed", "failed", "skipped"]
    cases: int
    detail: str = ""


@dataclass(frozen=True)
class ConformanceReport:
    """What came of all laws on one domain. Printing it gives the whole table."""

    domain: str
    results: tuple[LawResult, ...]
    finished: tuple[str, ...] = ()
    """Finished games in sentences, several lines each: whether the right player has won is for a person to judge."""

    @property
    def passed(self) -> bool:
        """Whether no law failed. Laws that were skipped do not count against the domain."""
        return not self.failures

    @property
    def failures(self) -> tuple[LawResult, ...]:
        return tuple(result for result in self.results if result.outcome == "failed")

    def __str__(self) -> str:
        count = {
            kind: sum(result.outcome == kind for result in self.results) for kind in ("passed", "failed", "skipped")
        }
        lines = [f"{self.domain}: " + ", ".join(f"{number} {kind}" for kind, number in count.items())]
        for result in self.results:
            word = result.outcome.upper() if result.outcome == "failed" else result.outcome
            number = "" if result.outcome == "skipped" else f" ({result.cases})"
            lines.append(f"  {word:8}{result.law}{number}" + (f": {result.detail}" if result.detail else ""))
        if self.finished:
            lines.append(f"  {TO_JUDGE}")
            lines += [f"  {line}" for text in self.finished for line in text.splitlines()]
        return "\n".join(lines)


def check_domain(
    domain: Any,
    *,
    states: Sequence[str] = (),
    games: int = 200,
    seed: int = 0,
    max_plies: int = MAX_PLIES,
    last_mover_loses: bool = False,
) -> ConformanceReport:
    """Check every law on a domain.

    domain: an instance, not the class.
    states: texts of states to check besides those that random games reach. A domain without a simulator needs them;
        a few plain texts are tried if there are none.
    games: random games to play, at least 1.
    seed: of all chance; equal seed, equal report.
    max_plies: a game that is not over after so many actions breaks the law that games end.
    last_mover_loses: set it for a game in which whoever makes the last move can only lose (misere nim).
    """
    if games < 1:
        raise ValueError(f"games must be at least 1, not {games}")
    probe = Probe(domain, list(states), games, seed, max_plies, last_mover_loses)
    results = [_check(LAWS[0], probe, set())]
    if results[0].outcome == "failed":
        results += [LawResult(law, "skipped", 0, f"needs: {WELL_FORMED}") for law in LAW_NAMES[1:]]
        return ConformanceReport(probe.name, tuple(results))
    probe.reach()
    for law in LAWS[1:]:
        results.append(_check(law, probe, {result.law for result in results if result.outcome == "failed"}))
    finished: tuple[str, ...] = ()
    if getattr(domain, "has_simulator", False) is True:
        with contextlib.suppress(Exception):  # whatever fails there, a law has reported
            finished = tuple(examples.finished_games(probe))
    return ConformanceReport(probe.name, tuple(results), finished)


def _check(law: Law, probe: Probe, failed: set[str]) -> LawResult:
    count = 0
    try:
        for need in law.needs:
            if need in failed:
                raise LawSkipped(f"needs: {need}")
        cases = law.check(probe)
        while True:
            try:
                next(cases)
            except StopIteration as end:
                return LawResult(law.name, "passed", count, end.value or "")
            count += 1
    except LawSkipped as reason:
        return LawResult(law.name, "skipped", count, str(reason))
    except LawBroken as fault:
        return LawResult(law.name, "failed", count + 1, str(fault))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - answers of an unknown domain may fail anywhere, in == or in len()
        return LawResult(law.name, "failed", count + 1, f"an answer could not be used: {told(error)}")
