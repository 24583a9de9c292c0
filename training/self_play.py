"""Games that a network plays against itself, with search: the experience it learns most from.

All games go on in lock-step, so that every search is one of many; a finished one is replaced at once. What a game is
depends on its number, the seed and the weights alone (on one machine, up to the rounding of a network).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import AnyEvaluator
from escalade.search.config import SearchConfig, whole
from escalade.search.engine import search
from escalade.search.results import SearchResult
from escalade.search.searchable import check_simulator
from escalade.training.rows import Rows, joined


@dataclass(frozen=True)
class SelfPlayConfig:
    """search: of the moves that teach. A Gumbel search plays samples of its improved policy; a PUCT search needs noise
        and a temperature to play more than one game.
    quick: of the other moves, if any: a game then costs less, and more games end (playout-cap randomisation: D. Wu,
        "Accelerating self-play learning in Go", 2019, section 3.1). Their rows have no policy.
    teaching: share of moves that are searched by `search` where there is a `quick`.
    at_once: games in lock-step.
    opening_plies: games begin with a random number of random moves, at most so many, which teach nothing.
    max_plies: a game still open after so many moves, those of the opening included, ends with the value that a search
        gives its last position.
    """

    search: SearchConfig = field(default_factory=lambda: SearchConfig(simulations=32, algorithm="gumbel"))
    quick: SearchConfig | None = None
    teaching: float = 0.25
    at_once: int = 512
    opening_plies: int = 2
    max_plies: int = 1000

    def __post_init__(self) -> None:
        whole("at_once", self.at_once, 1)
        whole("opening_plies", self.opening_plies, 0)
        whole("max_plies", self.max_plies, 1)
        if not 0 < self.teaching <= 1:
            raise SettingsError(f"teaching must be above 0 and at most 1, not {self.teaching!r}")


@dataclass
class SelfPlayStats:
    """What was played. won, drawn, lost: games as the first player saw them, by the rules alone; those cut short are in
    none. positions: searched ones; teaching: those of them whose policy is to be learned."""

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
        self.config = config
        self.seed = seed
        self.stats = SelfPlayStats()

    def play(self, numbers: Iterable[int], run: str = "self-play", model: str = "") -> Iterator[Rows]:
        """Play the games of these numbers; yields the rows of games as they end.

        run: with the number, the name of a game: "run/00000017". model: name of the weights, kept with the rows.
        """
        waiting = iter(numbers)
        games = [self._begin(number) for number in itertools.islice(waiting, self.config.at_once)]
        while games:
            self._search(games)
            ended = [game for game in games if game.over]
            if ended:
                for game in ended:
                    self._count(game)
                yield joined([self._rows(game, run, model) for game in ended])
                games = [game for game in games if not game.over]
                games += [self._begin(number) for number in itertools.islice(waiting, len(ended))]

    def _begin(self, number: int) -> _Game:
        """A new game, after its random opening."""
        random = np.random.default_rng((self.seed, number))
        wanted = int(random.integers(self.config.opening_plies + 1))
        while True:
            state = self.domain.initial_state()
            first = self.domain.to_move(state)
            for _ in range(wanted):
                state = self.domain.step(state, int(random.choice(self.domain.legal_actions(state))))
                if self.domain.is_terminal(state):
                    break
            if wanted == 0 or not self.domain.is_terminal(state):
                return _Game(number, random, state, wanted, first)
            wanted -= 1  # such openings may all be whole games

    def _search(self, games: list[_Game]) -> None:
        """One move in every game."""
        config = self.config
        hurried = [config.quick is not None and game.random.random() >= config.teaching for game in games]
        for quick, settings in ((False, config.search), (True, config.quick)):
            chosen = [game for game, hurry in zip(games, hurried, strict=True) if hurry == quick]
            if not chosen or settings is None:
                continue
            seeds = [int(game.random.integers(2**63)) for game in chosen]
            found = search(self.domain, [game.state for game in chosen], self.evaluator, settings, seed=seeds)
            for game, result in zip(chosen, found, strict=True):
                self._move(game, result, teaches=not quick)

    def _move(self, game: _Game, result: SearchResult, teaches: bool) -> None:
        domain = self.domain
        game.states.append(game.state)
        game.players.append(domain.to_move(game.state))
        game.results.append(result)
        game.teaches.append(teaches)
        game.state = domain.step(game.state, result.action)
        if domain.is_terminal(game.state):
            game.over, game.outcome = True, domain.outcome(game.state)
            game.player = domain.to_move(game.state)
        elif game.first_ply + len(game.states) >= self.config.max_plies:
            game.over = game.cut_short = True
            game.outcome, game.player = result.value, game.players[-1]

    def _count(self, game: _Game) -> None:
        stats = self.stats
        stats.games += 1
        stats.positions += len(game.states)
        stats.teaching += sum(game.teaches)
        stats.simulations += sum(result.simulations for result in game.results)
        stats.cut_short += game.cut_short
        if not game.cut_short:
            outcome = game.outcome if game.player == game.first_player else -game.outcome
            stats.won += outcome > 0
            stats.drawn += outcome == 0
            stats.lost += outcome < 0

    def _rows(self, game: _Game, run: str, model: str) -> Rows:
        """A row a position. Where a search has proven the value, that is the outcome, whatever was played later."""
        count, results = len(game.states), game.results
        policy = np.array([result.policy for result in results], np.float32)
        policy[~np.array(game.teaches)] = np.nan
        value = np.array([result.value for result in results], np.float32)
        sign = np.where(np.array(game.players) == game.player, 1, -1)
        proven = np.array([result.proven for result in results])
        return Rows(
            game=np.full(count, f"{run}/{game.number:08d}"),
            ply=np.arange(game.first_ply, game.first_ply + count, dtype=np.int32),
            state=np.array([self.domain.format(state) for state in game.states], np.str_),
            observation=self.domain.encode(game.states),
            legal=np.array([~np.isnan(result.lower) for result in results]),
            policy=policy,
            action=np.array([result.action for result in results], np.int32),
            value=value,
            outcome=np.where(proven, value, sign * np.float32(game.outcome)).astype(np.float32),
            source=np.full(count, "self_play"),
            model=np.full(count, model),
            decision=np.full(count, ""),
        )


@dataclass
class _Game:
    """One game under way. outcome: of the end, as `player` sees it, who would move next."""

    number: int
    random: np.random.Generator
    state: Any
    first_ply: int
    first_player: int
    over: bool = False
    cut_short: bool = False
    outcome: float = 0.0
    player: int = 0
    states: list[Any] = field(default_factory=list)
    players: list[int] = field(default_factory=list)
    results: list[SearchResult] = field(default_factory=list)
    teaches: list[bool] = field(default_factory=list)
