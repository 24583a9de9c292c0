"""Test positions, and what an exact solver says of every move in them.

Their file is a table (`domains/tables.py`) with the columns `moves`, `state` or `text` (the state as the domain writes
it) and `score_1` to `score_A`: the exact score of each action from the view of the player to move, empty where illegal.
Only its sign counts. Positions that are only left out of learning need no scores.
"""

from __future__ import annotations

import csv
import io
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray
from escalade.domains.errors import FileError, SettingsError, StateError
from escalade.domains.evaluator import usable_cores
from escalade.domains.tables import STATE_COLUMNS, read_table, text_of
from escalade.neural.files import write_whole
from escalade.search.config import whole
from escalade.search.solvers import Solver, exact_solver
from escalade.search.threads import in_threads
from escalade.training.solved import casual_move, casual_states

FIRST_PLY, LAST_PLY = 8, 34
"""Solved positions are from here to there: earlier ones take a solver long, later ones hardly leave a choice."""
MOST_PLIES = 1000
"""A casual game that lasts longer is cut there, to learn how long games are."""
PHASES = ("begin", "middle", "end")

OnSolved = Callable[[int, int], None]
"""Hears how many positions are solved, and of how many; from any thread, one at a time."""


@dataclass(frozen=True, eq=False)
class ExactPositions:
    """N unfinished positions with the exact worth of every action."""

    states: tuple[str, ...]
    """As `Domain.format` writes them."""
    worth: FloatArray
    """`[N, A]` float32: 1, 0 or -1 as the action keeps a win, a draw or only a loss for the player to move; NaN where
    illegal, and everywhere in positions that were read without scores, which are to be left out, not to judge by."""
    ply: IntArray
    """`[N]` int64: moves made before, -1 where the domain's states do not tell."""
    source: str
    """Where they are from, in words."""
    seed: int | None = None
    """Of the games they were drawn from, if they were."""
    valued: bool = True
    """Whether `worth` is that of a game; False for labels, where 1 is right, -1 wrong, and no value is known."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def legal(self) -> BoolArray:
        """`[N, A]` bool."""
        return ~np.isnan(self.worth)

    @property
    def value(self) -> FloatArray:
        """`[N]` float32: the exact sign for the player to move."""
        return np.nanmax(self.worth, axis=1)

    @property
    def optimal(self) -> BoolArray:
        """`[N, A]` bool: the actions that keep the best of win, draw and loss ("sign-optimal")."""
        return self.worth == self.value[:, None]

    @property
    def differing(self) -> BoolArray:
        """`[N]` bool: whether legal moves differ in outcome, so that there is something to get wrong."""
        return np.nanmin(self.worth, axis=1) < self.value

    def take(self, chosen: IntArray | BoolArray) -> ExactPositions:
        """Some of them."""
        which: IntArray = np.arange(len(self))[chosen]
        states = tuple(self.states[place] for place in which.tolist())
        return replace(self, states=states, worth=self.worth[which], ply=self.ply[which])

    def followed_by(self, more: ExactPositions) -> ExactPositions:
        """These and more."""
        worth, ply = np.concatenate((self.worth, more.worth)), np.concatenate((self.ply, more.ply))
        return replace(self, states=self.states + more.states, worth=worth, ply=ply)

    def parsed(self, domain: Domain[Any]) -> list[Any]:
        """The states themselves."""
        return [domain.parse(text) for text in self.states]

    def phases(self, domain: Domain[Any]) -> dict[str, BoolArray]:
        """Which positions `[N]` bool are of each phase: "all", and the thirds of the longest game, which in Connect
        Four are "begin" up to 14 plies, "middle" up to 28, and "end". Only "all" where plies are not known."""
        found = {"all": np.ones(len(self), np.bool_)}
        if len(self) and self.ply.min() >= 0:
            longest = longest_game(domain) or int(self.ply.max()) + 1
            third = np.clip(-(-self.ply * 3 // longest) - 1, 0, 2)
            found |= {name: third == number for number, name in enumerate(PHASES)}
        return found


def solved_positions(
    domain: Domain[Any],
    *,
    count: int = 2000,
    seed: int = 0,
    plies: Sequence[int] | None = None,
    on_progress: OnSolved | None = None,
) -> ExactPositions:
    """Positions labelled by the domain's exact solver.

    Every reachable unfinished position where the solver lists them (tic-tac-toe: 4520, whatever `count`); else `count`
    different ones of casual games (`escalade.training.solved.casual_states`), a game each.

    plies: how many moves each game has before its position, taken in turn; those of `solved_plies` spread evenly if
        not given. All cores solve.
    Raises SettingsError for a domain without a solver.
    """
    solver = exact_solver(domain)
    if solver is None:
        raise no_solver(domain)
    listed = getattr(solver, "reachable_positions", None)
    if callable(listed):
        states, source = [state for state in listed() if not domain.is_terminal(state)], "every reachable position"
    else:
        states = _casual(domain, whole("count", count, 1), seed, plies)
        source = f"casual games, seed {seed}"
    return solved(domain, states, source, None if callable(listed) else seed, on_progress=on_progress)


def solved(
    domain: Domain[Any],
    states: Sequence[Any],
    source: str,
    seed: int | None = None,
    *,
    on_progress: OnSolved | None = None,
) -> ExactPositions:
    """These unfinished states, labelled by the domain's exact solver; all cores solve. source, seed: where they are
    from. Raises SettingsError for a domain without a solver."""
    solver = exact_solver(domain)
    if solver is None:
        raise no_solver(domain)
    worth = _worth(domain, solver, states, on_progress)
    return ExactPositions(tuple(domain.format(state) for state in states), worth, _plies(states), source, seed)


def open_positions(
    domain: Domain[Any],
    *,
    path: Path | None = None,
    count: int = 2000,
    seed: int = 0,
    folder: Path | None = None,
    on_progress: OnSolved | None = None,
) -> ExactPositions:
    """The positions of a file, or else solved ones, kept as `folder`/positions-COUNT-SEED.csv so that they are solved
    only once. Raises SettingsError for a file that is none, or a domain with neither solver nor file."""
    if path is not None:
        return read_positions(path, domain)
    solver = exact_solver(domain)
    if solver is None:
        raise no_solver(domain)
    if folder is None or hasattr(solver, "reachable_positions"):  # a table that is there at once
        return solved_positions(domain, count=count, seed=seed, on_progress=on_progress)
    kept = folder / f"positions-{count}-{seed}.csv"
    if not kept.exists():
        write_positions(kept, solved_positions(domain, count=count, seed=seed, on_progress=on_progress))
    read = read_positions(kept, domain)
    return ExactPositions(read.states, read.worth, read.ply, f"casual games, seed {seed}", seed)


def write_positions(path: Path, positions: ExactPositions) -> None:
    """The file that `read_positions` reads; whole or not at all. Scores are the signs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["moves", *_score_columns(positions.worth.shape[1])])
    for state, worth in zip(positions.states, positions.worth.tolist(), strict=True):
        writer.writerow([state, *("" if math.isnan(score) else int(score) for score in worth)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def read_positions(path: Path, domain: Domain[Any], *, scored: bool = True) -> ExactPositions:
    """Positions of a file as the module's text describes it; further columns are ignored.

    scored: whether the scores are wanted; if not, their columns are as good as any further ones.
    Raises SettingsError naming the line and the column at fault.
    """
    names = _score_columns(domain.num_actions) if scored else []
    unknown = [math.nan] * domain.num_actions
    states, worth = [], []
    try:
        table = read_table(path, (*STATE_COLUMNS, *_score_columns(domain.num_actions)))
        state_column = table.column(("moves", "state", "text"))
        columns = [table.column((name,)) for name in names]
    except FileError as error:
        raise SettingsError(f"positions: {error}") from None
    for row in table.rows:
        if not table.is_json and None in row.cells:
            raise _refused(path, row.place, "it has not as many cells as the first line")
        state = _state(path, row.place, domain, row.cells[state_column], table.columns[state_column])
        scores = [row.cells[column] for column in columns]
        worth.append(_signs(path, row.place, domain, state, scores) if scored else unknown)
        states.append(state)
    if not states:
        raise SettingsError(f"positions '{path}': there are none in it")
    texts = tuple(domain.format(state) for state in states)
    return ExactPositions(texts, np.array(worth, np.float32), _plies(states), str(path))


def no_solver(domain: Domain[Any]) -> SettingsError:
    """What to say of a domain whose moves nobody here can judge."""
    return SettingsError(
        f"there is no exact solver for domain '{domain.name}': give test positions with exact scores by --positions, "
        "or test states with what is right by --labels"
        + (", or let it play matches, by --games" if domain.has_simulator else "")
    )


def longest_game(domain: Domain[Any]) -> int | None:
    """Plies of the longest game, None where that is not known."""
    cells = getattr(domain, "num_cells", None)
    return cells if isinstance(cells, int) else None


def first_solved_ply(domain: Domain[Any]) -> int:
    """The ply from which the solver solves a position soon: what it says itself (`Solver`), else the first one of
    `solved_plies`."""
    own = getattr(exact_solver(domain), "first_ply", None)
    return solved_plies(domain)[0] if own is None else int(own)


def solved_plies(domain: Domain[Any]) -> tuple[int, int]:
    """The first and the last ply of the positions that are solved: FIRST_PLY and LAST_PLY, in games of unknown length
    the same part of half of 21 casual games."""
    if longest_game(domain) is not None:
        return FIRST_PLY, LAST_PLY
    lengths = []
    for number in range(21):
        random, state = np.random.default_rng((0x91E5, number)), domain.initial_state()
        plies = 0
        while not domain.is_terminal(state) and plies < MOST_PLIES:
            state, plies = domain.step(state, casual_move(domain, state, random, 0.8)), plies + 1
        lengths.append(plies)
    usual = sorted(lengths)[len(lengths) // 2]
    return usual // 5, max(usual // 5, usual * 4 // 5 - 1)


# Solving


def _casual(domain: Domain[Any], count: int, seed: int, plies: Sequence[int] | None) -> list[Any]:
    """So many different states, those asked for first in the order of their games."""
    first, last = solved_plies(domain)
    wanted = [first + place * (last + 1 - first) // count for place in range(count)] if plies is None else list(plies)
    if not wanted:
        raise SettingsError("plies must name at least one number of moves")
    found: dict[bytes, Any] = {}
    # Some games meet, and some end too soon: twice as many are begun at most.
    for _, state in casual_states(domain, list(islice(cycle(wanted), 2 * count)), seed=seed):
        found.setdefault(domain.encode([state]).tobytes(), state)
        if len(found) == count:
            break
    return list(found.values())


def _worth(domain: Domain[Any], solver: Solver, states: Sequence[Any], on_progress: OnSolved | None) -> FloatArray:
    worth = np.full((len(states), domain.num_actions), np.nan, np.float32)
    telling, done = threading.Lock(), 0

    def solve(row: int, _: threading.Event) -> None:
        nonlocal done
        state = states[row]
        for action in domain.legal_actions(state):
            reached = domain.step(state, action)
            value = solver.value(reached)
            worth[row, action] = value if domain.to_move(reached) == domain.to_move(state) else 0.0 - value
        with telling:
            done += 1
            if on_progress is not None:
                on_progress(done, len(states))

    in_threads(solve, len(states), usable_cores())
    return worth


def _plies(states: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([len(getattr(state, "moves", "")) if hasattr(state, "moves") else -1 for state in states], np.int64)


# Reading


def _score_columns(actions: int) -> list[str]:
    return [f"score_{number}" for number in range(1, actions + 1)]


def _state(path: Path, place: str, domain: Domain[Any], cell: Any, column: str) -> Any:
    text = text_of(cell)
    if text is None:
        raise _refused(path, place, f"column '{column}': there is no state")
    try:
        state = domain.parse(text)
    except StateError as error:
        raise _refused(path, place, f"column '{column}': {error}") from None
    if domain.is_terminal(state):
        raise _refused(path, place, f"column '{column}': the game '{text}' is over")
    return state


def _signs(path: Path, place: str, domain: Domain[Any], state: Any, scores: Sequence[Any]) -> list[float]:
    signs = [math.nan] * len(scores)
    legal = set(domain.legal_actions(state))
    for action, cell in enumerate(scores):
        score = "" if cell is None else str(cell)
        where = f"column 'score_{action + 1}'"
        if not score.strip():
            if action in legal:
                raise _refused(path, place, f"{where}: action {domain.action_name(action)} is legal, but has no score")
            continue
        if action not in legal:
            raise _refused(path, place, f"{where}: action {domain.action_name(action)} is not legal, but has a score")
        try:
            exact = float(score)
        except ValueError:
            exact = math.nan
        if not math.isfinite(exact):
            raise _refused(path, place, f"{where}: {score[:20]!r} is not a number")
        signs[action] = float((exact > 0) - (exact < 0))
    return signs


def _refused(path: Path, place: str, what: str) -> SettingsError:
    return SettingsError(f"positions '{path}', {place}: {what}")
