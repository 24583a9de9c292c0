"""Matches between players, many games in lock-step, with their Elo difference and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from escalade.domains.base import Domain, legal_mask
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import AnyEvaluator
from escalade.search.config import SearchConfig, whole
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.searchable import check_simulator
from escalade.training.agreement import answers
from escalade.training.exact import longest_game
from escalade.training.intervals import elo_of

OPENING_PLIES = 4
TRIES = 100
"""So many openings in a row that were there before, or over, and the next may have one ply more."""


class Moves(NamedTuple):
    """actions: one a game. simulations: that they cost together."""

    actions: list[int]
    simulations: int


class Player(Protocol):
    """Chooses moves in many games at once. Its only source of chance are the seeds, one a state."""

    @property
    def name(self) -> str: ...

    def choose(self, domain: Domain[Any], states: Sequence[Any], seeds: Sequence[int]) -> Moves: ...


@dataclass(frozen=True)
class SearchPlayer:
    """Searches each move with an evaluator, a network or not; with 0 simulations, plays its greatest legal logit."""

    name: str
    evaluator: AnyEvaluator
    simulations: int

    def choose(self, domain: Domain[Any], states: Sequence[Any], seeds: Sequence[int]) -> Moves:
        if self.simulations == 0:
            legal = legal_mask(domain, states)
            logits, _ = answers(domain, self.evaluator, states, legal)
            return Moves(np.where(legal, logits, -np.inf).argmax(axis=1).tolist(), 0)
        found = search(domain, states, self.evaluator, SearchConfig(simulations=self.simulations), seed=list(seeds))
        return Moves([result.action for result in found], sum(result.simulations for result in found))


def rollout_player(domain: Domain[Any], simulations: int) -> SearchPlayer:
    """The search without a network: one random game a leaf."""
    return SearchPlayer(f"rollouts at {simulations}", RolloutEvaluator(domain, rollouts=1), simulations)


@dataclass(frozen=True)
class RandomPlayer:
    """Plays any legal move, all alike."""

    name: str = "random moves"

    def choose(self, domain: Domain[Any], states: Sequence[Any], seeds: Sequence[int]) -> Moves:
        drawn = [
            int(np.random.default_rng(seed).choice(domain.legal_actions(state)))
            for state, seed in zip(states, seeds, strict=True)
        ]
        return Moves(drawn, 0)


@dataclass(frozen=True)
class OnePlyPlayer:
    """Takes a win in one; else plays at random among the moves that let the opponent win at once the least."""

    name: str = "one ply"

    def choose(self, domain: Domain[Any], states: Sequence[Any], seeds: Sequence[int]) -> Moves:
        return Moves([self._move(domain, state, seed) for state, seed in zip(states, seeds, strict=True)], 0)

    def _move(self, domain: Domain[Any], state: Any, seed: int) -> int:
        legal = [int(action) for action in domain.legal_actions(state)]
        best = _winning(domain, state) or [action for action in legal if not _gives_a_win(domain, state, action)]
        return int(np.random.default_rng(seed).choice(best or legal))


def _winning(domain: Domain[Any], state: Any) -> list[int]:
    """Actions that win at once."""
    ends = domain.ending_actions(state)
    if ends is not None:
        return [int(action) for action, outcome in ends.items() if outcome == 1]
    return [
        int(action)
        for action in domain.legal_actions(state)
        if domain.is_terminal(reached := domain.step(state, action))
        and domain.outcome(reached) * (1 if domain.to_move(reached) == domain.to_move(state) else -1) == 1
    ]


def _gives_a_win(domain: Domain[Any], state: Any, action: int) -> bool:
    reached = domain.step(state, action)
    other = domain.to_move(reached) != domain.to_move(state)
    if domain.is_terminal(reached):
        return domain.outcome(reached) * (1 if other else -1) == 1
    return other and bool(_winning(domain, reached))


@dataclass(frozen=True)
class MatchResult:
    """A match as the first player saw it.

    Games come in pairs from one random opening, with sides swapped. score: wins and half of the draws, by games.
    elo and the intervals: see `escalade.training.intervals.Elo`; that of the score is widened to hold the score.
    moves, simulations: made by each player in all. cut_short: games still open at the bound of plies, counted as drawn.
    """

    first: str
    second: str
    games: int
    seed: int
    wins: int
    draws: int
    losses: int
    cut_short: int
    score: float
    score_low: float
    score_high: float
    elo: float
    elo_low: float
    elo_high: float
    moves: tuple[int, int]
    simulations: tuple[int, int]


def play_match(
    domain: Domain[Any],
    first: Player,
    second: Player,
    games: int = 200,
    *,
    seed: int = 0,
    opening_plies: int | None = None,
    max_plies: int = 1000,
    on_progress: Callable[[int, int], None] | None = None,
) -> MatchResult:
    """Play `games`, an even number; fewer where the domain has not so many different openings.

    opening_plies: random moves before a game, at most so many; None is 4, or a quarter of the longest game if that is
        less. Openings are all different, so games get more of them if there would not be enough.
    on_progress: hears how many games are over, and of how many.
    Raises NoSimulatorError for a domain that cannot be played, SettingsError for an odd number of games.
    """
    check_simulator(domain)
    if whole("games", games, 2) % 2:
        raise SettingsError(f"games must be an even number, as they come in pairs with sides swapped, not {games}")
    begun = openings(domain, games // 2, seed=seed, plies=opening_plies)
    played = play_pairs(domain, first, second, begun, seed=seed, max_plies=max_plies, on_progress=on_progress)
    assert played is not None  # nothing stops it
    points = played.points
    score = sum(points) / len(points)
    elo = elo_of(played.pairs)
    return MatchResult(
        first=first.name,
        second=second.name,
        games=len(points),
        seed=seed,
        wins=sum(point > 0.5 for point in points),
        draws=sum(point == 0.5 for point in points),
        losses=sum(point < 0.5 for point in points),
        cut_short=played.cut_short,
        score=score,
        score_low=min(score, elo.score_low),
        score_high=max(score, elo.score_high),
        elo=elo.elo,
        elo_low=elo.low,
        elo_high=elo.high,
        moves=played.moves,
        simulations=played.simulations,
    )


class Played(NamedTuple):
    """points: of the first player, 1, 1/2 or 0 a game, two games an opening, sides swapped. The rest: as in
    `MatchResult`."""

    points: list[float]
    cut_short: int
    moves: tuple[int, int]
    simulations: tuple[int, int]

    @property
    def pairs(self) -> list[float]:
        """The mean points of each opening's two games."""
        return [sum(self.points[game : game + 2]) / 2 for game in range(0, len(self.points), 2)]


def play_pairs(
    domain: Domain[Any],
    first: Player,
    second: Player,
    begun: Sequence[Any],
    *,
    seed: int,
    max_plies: int = 1000,
    on_progress: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Played | None:
    """Two games from each of the unfinished states, sides swapped, all in lock-step. stop: asked before each ply; if
    it says yes, there is no result, None, though some games may be over: short games alone would mislead."""
    states = [state for state in begun for _ in range(2)]
    # The side of the first player: in games with an even number the one that moves next.
    sides = [domain.to_move(state) ^ game % 2 for game, state in enumerate(states)]
    running, ply = list(range(len(states))), 0
    moves, simulations = [0, 0], [0, 0]
    while running and ply < max_plies:
        for number, player in enumerate((first, second)):
            turns = [game for game in running if domain.to_move(states[game]) == sides[game] ^ number]
            if not turns:
                continue
            if stop is not None and stop():
                return None
            # Both players of one game draw from different numbers, and so does each move.
            seeds = [seed_of(seed, game, ply, number) for game in turns]
            chosen = player.choose(domain, [states[game] for game in turns], seeds)
            moves[number] += len(turns)
            simulations[number] += chosen.simulations
            for game, action in zip(turns, chosen.actions, strict=True):
                states[game] = domain.step(states[game], action)
            running = [game for game in running if not domain.is_terminal(states[game])]
            if on_progress is not None:
                on_progress(len(states) - len(running), len(states))
        ply += 2
    points = [_points(domain, state, side) for state, side in zip(states, sides, strict=True)]
    return Played(points, len(running), (moves[0], moves[1]), (simulations[0], simulations[1]))


def openings(domain: Domain[Any], count: int, *, seed: int, plies: int | None = None) -> list[Any]:
    """`count` different unfinished states after 0 to `plies` random moves (see `play_match`); fewer only where play
    of up to 64 moves finds no more."""
    longest = longest_game(domain)
    most = min(OPENING_PLIES, longest // 4 if longest else OPENING_PLIES) if plies is None else whole("plies", plies, 0)
    random = np.random.default_rng((seed, 0))
    found: dict[bytes, Any] = {}
    misses = 0
    while len(found) < count and most <= 64:
        state = domain.initial_state()
        for _ in range(int(random.integers(most + 1))):
            if domain.is_terminal(state):
                break
            state = domain.step(state, int(random.choice(domain.legal_actions(state))))
        # By what is seen of it, as several orders of moves may lead there.
        key = b"" if domain.is_terminal(state) else domain.encode([state]).tobytes()
        if key and key not in found:
            found[key], misses = state, 0
        elif (misses := misses + 1) == TRIES:
            most, misses = most + 1, 0
    return list(found.values())


def seed_of(*numbers: int) -> int:
    """A seed of its own for each list of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _points(domain: Domain[Any], state: Any, side: int) -> float:
    """1, 1/2 or 0 for the player on this side; a game that is not over counts as drawn."""
    if not domain.is_terminal(state):
        return 0.5
    outcome = domain.outcome(state) if domain.to_move(state) == side else -domain.outcome(state)
    return (1 + outcome) / 2
