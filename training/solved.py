"""Experience from an exact solver: positions of casual games, with every optimal move and the true value.

The cheapest truth there is, where a solver exists: a Connect Four position after twelve moves takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import Domain, legal_mask
from escalade.domains.errors import SettingsError
from escalade.search.config import whole
from escalade.search.solvers import exact_solver
from escalade.training.position_keys import digests
from escalade.training.rows import Rows, joined


def casual_states(
    domain: Domain[Any], plies: Sequence[int], *, seed: int, sense: float = 0.8
) -> Iterator[tuple[int, Any]]:
    """One unfinished state for each number of plies, as (its place, the state), from a game of its own.

    Moves are random, but with chance `sense` a player takes a win in one, and makes no move that allows one. Numbers of
    plies that games hardly ever reach are tried 1000 times and then left out.
    """
    for place, wanted in enumerate(plies):
        random = np.random.default_rng((seed, place))
        for _ in range(1000):
            state = domain.initial_state()
            for _ in range(wanted):
                state = domain.step(state, casual_move(domain, state, random, sense))
                if domain.is_terminal(state):
                    break
            if not domain.is_terminal(state):
                yield place, state
                break


@dataclass(frozen=True)
class SolvedConfig:
    """Positions come in families: a root, and those that `branches` casual moves of each lead to, up to `depth` plies
    on. What a solver finds out for one helps it with the next, which makes early positions, the dearest, several times
    cheaper; and a search asks a network about just such neighbours of good play.

    first_ply, last_ply: of the roots, both included; casual games reach each of them equally often. Of games that were
    played anyway every position from first_ply on is a root, of a family of `game_depth`. sense: as in `casual_states`,
    for the moves within a family too: positions that a win in one decides teach a search little, which sees it anyway.
    openings: every position of at most so many plies is labelled once, in the first iteration; 0 is none. Few games
        come to each of them, and every game to some.
    careless: the opponent of a sparring game (`escalade.training.sparring`) begins with 0 to so many random moves.
    """

    first_ply: int = 8
    last_ply: int = 30
    branches: int = 2
    depth: int = 3
    game_depth: int = 3
    sense: float = 0.8
    openings: int = 0
    careless: int = 4

    def __post_init__(self) -> None:
        whole("first_ply", self.first_ply, 0)
        whole("last_ply", self.last_ply, self.first_ply)
        whole("branches", self.branches, 1)
        whole("depth", self.depth, 0)
        for name in ("game_depth", "openings", "careless"):
            whole(name, getattr(self, name), 0)
        if not 0 <= self.sense <= 1:
            raise SettingsError(f"sense must be in [0, 1], not {self.sense!r}")


def casual_families(
    domain: Domain[Any], numbers: Iterable[int], config: SolvedConfig, *, seed: int, run: str = "casual"
) -> Iterator[Rows]:
    """The labelled family of each number, its root from a casual game; fewer where games end too soon each time."""
    for number in numbers:
        random = np.random.default_rng((seed, number))
        ply = int(random.integers(config.first_ply, config.last_ply + 1))
        for _, root in casual_states(domain, [ply], seed=int(random.integers(2**32)), sense=config.sense):
            yield solved_family(domain, root, ply, config.depth, config, random, f"{run}/casual-{number:08d}")


def opening_rows(domain: Domain[Any], plies: int, *, run: str = "opening") -> Iterator[Rows]:
    """Every unfinished position of 0, 1, … `plies` plies, labelled, symmetric images once: the rows of one number of
    plies at a time, each a game of its own."""
    level, number = [domain.initial_state()], 0
    for ply in range(plies + 1):
        names = [f"{run}/opening-{place:08d}" for place in range(number, number + len(level))]
        number += len(level)
        if level:
            yield solved_rows(domain, level, names, [ply] * len(level))
        reached: dict[int, Any] = {}
        for start in range(0, len(level), 4096):
            after = [
                domain.step(state, action)
                for state in level[start : start + 4096]
                for action in domain.legal_actions(state)
            ]
            after = [state for state in after if not domain.is_terminal(state)]
            if after:
                names_of = digests(domain, domain.encode(after), legal_mask(domain, after))
                reached |= dict(zip(names_of.tolist(), after, strict=True))
        level = list(reached.values())


def exact_labels(domain: Domain[Any], rows: Rows, config: SolvedConfig, *, seed: Sequence[int]) -> Rows:
    """Rows of games with the solver's labels in place of their own from `first_ply` on, and the families of those."""
    random = np.random.default_rng(seed)
    late: NDArray[np.bool_] = rows.ply >= config.first_ply
    parts = [rows.take(~late)] if not late.all() else []
    for text, ply, game in zip(*(getattr(rows, name)[late].tolist() for name in ("state", "ply", "game")), strict=True):
        parts.append(solved_family(domain, domain.parse(text), ply, config.game_depth, config, random, game))
    return joined(parts)


def solved_family(
    domain: Domain[Any], root: Any, ply: int, depth: int, config: SolvedConfig, random: np.random.Generator, game: str
) -> Rows:
    """A root after `ply` moves and its family, labelled, the deepest states first; all belong to one game."""
    level, found = [root], {domain.format(root): (root, ply)}
    for deeper in range(1, depth + 1):
        reached = []
        for state in level:
            tried = random.permutation(casual_actions(domain, state, random, config.sense))[: config.branches]
            reached += [domain.step(state, int(action)) for action in tried]
        level = [state for state in reached if not domain.is_terminal(state)]
        found |= {domain.format(state): (state, ply + deeper) for state in level}
    states, plies = zip(*list(found.values())[::-1], strict=True)
    return solved_rows(domain, states, [game] * len(states), plies)


def no_solver_for(domain: Domain[Any]) -> SettingsError:
    """What to say where only a solver could label."""
    return SettingsError(f"there is no exact solver for domain '{domain.name}'")


def casual_move(domain: Domain[Any], state: Any, random: np.random.Generator, sense: float) -> int:
    """One of `casual_actions`."""
    return int(random.choice(casual_actions(domain, state, random, sense)))


def casual_actions(domain: Domain[Any], state: Any, random: np.random.Generator, sense: float) -> list[int]:
    """With chance `sense` the moves that win at once or, where none does, those that allow no win in one; else, and
    where every move allows one, all that are legal."""
    legal = list(domain.legal_actions(state))
    if random.random() < sense:
        wins = [action for action, outcome in (domain.ending_actions(state) or {}).items() if outcome == 1]
        if wins:
            return wins
        return [action for action in legal if not _gives_a_win(domain, state, action)] or legal
    return legal


def _gives_a_win(domain: Domain[Any], state: Any, action: int) -> bool:
    reached = domain.step(state, action)
    if domain.is_terminal(reached) or domain.to_move(reached) == domain.to_move(state):
        return False
    return any(outcome == 1 for outcome in (domain.ending_actions(reached) or {}).values())


def solved_rows(domain: Domain[Any], states: Sequence[Any], games: Sequence[str], plies: Sequence[int]) -> Rows:
    """Rows of unfinished states: the policy is shared by all moves that keep the best of win, draw and loss, value and
    outcome are exact. games, plies: the name of the game each is from, and its place there. Raises SettingsError for a
    domain without a solver."""
    solver = exact_solver(domain)
    if solver is None:
        raise no_solver_for(domain)
    legal = legal_mask(domain, states)
    worth = np.full(legal.shape, -np.inf, np.float32)
    known: dict[str, float] = {}  # states of a family share successors
    for row, state in enumerate(states):
        for action in domain.legal_actions(state):
            reached = domain.step(state, action)
            text = domain.format(reached)
            if text not in known:
                known[text] = solver.value(reached)
            same = domain.to_move(reached) == domain.to_move(state)
            worth[row, action] = known[text] if same else -known[text]
    value = worth.max(axis=1)
    best = (worth == value[:, None]) & legal
    count = len(states)
    return Rows(
        game=np.array(list(games), np.str_).reshape(count),
        ply=np.array(plies, np.int32).reshape(count),
        state=np.array([domain.format(state) for state in states], np.str_).reshape(count),
        observation=domain.encode(states),
        legal=legal,
        policy=(best / best.sum(axis=1, keepdims=True)).astype(np.float32),
        action=np.full(count, -1, np.int32),
        value=value,
        outcome=value,
        source=np.full(count, "solver"),
        model=np.full(count, ""),
        decision=np.full(count, ""),
    )
