"""Games that a network plays against itself, with search: the experience it learns most from.

Games go on in lock-step, so that every search is one of many; a finished one is replaced at once. They are split among
as many threads as the evaluator gains from, each with a batch of its own (`training/game_batch.py`), so that no core
waits for another. What a game is depends on its number, the seed and the weights alone (on one machine, up to the
rounding of a network).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import AnyEvaluator
from escalade.domains.lengths import Lengths, lengths_of
from escalade.search.config import SearchConfig, whole
from escalade.search.engine import cohorts_of
from escalade.search.searchable import check_simulator
from escalade.training.game_batch import GameBatch, Moved
from escalade.training.rows import Rows, joined

AHEAD = 2
"""Moves that a thread may make before those of the others are in."""


@dataclass(frozen=True)
class SelfPlayConfig:
    """search: of the moves that teach. A Gumbel search plays samples of its improved policy; a PUCT search needs noise
        and a temperature to play more than one game.
    quick: of the other moves, if any: a game then costs less, and more games end (playout-cap randomisation: D. Wu,
        "Accelerating self-play learning in Go", 2019, section 3.1). Their rows have no policy.
    teaching: share of moves that are searched by `search` where there is a `quick`.
    at_once: games under way.
    opening_plies: games begin with a random number of random moves, at most so many, which teach nothing. None: half
        of a random game.
    max_plies: a game still open after so many moves, those of the opening included, ends with the value that a search
        gives its last position. None: what the domain says no game exceeds, or some times what its random games take
        (`escalade.domains.lengths`).
    """

    search: SearchConfig = field(default_factory=lambda: SearchConfig(simulations=32, algorithm="gumbel"))
    quick: SearchConfig | None = None
    teaching: float = 0.25
    at_once: int = 512
    opening_plies: int | None = 2
    max_plies: int | None = None

    def __post_init__(self) -> None:
        whole("at_once", self.at_once, 1)
        for name, least in (("opening_plies", 0), ("max_plies", 1)):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), least)
        if not 0 < self.teaching <= 1:
            raise SettingsError(f"teaching must be above 0 and at most 1, not {self.teaching!r}")

    def of(self, lengths: Lengths) -> SelfPlayConfig:
        """The same with every number of plies known."""
        opening = lengths.opening if self.opening_plies is None else self.opening_plies
        return replace(self, opening_plies=opening, max_plies=self.max_plies or lengths.limit)


@dataclass
class SelfPlayStats:
    """What was played. won, drawn, lost: games as the first player saw them, by the rules alone; those cut short are in
    none. positions: searched ones, those of games under way included; teaching: those of them whose policy is to be
    learned."""

    games: int = 0
    positions: int = 0
    teaching: int = 0
    simulations: int = 0
    cut_short: int = 0
    won: int = 0
    drawn: int = 0
    lost: int = 0


class SelfPlay:
    """Plays games of a domain. stats: of all it has played.

    Raises NoSimulatorError for a domain that cannot be played.
    """

    def __init__(self, domain: Domain[Any], evaluator: AnyEvaluator, config: SelfPlayConfig, *, seed: int) -> None:
        check_simulator(domain)
        self.domain = domain
        self.evaluator = evaluator
        self.config = config if None not in (config.opening_plies, config.max_plies) else config.of(lengths_of(domain))
        self.seed = seed
        self.stats = SelfPlayStats()

    def play(self, numbers: Iterable[int], run: str = "self-play", model: str = "") -> Iterator[Rows]:
        """Play the games of these numbers; yields the rows of games as they end, in the same order on as many cores.

        run: with the number, the name of a game: "run/00000017". model: name of the weights, kept with the rows.
        """
        return (rows for rows in self.turns(numbers, run, model) if rows is not None)

    def turns(
        self,
        numbers: Iterable[int],
        run: str = "self-play",
        model: str = "",
        *,
        until: Callable[[], bool] | None = None,
    ) -> Iterator[Rows | None]:
        """As `play`, but yields after every move in all games, None where none ended.

        until: asked before every move; once it is true, the games under way are cut short. Their rows have no outcome
        but what a search has proven, so that the value to learn is what the search thought.
        """
        at_once = self.config.at_once
        _, threads = cohorts_of(at_once, self.domain, self.evaluator)
        stop = threading.Event()
        shares = [at_once * (part + 1) // threads - at_once * part // threads for part in range(threads)]
        batches = [
            GameBatch(
                self.domain, self.evaluator, self.config, self.seed, places, share, run, model, stop, until
            ).moves()
            for places, share in zip(shares, dealt(numbers, threads), strict=True)
        ]
        with closing(in_turn(batches, stop)) as turns:
            for turn in turns:
                for moved in turn:
                    self._count(moved)
                rows = [moved.rows for moved in turn if moved.rows is not None]
                yield joined(rows) if rows else None

    def _count(self, moved: Moved) -> None:
        stats = self.stats
        stats.positions += moved.searched
        stats.teaching += moved.teaching
        stats.simulations += moved.simulations
        stats.games += len(moved.ends)
        stats.cut_short += int(np.isnan(moved.ends).sum())
        stats.won += int((moved.ends > 0).sum())
        stats.drawn += int((moved.ends == 0).sum())
        stats.lost += int((moved.ends < 0).sum())


def in_turn(batches: list[Iterator[Moved]], stop: threading.Event) -> Generator[list[Moved]]:
    """The next of what each batch gives, until all are through. More than one work each in a thread of its own, up to
    AHEAD moves ahead, so that none waits for another; `stop` is set, and they end, when this does."""
    if len(batches) == 1:
        yield from ([moved] for moved in batches[0])
        return
    threads = [ThreadPoolExecutor(1, "escalade-self-play") for _ in batches]
    try:
        ahead = [
            (thread, batch, deque(thread.submit(next, batch, None) for _ in range(AHEAD)))
            for thread, batch in zip(threads, batches, strict=True)
        ]
        while ahead:
            turn = [(each, each[2].popleft().result()) for each in ahead]
            ahead = [each for each, moved in turn if moved is not None]
            for thread, batch, futures in ahead:
                futures.append(thread.submit(next, batch, None))
            yield [moved for _, moved in turn if moved is not None]
    finally:
        stop.set()
        for thread in threads:
            thread.shutdown(cancel_futures=True)


def dealt(numbers: Iterable[int], hands: int) -> list[Iterator[int]]:
    """Numbers dealt out like cards, whoever asks first, and in whatever threads."""
    source, lock = iter(numbers), threading.Lock()
    held = [deque[int]() for _ in range(hands)]

    def hand(which: int) -> Iterator[int]:
        while True:
            with lock:
                if not held[which]:
                    for other, number in zip(held, source, strict=False):
                        other.append(number)
                if not held[which]:
                    return
                number = held[which].popleft()
            yield number

    return [hand(which) for which in range(hands)]
