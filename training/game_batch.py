"""Games in lock-step on one thread, all that there is to know of them in arrays."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray
from escalade.domains.evaluator import AnyEvaluator
from escalade.domains.random_bits import uniforms
from escalade.search.batch import BatchSearch
from escalade.search.cohort import spread
from escalade.training.positions import positions_of
from escalade.training.rows import Rows

if TYPE_CHECKING:
    from escalade.training.self_play import SelfPlayConfig

FIRST_ROOM = 64
"""Positions of a game; there is room for twice as many whenever one is longer."""
OPENING, HURRY = 2**32, 2**62
"""Places under a game's key, above those of its plies: chance of its opening, and of which moves are quick."""


class Moved(NamedTuple):
    """What one move in every game came to. searched: positions; teaching: those of them whose policy is to be learned.
    ends `[E]`: of the games that ended how they did, as the first player saw it; NaN if they were cut short. rows: of
    those games, None if there are none."""

    searched: int
    teaching: int
    simulations: int
    ends: FloatArray
    rows: Rows | None


class GameBatch:
    """Plays the games of these numbers, `places` of them at once; one that has ended is replaced at once.

    run, model: as `SelfPlay.play`. stop: once it is set, CancelledSearch is raised. until: asked before every move;
    once it is true, the games under way are cut short, their end unknown.
    """

    def __init__(
        self,
        domain: Domain[Any],
        evaluator: AnyEvaluator,
        config: SelfPlayConfig,
        seed: int,
        places: int,
        numbers: Iterator[int],
        run: str,
        model: str,
        stop: threading.Event,
        until: Callable[[], bool] | None = None,
    ) -> None:
        self._until = until
        assert config.opening_plies is not None  # as `SelfPlay` has them
        assert config.max_plies is not None
        self._most_opening, self._max_plies = config.opening_plies, config.max_plies
        self._config, self._seed, self._numbers = config, seed, numbers
        self._run, self._model, self._stop = run, model, stop
        self._positions = positions_of(domain)
        simulations = max(each.simulations for each in (config.search, config.quick) if each is not None)
        self._search = BatchSearch(domain, evaluator, places, simulations)
        self._open = np.zeros(0, np.int64)
        """Places of the games under way."""
        # Of the game at each place, `[P]`:
        self._number = np.zeros(places, np.int64)
        self._key = np.zeros(places, np.uint64)
        self._first = np.zeros(places, np.int64)  # moves of its opening
        self._ply = np.zeros(places, np.int64)  # moves by now
        # Of its position after so many moves, `[P, L]` or `[P, L, A]`:
        room, actions = (places, FIRST_ROOM), domain.num_actions
        self._plies: dict[str, NDArray[Any]] = {
            "state": self._positions.room(*room),
            "to_move": np.zeros(room, np.int8),
            "action": np.zeros(room, np.int32),
            "legal": np.zeros((*room, actions), np.bool_),
            "policy": np.zeros((*room, actions), np.float32),
            "value": np.zeros(room, np.float32),
            "proven": np.zeros(room, np.bool_),
        }
        self._begin(np.arange(places))

    def moves(self) -> Iterator[Moved]:
        """One move in every game under way, until all are over."""
        while len(self._open):
            if self._until is not None and self._until():
                yield self._cut()
                return
            yield self._move()

    def _cut(self) -> Moved:
        """End the games under way where they stand: nobody knows how they would have ended."""
        places, self._open = self._open, self._open[:0]
        places = places[self._ply[places] > self._first[places]]
        unknown = np.full(len(places), np.nan, np.float32)
        rows = self._rows(places, unknown, np.zeros(len(places), np.int8)) if len(places) else None
        return Moved(0, 0, 0, unknown, rows)

    def _begin(self, places: IntArray) -> None:
        """Put new games, after their random openings, at these places `[M]`, as long as there are numbers."""
        numbers = list(itertools.islice(self._numbers, len(places)))
        places = places[: len(numbers)]
        if not numbers:
            return
        whole = np.array([number & (2**64 - 1) for number in numbers], np.uint64)
        keys = spread(np.full(len(numbers), self._seed & (2**64 - 1), np.uint64), whole)
        self._number[places], self._key[places], self._ply[places] = numbers, keys, 0
        self._first[places] = uniforms(keys, 1)[:, 0] * (self._most_opening + 1)
        self._open = np.sort(np.concatenate((self._open, places)))
        begun = self._positions.initial(len(places))
        self._put(places, 0, state=begun, to_move=self._positions.judge(begun)[2])
        for attempt in range(1, self._most_opening + 2):
            places = self._open_by_chance(places[self._first[places] > 0], attempt)
            if not len(places):
                break
            self._first[places] -= 1  # such openings may all be whole games
            self._ply[places] = 0

    def _open_by_chance(self, places: IntArray, attempt: int) -> IntArray:
        """Play the opening moves of the games at `places` `[M]`. Returns those whose games are over by them."""
        over = places[:0]
        while True:
            places = places[self._ply[places] < self._first[places]]
            if not len(places):
                return over
            plies = self._ply[places]
            legal = self._positions.legal(self._plies["state"][places, plies])
            keys = spread(self._key[places], (OPENING * attempt + plies).astype(np.uint64))
            wanted = uniforms(keys, 1) * legal.sum(axis=1, keepdims=True)
            terminal = self._step(places, np.argmax(np.cumsum(legal, axis=1) > wanted, axis=1))[0]
            over, places = np.concatenate((over, places[terminal])), places[~terminal]

    def _step(self, places: IntArray, actions: IntArray) -> tuple[BoolArray, FloatArray]:
        """Move the games at `places` `[M]` on. Returns which are over, and with which outcome, `[M]`."""
        plies = self._ply[places]
        after = self._positions.step(self._plies["state"][places, plies], actions)
        terminal, outcome, to_move = self._positions.judge(after)
        self._put(places, plies, action=actions)
        self._put(places, plies + 1, state=after, to_move=to_move)
        self._ply[places] += 1
        return terminal, outcome

    def _put(self, places: IntArray, plies: IntArray | int, **what: Any) -> None:
        room = self._plies["action"].shape[1]
        if np.max(plies) >= room:
            self._plies = {name: np.concatenate((old, np.empty_like(old)), 1) for name, old in self._plies.items()}
        for name, values in what.items():
            self._plies[name][places, plies] = values

    def _move(self) -> Moved:
        places = self._open
        plies = self._ply[places]
        teaching, simulations = self._search_all(places, plies)
        terminal, outcome = self._step(places, self._plies["action"][places, plies].astype(np.int64))
        cut_short = ~terminal & (plies + 1 >= self._max_plies)
        over = terminal | cut_short
        if not over.any():
            return Moved(len(places), teaching, simulations, np.zeros(0, np.float32), None)
        # How they ended, and whose view that is: of a game cut short, what was thought of its last position.
        ended, cut = places[over], cut_short[over]
        value = np.where(cut, self._plies["value"][ended, plies[over]], outcome[over])
        player = self._plies["to_move"][ended, plies[over] + ~cut]
        rows = self._rows(ended, value, player)
        ends = np.where(self._plies["to_move"][ended, 0] == player, value, -value)
        ends[cut] = np.nan
        self._open = places[~over]
        self._begin(ended)
        return Moved(len(places), teaching, simulations, ends, rows)

    def _search_all(self, places: IntArray, plies: IntArray) -> tuple[int, int]:
        """Search the last positions of the games at `places` `[M]`. Returns how many teach, and the simulations."""
        keys = spread(self._key[places], plies.astype(np.uint64))
        hurried = np.zeros(len(places), np.bool_)
        if self._config.quick is not None:
            chance = uniforms(spread(self._key[places], (HURRY + plies).astype(np.uint64)), 1)[:, 0]
            hurried = chance >= self._config.teaching
        states, simulations = self._plies["state"][places, plies], 0
        for quick, settings in ((False, self._config.search), (True, self._config.quick)):
            chosen = np.flatnonzero(hurried == quick)
            if not len(chosen) or settings is None:
                continue
            found = self._search.search(states[chosen], settings, keys[chosen], self._stop)
            simulations += int(found.simulations.sum())
            policy = np.full_like(found.policy, np.nan) if quick else found.policy
            what = {"action": found.action, "legal": found.legal, "value": found.value, "proven": found.proven}
            self._put(places[chosen], plies[chosen], policy=policy, **what)
        return len(places) - int(hurried.sum()), simulations

    def _rows(self, places: IntArray, end: FloatArray, player: NDArray[np.int8]) -> Rows:
        """A row a position of the games at `places` `[E]`, which ended so as `player` `[E]` sees it. Where a search has
        proven the value, that is the outcome, whatever was played later."""
        first, last = self._first[places], self._ply[places]
        every = np.arange(self._plies["action"].shape[1])
        of, ply = np.nonzero((every >= first[:, None]) & (every < last[:, None]))
        at = {name: array[places[of], ply] for name, array in self._plies.items()}
        texts: list[str] = []
        cuts = np.cumsum(last - first)[:-1]
        for place, states in zip(places.tolist(), np.split(at["state"], cuts), strict=True):
            actions = self._plies["action"][place, : self._ply[place]].tolist()
            opening = int(self._first[place])
            texts += self._positions.texts(states, actions[:opening], actions[opening:])
        names = np.array([f"{self._run}/{number:08d}" for number in self._number[places].tolist()])
        seen = np.where(at["to_move"] == player[of], end[of], -end[of])
        return Rows(
            game=names[of],
            ply=ply.astype(np.int32),
            state=np.array(texts, np.str_),
            observation=self._positions.encode(at["state"]),
            legal=at["legal"],
            policy=at["policy"],
            action=at["action"],
            value=at["value"],
            outcome=np.where(at["proven"], at["value"], seen).astype(np.float32),
            source=np.full(len(of), "self_play"),
            model=np.full(len(of), self._model),
            decision=np.full(len(of), ""),
        )
