"""What a searched tree recommends: the move, the policy, the line of best play. Kernels over one tree of a `Forest`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from escalade.search.arrays import BEYOND, NONE
from escalade.search.forest import FOREST_TYPE
from escalade.search.gumbel import completed_value, improved_policy, score, sigma

BY_VISITS, BY_LOWER_BOUND, BY_GUMBEL = range(3)
"""How the final move is chosen among actions that are still open."""
ENOUGH_VISITS = 0.15
"""A move needs this share of the most visits to be chosen by its lower bound."""
_LONG = 2**20
"""Plies that no line has."""
POLICY, VALUE, PRIOR, LOWER, UPPER = range(5)
"""Rows of what `read_out` writes."""


@njit(nogil=True, cache=True, error_model="numpy")
def plies_to_end(f, tree):  # type: ignore[no-untyped-def]
    """`[N]` int32: moves to the end of each proven node's line, the winner hurrying and the loser holding out as far
    as the tree knows; 0 for finished and for unproven nodes."""
    start = f.start[tree]
    plies = np.zeros(f.size[tree], np.int32)
    for node in range(f.size[tree] - 1, -1, -1):  # children have larger numbers than their parent
        at = start + node
        if f.lower[at] < f.upper[at]:
            continue
        value = f.lower[at]
        found = -1
        for action in range(f.actions):
            if f.prior[at * f.actions + action] < 0 or f.edge_lower[at * f.actions + action] != value:
                continue
            length = 1 + _plies_after(f.child[at * f.actions + action], plies)
            if found < 0 or (length < found if value > 0 else length > found):
                found = length
        plies[node] = max(found, 0)
    return plies


@njit(nogil=True, cache=True, error_model="numpy")
def _plies_after(child, plies):  # type: ignore[no-untyped-def]
    """Plies to the end after a proven action; what was proven at sight ends later than anything that was looked at."""
    if child >= 0:
        return plies[child]
    return np.int32(_LONG if child == BEYOND else 0)


@njit(nogil=True, cache=True, error_model="numpy")
def best_action(f, tree, node, plies, rule, deviations):  # type: ignore[no-untyped-def]
    """The best, by `rule`, of the actions that may still beat what is sure, or of those that are sure to be as good.

    A sure action's visits stop when it is proven, so a more visited one is preferred only if it also looks better. Of
    proven wins the shortest is played (`plies`, from `plies_to_end`), of proven losses the longest, and of those
    the one that takes the most replies away from the winner, as a person would.
    """
    at = f.start[tree] + node
    actions = f.actions
    sure = f.lower[at]
    hopeful = np.zeros(actions, np.bool_)
    settled = np.zeros(actions, np.bool_)
    for a in range(actions):
        if f.prior[at * f.actions + a] >= 0:
            hopeful[a] = f.edge_upper[at * f.actions + a] > sure
            settled[a] = not hopeful[a] and f.edge_lower[at * f.actions + a] == sure
    if not hopeful.any():
        return _settled_best(f, tree, at, plies, settled)
    if sure > -1 and settled.any():
        safe = _first(f, tree, at, settled, BY_VISITS, deviations)
        for a in range(actions):
            if (
                f.edge_visits[at * f.actions + a] <= f.edge_visits[at * f.actions + safe]
                or f.edge_value[at * f.actions + a] <= sure
            ):
                hopeful[a] = False
        return _first(f, tree, at, hopeful, rule, deviations) if hopeful.any() else safe
    return _first(f, tree, at, hopeful, rule, deviations)


@njit(nogil=True, cache=True, error_model="numpy")
def _settled_best(f, tree, at, plies, settled):  # type: ignore[no-untyped-def]
    sure = f.lower[at]
    start = f.start[tree]
    best = NONE
    best_length, best_taken = 0, 0
    replies = np.full(settled.shape[0], NONE, np.int64)
    for a in range(settled.shape[0]):
        child = f.child[at * f.actions + a]
        if settled[a] and sure < 0 and child >= 0:
            replies[a] = _refutation(f, start, child, plies)
    for a in range(settled.shape[0]):
        if not settled[a]:
            continue
        child = f.child[at * f.actions + a]
        length = _plies_after(child, plies) if sure != 0 else 0
        taken = 0  # replies that this action takes away from the winner
        for b in range(settled.shape[0]):
            taken += settled[b] and sure < 0 and replies[b] == a
        better = length < best_length if sure > 0 else length > best_length
        if best >= 0 and length == best_length:
            better = taken > best_taken or (taken == best_taken and _ranks_before(f, at, a, best))
        if best < 0 or better:
            best, best_length, best_taken = a, length, taken
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def _refutation(f, start, node, plies):  # type: ignore[no-untyped-def]
    """The action that wins soonest in a node proven won."""
    at = start + node
    best, best_length = NONE, 0
    for a in range(f.actions):
        if f.prior[at * f.actions + a] >= 0 and f.edge_lower[at * f.actions + a] == f.lower[at]:
            length = _plies_after(f.child[at * f.actions + a], plies)
            if best < 0 or length < best_length:
                best, best_length = a, length
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def _ranks_before(f, at, a, b):  # type: ignore[no-untyped-def]
    """More visits first, then the larger prior, then the smaller index."""
    if f.edge_visits[at * f.actions + a] != f.edge_visits[at * f.actions + b]:
        return f.edge_visits[at * f.actions + a] > f.edge_visits[at * f.actions + b]
    if f.prior[at * f.actions + a] != f.prior[at * f.actions + b]:
        return f.prior[at * f.actions + a] > f.prior[at * f.actions + b]
    return a < b


@njit(nogil=True, cache=True, error_model="numpy")
def _first(f, tree, at, among, rule, deviations):  # type: ignore[no-untyped-def]
    """The first of some actions by a rule. BY_LOWER_BOUND: the greatest mean less so many standard errors, as Leela
    Zero (pull request 2290) and KataGo choose. BY_GUMBEL: g + logits + sigma(Q) among the most visited
    (Danihelka et al. 2022, section 3.4)."""
    most = 0
    for a in range(among.shape[0]):
        if among[a]:
            most = max(most, f.edge_visits[at * f.actions + a])
    best, best_value = NONE, -np.inf
    for a in range(among.shape[0]):
        if not among[a]:
            continue
        n = f.edge_visits[at * f.actions + a]
        value = 0.0
        if rule == BY_LOWER_BOUND and most > 0:
            if n < ENOUGH_VISITS * most or n == 0:
                continue
            samples = f.root_samples[tree * f.actions + a]
            mean = f.root_sum[tree * f.actions + a] / max(samples, 1)
            error = 1.0 / np.sqrt(n)  # of values in [-1, 1], until there are samples of this search
            if samples > 1:
                variance = f.root_squares[tree * f.actions + a] / samples - mean * mean
                error = np.sqrt(max(variance, 0.0) / samples)
            value = f.edge_value[at * f.actions + a] - deviations * error
        elif rule == BY_GUMBEL:
            if n < most:
                continue
            value = f.noise[tree * f.actions + a] + score(f, at, a, sigma(f, tree, at), completed_value(f, at))
        if best < 0 or value > best_value or (value == best_value and _ranks_before(f, at, a, best)):
            best, best_value = a, value
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def _policy(f, tree, at, out):  # type: ignore[no-untyped-def]
    """What search makes of the prior, `[A]`: the visits as a distribution, or of a Gumbel search the improved policy
    softmax(logits + sigma(completed Q)). Actions proven lost, or worse than another, have no weight; once the root
    is proven, only those proven best have. A sure action is never visited: the visits of those that look worse, in the
    hope of better, count for it."""
    actions = f.actions
    kept = np.zeros(actions, np.bool_)
    visited = 0
    hopeful = False
    for a in range(actions):
        hopeful |= f.prior[at * actions + a] >= 0 and f.edge_upper[at * actions + a] > f.lower[at]
    for a in range(actions):
        edge = at * actions + a
        as_good = f.edge_lower[edge] == f.lower[at] and (not hopeful or f.lower[at] > -1)
        kept[a] = f.prior[edge] >= 0 and (f.edge_upper[edge] > f.lower[at] or as_good)
        visited += f.edge_visits[edge] if kept[a] else 0
    if f.gumbel[tree]:
        scale, unvisited = sigma(f, tree, at), completed_value(f, at)
        for a in range(actions):
            out[a] = score(f, at, a, scale, unvisited)
        improved_policy(out, kept, out)
        return
    total = given = 0.0
    sure = 0
    for a in range(actions):
        edge = at * actions + a
        out[a] = 0
        if kept[a]:
            out[a] = f.edge_visits[edge] if visited else f.prior[edge]
            sure += f.edge_upper[edge] <= f.lower[at]
        total += out[a]
    if visited and sure:
        for a in range(actions):
            edge = at * actions + a
            if kept[a] and f.edge_upper[edge] > f.lower[at] and f.edge_value[edge] < f.lower[at]:
                given, out[a] = given + out[a], 0
        for a in range(actions):
            if kept[a] and f.edge_upper[at * actions + a] <= f.lower[at]:
                out[a] += given / sure
    for a in range(actions):
        if kept[a]:
            out[a] = out[a] / total if total > 0 else 1.0 / kept.sum()


_NUMBERS, _VISITS = types.float32[:, :, ::1], types.int32[:, ::1]
_LINES, _CHOSEN = types.int64[:, ::1], types.int64[::1]


@njit(
    types.void(FOREST_TYPE, _CHOSEN, types.int64, types.float64, _NUMBERS, _VISITS, _LINES, _CHOSEN, _CHOSEN),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def read_out(f, trees, rule, deviations, numbers, visits, lines, chosen, lengths):  # type: ignore[no-untyped-def]
    """Everything a caller wants to know of the roots of trees `[M]`.

    rule, deviations: of the final choice. Written are numbers `[M, 5, A]` (policy, mean values or NaN where unvisited,
    priors, lower and upper bounds or NaN where illegal), visits `[M, A]`, the line of best play `[M, L]` and its
    length `[M]`. chosen `[M]`: an action to begin the line with, or NONE, which is replaced by the best one.
    """
    for m in range(trees.shape[0]):
        tree = trees[m]
        at = f.start[tree]  # the root's place; a node's is this plus its number
        for a in range(f.actions):
            edge = at * f.actions + a
            legal = f.prior[edge] >= 0
            numbers[m, VALUE, a] = f.edge_value[edge] if f.edge_visits[edge] > 0 else np.nan
            numbers[m, PRIOR, a] = f.prior[edge] if legal else 0
            numbers[m, LOWER, a] = f.edge_lower[edge] if legal else np.nan
            numbers[m, UPPER, a] = f.edge_upper[edge] if legal else np.nan
            visits[m, a] = f.edge_visits[edge]
        _policy(f, tree, at, numbers[m, POLICY])
        plies = plies_to_end(f, tree)
        if chosen[m] < 0:
            chosen[m] = best_action(f, tree, 0, plies, rule, deviations)
        lines[m, 0] = chosen[m]
        length = 1
        node = f.child[at * f.actions + chosen[m]]
        while node >= 0 and length < lines.shape[1]:
            tried = plies[node] > 0
            for a in range(f.actions):
                tried |= f.edge_visits[(at + node) * f.actions + a] > 0
            if not tried:
                break
            lines[m, length] = best_action(f, tree, node, plies, BY_VISITS, 0.0)
            node = f.child[(at + node) * f.actions + lines[m, length]]
            length += 1
        lengths[m] = length
