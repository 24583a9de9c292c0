"""How strong the networks of a run are, over its minutes, beside searches without a network.

Where an exact solver judges, the same searches without a network are measured once on the same positions. Elsewhere
the networks play: with two players against opponents that stay the same over the run, so that their Elo does, with one
player for the mean return. None of it chooses the champion, and it takes no more than the recipe's share of the time
(`Recipe.strength`): games are played, where they tell most, until that is spent, and a game that would not end in time
is not begun. So how many there are depends on the machine; intervals tell what they are worth.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.neural.bundle import read_bundle
from escalade.search.evaluators import RolloutEvaluator
from escalade.training.agreement import chosen_actions
from escalade.training.arena import (
    OnePlyPlayer,
    Player,
    RandomPlayer,
    SearchPlayer,
    openings,
    play_pairs,
    seed_of,
)
from escalade.training.exact import ExactPositions
from escalade.training.intervals import share_of
from escalade.training.pace import Clock, Pace
from escalade.training.rating import Rating, expected
from escalade.training.returns import is_one_player, play_episodes
from escalade.training.run import Run, Tell, silent
from escalade.training.strength_figures import ENDS, FIRST, figures_of, rating_among, rating_on

PAIRS, EPISODES, POSITIONS = 40, 100, 64
"""At most so many pairs of games against an opponent, and episodes of a player; positions searched between two looks
at the clock."""
SETUP = "setup"
"""What it takes to begin, among the costs of games."""
PLAYED_BEFORE = 0.25
"""The time that such an opponent gets, as a part of what a network would get."""
ENOUGH = 16
"""Pairs of games, or episodes, of each number of simulations that are worth a point in the drawing."""
SURE_ELO, SURE_RETURN = 120.0, 0.1
"""Opponents with wider intervals are played further in later iterations."""


def measure_strength(
    run: Run,
    iteration: int,
    seconds: float,
    *,
    last: bool = False,
    tell: Tell = silent,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """Measure an iteration's network, once. seconds: of the run's work so far, of which its share is spent. last:
    whether nothing is gained by saving time for a later iteration. Returns what strength.json says: `seconds`, and
    `figures`, those to be shown (see `_Measured.games`), empty where there was no time."""
    path = run.iteration(iteration) / "strength.json"
    done: dict[str, Any] | None = run.read(path)
    if done is not None:
        return done
    began, spent = clock(), _spent(run)
    allowed = run.recipe.strength * seconds - spent
    figures: dict[str, Any] = {}
    if allowed > 0 and run.domain.has_simulator:
        positions = run.positions()
        measured = _Measured(run, began + allowed, clock, tell)
        if positions is not None:
            figures = measured.search_alone(positions)
        elif last or measured.is_worth_it():
            figures = measured.games(iteration)
    flat = {
        f"strength_{one['simulations']}{end}": float(one[name])
        for one in figures.get("players", ())
        for end, name in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    lines = [{"by": figures["unit"], **flat}] if flat else []
    done = {"lines": lines, "seconds": clock() - began, "figures": figures}
    run.write(path, done)
    run.log()
    return done


def strength_left(run: Run, seconds: float) -> float:
    """Seconds that these measurements will still take in a run of so many seconds of work."""
    return max(0.0, run.recipe.strength * seconds - _spent(run)) if run.domain.has_simulator else 0.0


def _spent(run: Run) -> float:
    paths = sorted((run.folder / "iterations").glob("[0-9]*/strength.json"))
    return float(sum(run.read(path)["seconds"] for path in paths))


class _Measured:
    """The measurements of one iteration, until a time of the clock; what stays the same over the run is kept in
    evaluation/strength.json: how strong the opponents are, and how long their games take."""

    def __init__(self, run: Run, deadline: float, clock: Clock, tell: Tell) -> None:
        self.run, self.clock, self.tell = run, clock, tell
        self.path = run.folder / "evaluation" / "strength.json"
        kept = run.read(self.path) or {}
        self.anchors: dict[str, dict[str, Any]] = kept.get("anchors", {})
        self.pace = Pace(deadline, clock, kept.get("costs", {}))
        self.openings: dict[str, Any] = kept.get("openings", {})
        self.seed = int(np.random.default_rng((run.config.seed, 0x57E6)).integers(2**31))

    def _keep(self) -> None:
        self.run.write(self.path, {"anchors": self.anchors, "costs": self.pace.costs, "openings": self.openings})

    def is_worth_it(self) -> bool:
        """Whether there is time for enough games to say something; else it is saved for a later iteration."""
        own = sum(self.pace.cost(f"{number}") or 0.0 for number in set(self.run.recipe.evaluation.players))
        unknown = sum(self.pace.cost(name) or 0.0 for name in self._names() if name not in self.anchors)
        return self.pace.left >= self.pace.costs.get(SETUP, 0.0) + max(ENOUGH * own, own + 2 * unknown)

    # With a solver

    def search_alone(self, positions: ExactPositions) -> dict[str, Any]:
        """The searches that judge, without a network: rollouts at the leaves, all moves alike beforehand."""
        numbers = [number for number in self.run.recipe.evaluation.simulations if number]
        missing = [number for number in numbers if _without(number) not in self.anchors]
        order = np.random.default_rng(self.seed).permutation(len(positions))
        evaluator = RolloutEvaluator(self.run.domain, rollouts=1)
        for place, number in enumerate(missing):
            ends = self.clock() + self.pace.left / (len(missing) - place)
            right: list[bool] = []
            while len(right) < len(positions) and (not right or self.clock() < ends):
                some = positions.take(order[len(right) : len(right) + POSITIONS])
                states = some.parsed(self.run.domain)
                chosen = chosen_actions(self.run.domain, evaluator, states, number, seed=self.seed + len(right))
                right += some.optimal[np.arange(len(some)), chosen].tolist()
                self._heard(_without(number), len(right), len(positions))
            share = share_of(np.array(right, np.bool_))
            ends_of = dict(zip(ENDS, (share.share, share.low, share.high), strict=True))
            self.anchors[_without(number)] = {"simulations": number, "games": share.count, **ends_of}
        self._keep()
        anchors = [{"name": name, **one} for name, one in self.anchors.items()]
        return {"unit": "optimal", "players": [], "anchors": anchors}

    # Without

    def games(self, iteration: int) -> dict[str, Any]:
        """What the networks and their opponents are worth.

        `unit`: "elo" or "return". `players`: of each number of simulations with which the iteration's network plays,
        its `results` (mean points of each pair of games by opponent, or outcomes of episodes), their number of `games`,
        and `value` with `low` and `high` (95 %). `anchors`: the same of the opponents, or of the players without a
        network.
        """
        began = self.clock()
        begun, alone = self._openings()
        network = self._network(iteration)
        players = [
            SearchPlayer(_called(number), network, number) for number in sorted(set(self.run.recipe.evaluation.players))
        ]
        opponents = self._opponents(iteration, alone)
        self.pace.costs[SETUP] = self.clock() - began
        if not alone:  # where the scale begins
            self.anchors.setdefault(opponents[0].name, {"simulations": None, "results": {}})
        # Opponents too are played until they are known well: they are the scale.
        unsure = [one for one in opponents if self._is_unsure(one, alone)]
        turns: list[tuple[Player, str, float]] = [
            (one, one.name, 1.0) for one in unsure if one.name not in self.anchors
        ]
        turns += [(one, f"{one.simulations}", 1.0) for one in players]
        turns += [(one, one.name, PLAYED_BEFORE) for one in unsure if one.name in self.anchors]
        found: dict[str, Any] = {}
        for place, (player, kind, _) in enumerate(turns):
            ends = self.pace.slice_end([(kind, counts) for _, kind, counts in turns[place:]])
            is_anchor, number = player in opponents, player.simulations if isinstance(player, SearchPlayer) else None
            seed = self.seed if is_anchor else seed_of(self.seed, iteration)
            kept = self.anchors.get(player.name) if is_anchor else None
            results: Any = kept["results"] if kept is not None else [] if alone else {}
            if alone:
                self._play_alone(player, kind, begun, results, ends, seed)
            else:
                others = opponents[: opponents.index(player)] if is_anchor else opponents
                self._play(player, kind, others, begun, results, ends, seed)
            if results:
                where = self.anchors if is_anchor else found
                where[player.name] = {"simulations": number, "results": results}
        if iteration == self._first and _called(0) in found:
            self.anchors[FIRST] = found[_called(0)]
        self._keep()
        return figures_of("return" if alone else "elo", found, self.anchors) if found else {}

    def _openings(self) -> tuple[list[Any], bool]:
        """Where all games of the run begin, and whether there is one player alone."""
        domain = self.run.domain
        if not self.openings:
            alone = is_one_player(domain, seed=self.seed)
            begun = openings(domain, EPISODES if alone else PAIRS, seed=self.seed)
            self.openings = {"players": 1 if alone else 2, "states": [domain.format(state) for state in begun]}
        return [domain.parse(text) for text in self.openings["states"]], self.openings["players"] == 1

    @property
    def _first(self) -> int:
        return 0 if self.run.bundle(0) is not None else 1

    def _network(self, iteration: int) -> Any:
        bundle = self.run.bundle(iteration)
        assert bundle is not None  # it was judged
        return read_bundle(bundle, self.run.domain).network

    def _opponents(self, iteration: int, alone: bool) -> list[Player]:
        """From the weakest on, so that each is rated by those before; without the first network while that is the one
        to be rated."""
        found: list[Player] = [RandomPlayer()] if alone else [RandomPlayer(), OnePlyPlayer()]
        for name, number in self._names().items():
            found.append(SearchPlayer(name, RolloutEvaluator(self.run.domain, rollouts=1), number))
        if iteration != self._first:
            found.append(SearchPlayer(FIRST, self._network(self._first), 0))
        return found

    def _names(self) -> dict[str, int]:
        """The searches without a network, by name: those with which the network plays, or else the recipe's."""
        settings = self.run.recipe.evaluation
        numbers = sorted({number for number in settings.players if number}) or [settings.rollouts]
        return {_without(number): number for number in numbers}

    def _is_unsure(self, one: Player, alone: bool) -> bool:
        known = figures_of("return" if alone else "elo", {}, self.anchors)["anchors"]
        mine = next((figures for figures in known if figures["name"] == one.name), None)
        return mine is None or mine["high"] - mine["low"] > (SURE_RETURN if alone else SURE_ELO)

    def _play_alone(
        self, player: Player, kind: str, begun: Sequence[Any], results: list[float], ends: float, seed: int
    ) -> None:
        """Add outcomes of episodes until a time of the clock."""
        while (size := self.pace.affordable(kind, len(results), len(begun), ends)) > 0:
            some, began = begun[len(results) : len(results) + size], self.clock()
            played = play_episodes(
                self.run.domain, player, some, seed=seed_of(seed, len(results)), stop=lambda: self.clock() > ends
            )
            self.pace.timed(kind, began, size, finished=played is not None)
            if played is None:
                return
            results += played.outcomes
            self._heard(f"episodes: {player.name}", len(results), len(begun))

    def _play(
        self,
        player: Player,
        kind: str,
        opponents: Sequence[Player],
        begun: Sequence[Any],
        results: dict[str, list[float]],
        ends: float,
        seed: int,
    ) -> None:
        """Add pairs of games to results, where they tell most, until a time of the clock."""
        ratings = {
            one.name: rating for one in opponents if (rating := rating_among(self.anchors, one.name)) is not None
        }
        given_up: set[str] = set()
        while True:
            sizes = {
                one.name: self.pace.affordable(f"{kind} : {one.name}", len(results.get(one.name, ())), len(begun), ends)
                for one in opponents
                if one.name in ratings and one.name not in given_up
            }
            worth = {
                name: self._worth(f"{kind} : {name}", ratings[name].elo, results.get(name), rating_on(ratings, results))
                for name, size in sizes.items()
                if size
            }
            if not worth:
                return
            one = next(one for one in opponents if one.name == max(worth, key=worth.__getitem__))
            done, size, began = len(results.get(one.name, ())), sizes[one.name], self.clock()
            some, seeds = begun[done : done + size], seed_of(seed, done)
            played = play_pairs(self.run.domain, player, one, some, seed=seeds, stop=lambda: self.clock() > ends)
            self.pace.timed(f"{kind} : {one.name}", began, size, finished=played is not None)
            if played is None:
                given_up.add(one.name)
                continue
            results.setdefault(one.name, []).extend(played.pairs)
            self._heard(f"games: {player.name} : {one.name}", done + size, len(begun))

    def _worth(self, kind: str, opponent: float, pairs: Sequence[float] | None, rating: Rating | None) -> float:
        """What a second of games against an opponent tells of a rating: everybody is met once, the quick ones first,
        then those are who are about as strong."""
        cost = max(self.pace.costs.get(kind, 0.0), 1e-9)
        if not pairs or rating is None:
            return 1e9 - cost
        share = expected(rating.elo, opponent)
        return share * (1 - share) / cost

    def _heard(self, stage: str, done: int, of: int) -> None:
        self.tell({"event": "evaluate", "stage": stage, "done": done, "of": of})


def _called(simulations: int) -> str:
    return f"network with {simulations} simulations" if simulations else "network alone"


def _without(simulations: int) -> str:
    return f"{simulations} simulations without a network"
