"""TD(0) targets of values: what a network thinks of the position that came next, or how the game ended.

One row's successor is the row of the same game one ply on. Rewards come only with the end of a game, so a target is
the outcome at the last row of a game and `gamma` times the value of the successor before it, seen by whoever moves in
the row (`escalade.neural.losses.td_target`). Against the outcome, which a `WindowConfig` mixes it with, it trades
noise of all later moves for the error of the network that is asked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray
from escalade.domains.evaluator import Evaluator
from escalade.neural.losses import td_target
from escalade.neural.networks import PolicyValueNetwork
from escalade.training.rows import Rows

ROWS = 4096
"""Rows an evaluation."""


def td_values(rows: Rows, domain: Domain[Any], evaluator: Evaluator, gamma: float = 1.0) -> FloatArray:
    """`[N]` float32 in [-1, 1], from the view of the player to move; NaN where there is none: at a row that has no
    successor and is not the last of a game with a known outcome, and at a solver's, which knows better.

    evaluator: what successors are worth, where no solver has said it; it is only asked, nothing flows back to it.
    Raises StateError if the text of a row that has a successor is none of the domain's.
    """
    after, last = successors(rows)
    exact: BoolArray = rows.source == "solver"
    followed = (after >= 0) & ~exact
    ended = last & ~np.isnan(rows.outcome) & ~exact
    next_value, sign = np.full(len(rows), np.nan, np.float32), np.ones(len(rows), np.float32)
    next_value[followed] = _worth(rows, np.unique(after[followed]), evaluator)[after[followed]]
    movers = _movers(rows, np.union1d(np.flatnonzero(followed), after[followed]), domain)
    sign[followed & (movers != movers[after])] = -1
    reward = np.where(ended, rows.outcome, 0).astype(np.float32)
    given = [torch.from_numpy(each) for each in (reward, next_value, sign, ended)]
    values: FloatArray = td_target(given[0], given[1], given[2], given[3], gamma).numpy()
    return values


def shared_td_values(rows: Rows, domain: Domain[Any], network: PolicyValueNetwork, gamma: float) -> FloatArray:
    """`td_values`; where several processes share a fit, those of the first one in all of them, to the last bit. All of
    them have the same rows."""
    if not distributed.is_initialized():
        return td_values(rows, domain, network, gamma)
    values = np.empty(len(rows), np.float32)
    if distributed.get_rank() == 0:
        values = td_values(rows, domain, network, gamma)
    shared = torch.from_numpy(values).to(network.device)
    distributed.broadcast(shared, 0)
    told: FloatArray = shared.cpu().numpy()
    return told


def successors(rows: Rows) -> tuple[IntArray, BoolArray]:
    """Of each row the place `[N]` int64 of the row that came next in its game, and whether it is the last one there
    `[N]` bool. -1: there is none, or there are several that differ, as a solver's families have."""
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    _, game = np.unique(rows.game, return_inverse=True)
    ply = rows.ply.astype(np.int64)
    latest = np.zeros(int(game.max()) + 1, np.int64)
    np.maximum.at(latest, game, ply)
    place = game * (int(ply.max()) + 2) + ply  # one more than there are plies, so that games do not touch
    places, first, which = np.unique(place, return_index=True, return_inverse=True)
    several = np.zeros(len(places), np.bool_)
    several[which[rows.state != rows.state[first][which]]] = True
    at = np.minimum(np.searchsorted(places, place + 1), len(places) - 1)
    after = np.where((places[at] == place + 1) & ~several[at], first[at], -1)
    return after, ply == latest[game]


def _worth(rows: Rows, asked: IntArray, evaluator: Evaluator) -> FloatArray:
    """Values `[N]` of the rows at `asked`, NaN elsewhere: a solver's, or else the evaluator's."""
    values = np.where(rows.source == "solver", rows.outcome, np.nan).astype(np.float32)
    asked = asked[np.isnan(values[asked])]
    for start in range(0, len(asked), ROWS):
        part = asked[start : start + ROWS]
        values[part] = evaluator.evaluate(np.asarray(rows.observation[part]).astype(np.float32), rows.legal[part])[1]
    return values


def _movers(rows: Rows, asked: IntArray, domain: Domain[Any]) -> NDArray[np.int64]:
    """The player to move `[N]` in the rows at `asked`; 0 elsewhere."""
    movers = np.zeros(len(rows), np.int64)
    movers[asked] = [domain.to_move(domain.parse(text)) for text in rows.state[asked].tolist()]
    return movers
