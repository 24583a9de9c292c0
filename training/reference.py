"""States, and what a reference holds to be right in each: what loss is measured against.

- `exact`: the domain's exact solver, on games of its own or on a file of positions with exact scores
  (`escalade.training.exact_labels`).
- `labels`: a file of states and the action that is right in each (`domains/tables.py`).
- `search:N`: a search of N simulations with the bundle's own network; on a file of states, or casual games.
- `llm`, `person`: what a language model or a person decided, from an experience store
  (`escalade.training.production`).

Whatever a reference thinks as good as its own choice counts as right. Only the first two are the truth; with the
others what is proven is agreement, and so named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, IntArray, legal_mask
from escalade.domains.errors import ActionError, EscaladeError, FileError, SettingsError, StateError
from escalade.domains.evaluator import AnyEvaluator
from escalade.domains.tables import ACTION_COLUMNS, GAME_COLUMNS, STATE_COLUMNS, read_table, text_of
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.results import SearchResult
from escalade.search.solvers import exact_solver, optimal_actions
from escalade.training.agreement import BATCH, OnDone
from escalade.training.casual import casual_positions
from escalade.training.exact import (
    ExactPositions,
)
from escalade.training.position_keys import position_keys

AS_GOOD = 0.02
"""Actions that a search values so close to its choice, in [-1, 1], are as good to it."""
RECORDED = {"llm": "llm", "person": "human"}
"""References that are recorded, and the source of their rows in an experience store."""
SEARCH = r"search:([1-9]\d{0,8})"
"""A search of so many simulations as reference."""
SEED = 0xCE47
"""Sets the casual games of references apart from those that networks are trained and evaluated on."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """N states that are not finished, as they were drawn: one that was drawn twice is there twice. acceptable `[N, A]`
    bool: the actions that the reference holds for as good as its own. group `[N]` int64: states of one game or
    conversation share a number, and are never split."""

    states: tuple[str, ...]
    acceptable: BoolArray
    group: IntArray
    reference: str
    source: str
    census: bool = False
    """Whether these are all states there are, each once, so that nothing is inferred from them for others."""
    listed: BoolArray | None = None
    """`[N]` bool: which were drawn from a list of which the solver holds all answers (`Solver`); None: none were."""

    def __len__(self) -> int:
        return len(self.states)

    def take(self, places: IntArray) -> Labelled:
        """Some of them."""
        chosen = tuple(self.states[place] for place in places.tolist())
        listed = None if self.listed is None else self.listed[places]
        return replace(self, states=chosen, acceptable=self.acceptable[places], group=self.group[places], listed=listed)

    def are_listed(self, states: Sequence[str]) -> BoolArray:
        """`[M]` bool: which of these states, in text, are `listed` here."""
        known = set() if self.listed is None else {self.states[place] for place in np.flatnonzero(self.listed)}
        return np.array([state in known for state in states], np.bool_)


def apart(domain: Domain[Any], labelled: Labelled, others: Labelled) -> Labelled:
    """Those that look to a network like none of the others. Raises SettingsError if all do."""
    own, known = (
        position_keys(domain.encode(states), legal_mask(domain, states))
        for states in ([domain.parse(text) for text in each.states] for each in (labelled, others))
    )
    fresh = np.flatnonzero(~np.isin(own, known))
    if not len(fresh):
        raise SettingsError(f"all {len(labelled)} states had a part in the certificate: {labelled.source}")
    return labelled.take(fresh)


def casual_states(domain: Domain[Any], count: int, seed: int, first_ply: int = 0) -> list[Any]:
    """So many unfinished states, one of a casual game each, any time from `first_ply` on equally likely within a game;
    fewer where games hardly ever last so long. Early ones come several times, as they do in play."""
    own = int(np.random.SeedSequence((SEED, seed)).generate_state(1)[0])
    return [state for _, _, state in casual_positions(domain, range(count), first_ply, seed=own)]


def of_positions(positions: ExactPositions, source: str) -> Labelled:
    """Positions whose exact worth is known, each of a game of its own."""
    return Labelled(positions.states, positions.optimal, np.arange(len(positions)), "exact", source)


def acceptable_actions(
    domain: Domain[Any], reference: str, text: str, evaluator: AnyEvaluator | None = None
) -> set[int] | None:
    """The actions that a reference holds for right in one state; None if it cannot be asked. evaluator: for a search.

    Raises StateError for a text that is no state, and SettingsError for what is no reference."""
    state = domain.parse(text)
    if reference == "exact":
        solver = exact_solver(domain)
        return None if solver is None else set(optimal_actions(solver.scores(state)))
    size = re.fullmatch(SEARCH, reference)
    if size is None:
        if reference in ("labels", *RECORDED):
            return None
        raise SettingsError(
            f"there is no reference '{reference}': it must be exact, labels, search:N with N from 1 on, llm or person"
        )
    if evaluator is None or not domain.has_simulator:
        return None
    (found,) = search(domain, [state], evaluator, SearchConfig(simulations=int(size[1])), seed=[SEED])
    return set(np.flatnonzero(as_good(found)).tolist())


def as_good(found: SearchResult) -> BoolArray:
    """`[A]` bool: the actions that a search holds for as good as its choice."""
    worth = np.where(found.lower == found.upper, found.lower, found.action_values)
    right: BoolArray = worth >= worth[found.action] - AS_GOOD  # NaN, which is unvisited or illegal, is not
    right[found.action] = True
    return right


def file_labels(domain: Domain[Any], path: Path, reference: str = "labels") -> Labelled:
    """A table (`domains/tables.py`) with a column of states (`state`, `moves` or `text`), one of the actions that are
    right (`action`, `label`, `category` or `intent`), and perhaps one of games or conversations (`game`,
    `conversation`); a row a decision, so that what is common counts as often. reference: who named the actions.
    Raises SettingsError naming the row and the column at fault."""
    texts, actions, group = _read(domain, path, wants_action=True)
    acceptable = np.zeros((len(texts), domain.num_actions), np.bool_)
    acceptable[np.arange(len(texts)), actions] = True
    return Labelled(texts, acceptable, group, reference, path.name)


def labelled_positions(domain: Domain[Any], labelled: Labelled) -> ExactPositions:
    """Labelled states as positions to judge by: an action is right or wrong, and nothing is known of the value."""
    states = [domain.parse(text) for text in labelled.states]
    worth = np.where(labelled.acceptable, 1, -1).astype(np.float32)
    worth[~legal_mask(domain, states)] = np.nan
    ply = np.full(len(states), -1, np.int64)
    return ExactPositions(labelled.states, worth, ply, f"labels of {labelled.source}", valued=False)


def search_labels(
    domain: Domain[Any],
    evaluator: AnyEvaluator,
    simulations: int,
    *,
    path: Path | None = None,
    count: int = 4000,
    seed: int = 0,
    on_progress: OnDone | None = None,
) -> Labelled:
    """By a search: of the states of a file (columns as in `file_labels`, the action left out), or of casual games.
    Raises SettingsError for a domain that cannot look ahead."""
    if not domain.has_simulator:
        raise SettingsError(f"domain '{domain.name}' has no simulator, so no search can be its reference")
    if path is not None:
        texts, _, group = _read(domain, path, wants_action=False)
        source = path.name
    else:
        texts = tuple(domain.format(state) for state in casual_states(domain, count, seed))
        group, source = np.arange(len(texts)), f"positions of {len(texts)} casual games, seed {seed}"
    states = [domain.parse(text) for text in texts]
    acceptable = np.zeros((len(texts), domain.num_actions), np.bool_)
    config = SearchConfig(simulations=simulations)
    seeds: list[int] = np.random.SeedSequence((SEED, seed, simulations)).generate_state(len(states), np.uint64).tolist()
    for first in range(0, len(states), BATCH):
        part = slice(first, first + BATCH)
        for place, found in enumerate(search(domain, states[part], evaluator, config, seed=seeds[part]), start=first):
            acceptable[place] = as_good(found)
        if on_progress is not None:
            on_progress(min(first + BATCH, len(states)), len(states))
    return Labelled(texts, acceptable, group, f"search:{simulations}", source)


def _read(
    domain: Domain[Any], path: Path, *, wants_action: bool
) -> tuple[tuple[str, ...], NDArray[np.int64], IntArray]:
    """Texts, actions `[N]` (-1 where they are not wanted) and groups `[N]` of a file, a row each."""
    found: list[tuple[str, int, str]] = []
    try:
        table = read_table(path, (*STATE_COLUMNS, *ACTION_COLUMNS, *GAME_COLUMNS))
        state_column = table.column(STATE_COLUMNS)
        action_column = table.column(ACTION_COLUMNS) if wants_action else None
        game_column = table.find(GAME_COLUMNS)
    except FileError as error:
        raise SettingsError(f"states: {error}") from None
    for row in table.rows:
        where = f"'{path}', {row.place}"
        state = _parsed(domain, row.cells[state_column], f"{where}, column {table.columns[state_column]}")
        action = -1
        if action_column is not None:
            at = f"{where}, column {table.columns[action_column]}"
            action = _named_action(domain, state, row.cells[action_column], at)
        game = None if game_column is None else text_of(row.cells[game_column])
        # Without a name it is a game of its own; the names of a file may be numbers too.
        found.append((domain.format(state), action, row.place if game is None else f"game {game}"))
    if not found:
        raise SettingsError(f"states '{path}': there are none in it")
    texts, actions, games = zip(*found, strict=True)
    return texts, np.array(actions, np.int64), numbered(games)


def _parsed(domain: Domain[Any], value: Any, where: str) -> Any:
    """The unfinished state in a cell."""
    if value is None:
        raise SettingsError(f"{where}: there is no state")
    try:
        state = domain.parse(value if isinstance(value, dict | list) else text_of(value))
        if domain.is_terminal(state):
            raise StateError("the game is over")
    except EscaladeError as error:
        raise SettingsError(f"{where}: {error}") from None
    return state


def _named_action(domain: Domain[Any], state: Any, value: Any, where: str) -> int:
    """The legal action that a cell names."""
    name = text_of(value)
    if name is None or not name.strip():
        raise SettingsError(f"{where}: there is none")
    try:
        action = domain.parse_action(name)
    except ActionError as error:
        raise SettingsError(f"{where}: {error}") from None
    if not legal_mask(domain, [state])[0, action]:
        raise SettingsError(f"{where}: {name} is not legal there")
    return action


def numbered(names: Sequence[str]) -> IntArray:
    """`[N]` int64: equal names, equal numbers."""
    return np.unique(np.array(names, np.str_), return_inverse=True)[1].astype(np.int64)
