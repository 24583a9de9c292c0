"""Everything that is measured of a network, in one record: agreement with the exact solver, the errors of its value and
its confidence, what its value saves a search, and matches. Beside each search with the network stands the same one
without it, so that what was learned is told from what the rules prove at sight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import Evaluator
from escalade.neural.calibration import Calibrator, IdentityCalibrator
from escalade.search.config import whole
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.solvers import exact_solver
from escalade.training.agreement import Agreement, Estimates, agreement, estimates
from escalade.training.arena import (
    MatchResult,
    OnePlyPlayer,
    Player,
    RandomPlayer,
    SearchPlayer,
    play_match,
    rollout_player,
)
from escalade.training.exact import ExactPositions, no_solver, solved_positions
from escalade.training.intervals import Share
from escalade.training.returns import Returns, is_one_player, mean_return
from escalade.training.savings import Savings, value_savings

SCHEMA_VERSION = 1
NOTHING_KNOWN = (
    "domain '{}' has no exact solver and no test positions were given, so nothing is known exactly, and there is no "
    "share of optimal moves"
)

OnStage = Callable[[str, int, int], None]
"""Hears what is being measured, and how much of how much is done."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure. The defaults take seconds, for use inside a training loop; `full()` is all of it."""

    seed: int = 0
    """Of searches, rollouts, openings and bootstraps."""
    simulations: tuple[int, ...] = (0, 64)
    """Of the searches whose agreement is measured; 0 is the network alone."""
    savings: tuple[int, ...] = ()
    """Simulations with the value network whose equals without it are sought; empty: that is not measured."""
    savings_most: int = 2048
    """Simulations without it that are tried at most."""
    savings_positions: int = 500
    """Positions with differing moves that the searches for it see at most; evenly taken from all such."""
    games: int = 0
    """Of each match, an even number; 0: none is played."""
    players: tuple[int, ...] = (0, 64)
    """Simulations with which the network plays, each against every opponent; 0 is the network alone."""
    rollouts: int = 256
    """Simulations of the opponent that searches without a network."""
    opening_plies: int | None = None
    """Random moves before a game, at most; None: see `escalade.training.arena.play_match`."""
    without_network: bool = True
    """Whether each search is measured without the network too, with as many simulations: rollouts at the leaves, all
    moves alike beforehand. It is what the rules prove at sight; the rest was learned."""

    def __post_init__(self) -> None:
        for name in ("simulations", "savings", "players"):
            # What the value saves is asked of a search; all else of the network alone too.
            numbers = tuple(whole(name, number, int(name == "savings")) for number in getattr(self, name))
            if not numbers and name != "savings":
                raise SettingsError(f"{name} must name at least one number, such as 0 for the network alone")
            object.__setattr__(self, name, numbers)
        for name, least in (("seed", 0), ("savings_most", 2), ("savings_positions", 1), ("games", 0), ("rollouts", 1)):
            whole(name, getattr(self, name), least)
        if self.games % 2:
            raise SettingsError(f"games must be an even number, as sides are swapped, not {self.games}")
        if self.opening_plies is not None:
            whole("opening_plies", self.opening_plies, 0)

    @classmethod
    def full(cls, **given: Any) -> EvaluationConfig:
        """All that can be measured, which takes minutes; fields given come before."""
        everything: dict[str, Any] = {
            "simulations": (0, 16, 64, 256, 600),
            "savings": (4, 8, 16, 32, 64, 128, 256),
            "games": 200,
        }
        return cls(**{**everything, **given})


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and on what. None or empty where something was not; `skipped` says why, if it was asked for.
    Where no solver and no file tells what is right, there are matches only, and `positions` is 0.

    without_network: as `agreement`, of the same searches without a network. returns: of domains with one player, where
    there is no match to win (`escalade.training.returns`).
    positions, differing: how many test positions there were, and in how many legal moves differ in outcome.
    positions_source, positions_seed: where they are from. seed: of everything else.
    """

    domain: str
    positions: int
    differing: int
    positions_source: str
    positions_seed: int | None
    seed: int
    agreement: tuple[Agreement, ...]
    estimates: Estimates | None
    savings: Savings | None
    matches: tuple[MatchResult, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    without_network: tuple[Agreement, ...] = ()
    returns: tuple[Returns, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def share_without_network(self, row: Agreement) -> Share | None:
        """What the search of a row of `agreement` gets without the network, where moves differ; None if that was not
        measured."""
        same = (one for one in self.without_network if (one.simulations, one.phase) == (row.simulations, row.phase))
        found = next(same, None)
        return None if found is None else found.differing

    def to_json(self) -> dict[str, Any]:
        """The same as plain dicts, lists and numbers."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def evaluate(
    domain: Domain[Any],
    network: Evaluator,
    previous: Evaluator | None = None,
    config: EvaluationConfig | None = None,
    *,
    positions: ExactPositions | None = None,
    calibrator: Calibrator | None = None,
    name: str = "network",
    previous_name: str = "previous",
    on_progress: OnStage | None = None,
) -> Evaluation:
    """Measure a network; with `previous`, also matches against that one with as many simulations.

    positions: those of the domain's exact solver if None, made anew (`escalade.training.exact.open_positions` keeps
        them); where there is no solver either, only matches are played. calibrator: the bundle's, measured beside the
        raw probability. name, previous_name: of the players.
    Raises SettingsError where nothing can be measured: neither solver nor positions, and no games either.
    """
    config = config or EvaluationConfig()

    def stage(what: str) -> Callable[[int, int], None]:
        return lambda done, total: None if on_progress is None else on_progress(what, done, total)

    simulations, skipped = config.simulations, dict[str, str]()
    if not domain.has_simulator:
        why = f"domain '{domain.name}' has no simulator"
        asked = {"search": any(simulations), "savings": bool(config.savings), "matches": config.games > 0}
        skipped = {what: why for what, wanted in asked.items() if wanted}
        simulations = tuple(number for number in simulations if number == 0)
    if positions is None and exact_solver(domain) is not None:
        positions = solved_positions(domain, seed=config.seed, on_progress=stage("solving"))
    measured, savings = None, None
    agreed, searched = tuple[Agreement, ...](), tuple[Agreement, ...]()
    if positions is None:
        if not config.games or "matches" in skipped:
            raise no_solver(domain)
        skipped = {"agreement": NOTHING_KNOWN.format(domain.name)}
    else:
        known = None if isinstance(calibrator, IdentityCalibrator) else calibrator
        measured = estimates(domain, network, positions, seed=config.seed, calibrator=known)
        told = stage("agreement with the solver")
        agreed = agreement(domain, network, positions, simulations, seed=config.seed, on_progress=told)
        if config.without_network and any(simulations):
            numbers, rollouts = tuple(filter(None, simulations)), RolloutEvaluator(domain, rollouts=1)
            told = stage("the same searches without a network")
            searched = agreement(domain, rollouts, positions, numbers, seed=config.seed, on_progress=told)
        if config.savings and "savings" not in skipped:
            if positions.differing.any():
                savings = value_savings(
                    domain,
                    network,
                    _some(positions, config.savings_positions),
                    simulations=config.savings,
                    most=config.savings_most,
                    seed=config.seed,
                    on_progress=stage("what the value network saves"),
                )
            else:
                skipped["savings"] = "in none of the positions do legal moves differ in outcome"
    matches, returns = [], []
    if config.games and "matches" not in skipped:
        opening = config.opening_plies
        if is_one_player(domain, seed=config.seed):
            for player in _single(domain, network, previous, config, name, previous_name):
                told = stage(f"episodes: {player.name}")
                returns.append(
                    mean_return(domain, player, config.games, seed=config.seed, opening_plies=opening, on_progress=told)
                )
        else:
            for first, second in _pairings(domain, network, previous, config, name, previous_name):
                told = stage(f"{first.name} : {second.name}")
                matches.append(
                    play_match(
                        domain, first, second, config.games, seed=config.seed, opening_plies=opening, on_progress=told
                    )
                )
    return Evaluation(
        domain=domain.name,
        positions=0 if positions is None else len(positions),
        differing=0 if positions is None else int(positions.differing.sum()),
        positions_source="none" if positions is None else positions.source,
        positions_seed=None if positions is None else positions.seed,
        seed=config.seed,
        agreement=agreed,
        estimates=measured,
        savings=savings,
        matches=tuple(matches),
        skipped=skipped,
        without_network=searched,
        returns=tuple(returns),
    )


def unmeasured(domain: Domain[Any], seed: int = 0) -> Evaluation:
    """The record of a network of which nothing could be measured."""
    return Evaluation(
        domain.name, 0, 0, "none", None, seed, (), None, None, (), {"agreement": NOTHING_KNOWN.format(domain.name)}
    )


def _pairings(
    domain: Domain[Any],
    network: Evaluator,
    previous: Evaluator | None,
    config: EvaluationConfig,
    name: str,
    previous_name: str,
) -> list[tuple[Player, Player]]:
    pairings: list[tuple[Player, Player]] = []
    for number in config.players:
        player, opponents = SearchPlayer(_called(name, number), network, number), _opponents(domain, config)
        pairings += [(player, opponent) for opponent in opponents]
        if number and config.without_network:
            alone = rollout_player(domain, number)
            pairings += [(alone, opponent) for opponent in opponents if opponent.name != alone.name]
        if previous is not None:
            pairings.append((player, SearchPlayer(_called(previous_name, number), previous, number)))
    return pairings


def _opponents(domain: Domain[Any], config: EvaluationConfig) -> list[Player]:
    return [OnePlyPlayer(), rollout_player(domain, config.rollouts)]


def _single(
    domain: Domain[Any],
    network: Evaluator,
    previous: Evaluator | None,
    config: EvaluationConfig,
    name: str,
    previous_name: str,
) -> list[Player]:
    """Who plays where there is nobody to play against."""
    players: list[Player] = []
    for number in config.players:
        players.append(SearchPlayer(_called(name, number), network, number))
        if number and config.without_network:
            players.append(rollout_player(domain, number))
        if previous is not None:
            players.append(SearchPlayer(_called(previous_name, number), previous, number))
    return [*players, RandomPlayer()]


def _called(name: str, simulations: int) -> str:
    return f"{name} at {simulations}" if simulations else f"{name} alone"


def _some(positions: ExactPositions, most: int) -> ExactPositions:
    """Those with differing moves, at most so many, evenly taken."""
    able = np.flatnonzero(positions.differing)
    return positions.take(able[np.arange(min(most, len(able))) * len(able) // min(most, len(able))])


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
