"""One wave: every tree of a `Forest` settles the leaf it had asked about, then searches on until it needs the
evaluator again or is done.

A tree whose leaf is finished or proven needs nobody's estimate: it backs up and selects again within the same wave, so
that every row of the one batched evaluation is a row worth asking about. For an `ArrayDomain` the whole wave is one
kernel; for other domains the rounds are kernels and the rules are Python in between (`search/leaves.py`).
"""

from __future__ import annotations

import warnings

import numpy as np
from numba import carray, njit, types
from numba.core.errors import NumbaExperimentalFeatureWarning

from escalade.domains.random_bits import GAMMA, mix
from escalade.search.arrays import (
    ASKED,
    FAILED,
    FINISHED,
    FULL,
    HITS,
    NONE,
    PENDING,
    PROVEN,
    READY,
    RUNNING,
    SIMULATIONS,
    UNLAWFUL,
)
from escalade.search.backup import add_leaf, back_up, set_priors, set_uniform_priors
from escalade.search.cache import keep_estimate, known_place
from escalade.search.forest import FOREST_TYPE, RULES_TYPE, flags
from escalade.search.selection import select

MOST_ROUNDS = MOST_AGAIN = 32
"""Where leaves need no estimate, or are finished nodes seen again, a wave still ends after so many."""


@njit(types.void(FOREST_TYPE), nogil=True, cache=True, error_model="numpy")
def settle(f):  # type: ignore[no-untyped-def]
    """Give each leaf that was asked about its estimate, of `f.logits` and `f.values`. A tree that gets a NaN fails."""
    f.counts[FINISHED] = 0
    for m in range(f.counts[ASKED]):
        tree, node = f.asked[m], f.asked_node[m]
        if np.isfinite(f.values[m]) and set_priors(f, tree, node, f.logits, m):
            back_up(f, tree, node, f.values[m])
            if f.cache_places > 1:
                keep_estimate(f, m)
        else:
            f.stopped[tree] = FAILED
        f.ready[f.counts[READY]] = tree
        f.counts[READY] += 1
    f.counts[ASKED] = 0


@njit(types.int64(FOREST_TYPE), nogil=True, cache=True, error_model="numpy")
def select_round(f):  # type: ignore[no-untyped-def]
    """A new leaf for each tree that is ready, listed as pending; trees that are done are listed as finished, and those
    that came upon finished nodes too often stay ready. Returns how many leaves there are."""
    pending = kept = 0
    for m in range(f.counts[READY]):
        tree = f.ready[m]
        start = f.start[tree]
        node, action, again = np.int64(NONE), np.int64(NONE), 0
        while f.size[tree] > 0:
            if f.stopped[tree] == RUNNING and f.visits[start] >= f.visits_wanted[tree]:
                f.stopped[tree] = SIMULATIONS
            if f.lower[start] == f.upper[start] and f.stopped[tree] <= SIMULATIONS:
                f.stopped[tree] = PROVEN
            if f.stopped[tree] == RUNNING and f.size[tree] >= f.room[tree]:
                f.stopped[tree] = FULL
            if f.stopped[tree] != RUNNING:
                break
            node, action = select(f, tree)
            if action >= 0 or f.stopped[tree] != RUNNING:
                break
            back_up(f, tree, node, np.float32(0))  # a finished node, seen again
            again += 1
            if again == MOST_AGAIN:
                break
        if again == MOST_AGAIN:
            f.ready[kept] = tree
            kept += 1
            continue
        if f.size[tree] > 0 and f.stopped[tree] != RUNNING:
            f.finished[f.counts[FINISHED]] = tree
            f.counts[FINISHED] += 1
            continue
        f.pending[pending] = tree
        f.leaf_parent[pending], f.leaf_action[pending], f.leaf_node[pending] = node, action, f.size[tree]
        pending += 1
    f.counts[READY] = kept
    f.counts[PENDING] = pending
    return pending


@njit(types.void(FOREST_TYPE), nogil=True, cache=True, error_model="numpy")
def absorb_round(f):  # type: ignore[no-untyped-def]
    """Make the pending leaves nodes. A tree whose leaf is exactly known is ready again; the others will ask."""
    for m in range(f.counts[PENDING]):
        tree, node = f.pending[m], f.leaf_node[m]
        exact = add_leaf(f, tree, m)
        if exact or f.stopped[tree] == UNLAWFUL:
            if exact:
                set_uniform_priors(f, tree, node)
                back_up(f, tree, node, np.float32(0))
            f.ready[f.counts[READY]] = tree
            f.counts[READY] += 1
            continue
        place = known_place(f, m) if f.cache_places > 1 else np.int64(NONE)
        if place >= 0:
            set_priors(f, tree, node, f.cached_logits, place)
            back_up(f, tree, node, f.cached_values[place])
            f.ready[f.counts[READY]] = tree
            f.counts[READY] += 1
            f.counts[HITS] += 1
            continue
        k = f.counts[ASKED]
        f.asked[k], f.asked_node[k] = tree, node
        f.asked_keys[k] = mix(f.seed[tree] + GAMMA * np.uint64(node))
        for a in range(f.actions):
            f.asked_legal[k * f.actions + a] = f.leaf_legal[m * f.actions + a]
        for w in range(f.width):
            f.asked_rows[k * f.width + w] = f.leaf_rows[m * f.width + w]
        f.counts[ASKED] = k + 1
    f.counts[PENDING] = 0


with warnings.catch_warnings():
    # As in search/forest.py.
    warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)

    @njit(nogil=True, cache=True, error_model="numpy")
    def look_ahead(f, rules, leaves):  # type: ignore[no-untyped-def]
        """Outcomes of the actions that end the game, by trying every action."""
        actions, width = f.actions, f.width
        count = 0
        for m in range(leaves):
            for a in range(actions):
                f.leaf_ends[m * actions + a] = np.nan
                if f.leaf_legal[m * actions + a]:
                    for w in range(width):
                        f.scratch_rows[count * width + w] = f.leaf_rows[m * width + w]
                    f.scratch_actions[count] = a
                    count += 1
        both = carray(f.scratch_rows, (2 * count, width))
        rules.step(both[:count], carray(f.scratch_actions, count), both[count:])
        over, outcome = flags(f.scratch_terminal, count), carray(f.scratch_outcome, count)
        then_to_move = carray(f.scratch_to_move, count)
        rules.rules(both[count:], flags(f.scratch_legal, (count, actions)), over, outcome, then_to_move)
        to_move = f.leaf_to_move
        count = 0
        for m in range(leaves):
            for a in range(actions):
                if f.leaf_legal[m * actions + a]:
                    if over[count]:
                        f.leaf_ends[m * f.actions + a] = (
                            outcome[count] if then_to_move[count] == to_move[m] else -outcome[count]
                        )
                    count += 1

    @njit(types.void(FOREST_TYPE, RULES_TYPE), nogil=True, cache=True, error_model="numpy")
    def advance_round(f, rules):  # type: ignore[no-untyped-def]
        """The states of the pending leaves, and what the domain's kernels say of them. A root has its row already."""
        count, width = f.counts[PENDING], f.width
        steps = 0
        for m in range(count):
            if f.leaf_parent[m] >= 0:
                at = f.start[f.pending[m]] + f.leaf_parent[m]
                for w in range(width):
                    f.scratch_rows[steps * width + w] = f.rows[at * width + w]
                f.scratch_actions[steps] = f.leaf_action[m]
                steps += 1
        both = carray(f.scratch_rows, (2 * steps, width))
        after = both[steps:]
        rules.step(both[:steps], carray(f.scratch_actions, steps), after)
        steps = 0
        for m in range(count):
            at = f.start[f.pending[m]] + f.leaf_node[m]
            for w in range(width):
                if f.leaf_parent[m] >= 0:
                    f.rows[at * width + w] = after[steps, w]
                f.leaf_rows[m * width + w] = f.rows[at * width + w]
            steps += f.leaf_parent[m] >= 0
        rows, legal = carray(f.leaf_rows, (count, width)), flags(f.leaf_legal, (count, f.actions))
        outcome, to_move = carray(f.leaf_outcome, count), carray(f.leaf_to_move, count)
        rules.rules(rows, legal, flags(f.leaf_terminal, count), outcome, to_move)
        if rules.has_ends:
            rules.ends(rows, carray(f.leaf_ends, (count, f.actions)))
        else:
            look_ahead(f, rules, count)
        if rules.has_proofs:
            rules.proofs(rows, carray(f.leaf_proofs, (count, f.actions)))
        else:
            for place in range(count * f.actions):
                f.leaf_proofs[place] = np.nan

    @njit(types.int64(FOREST_TYPE, RULES_TYPE, types.boolean), nogil=True, cache=True, error_model="numpy")
    def wave(f, rules, encode):  # type: ignore[no-untyped-def]
        """All of a wave. Returns how many leaves to ask about; their encodings are in `observations` if `encode`,
        their rows in `asked_rows`."""
        settle(f)
        for _ in range(MOST_ROUNDS):
            if select_round(f) == 0:
                break
            advance_round(f, rules)
            absorb_round(f)
        asked = f.counts[ASKED]
        if encode and asked > 0:
            rules.encode(carray(f.asked_rows, (asked, f.width)), carray(f.observations, (asked, f.numbers)))
        return asked


@njit(types.void(FOREST_TYPE), nogil=True, cache=True, error_model="numpy")
def abandon(f):  # type: ignore[no-untyped-def]
    """Take back the questions of trees that were stopped: their last leaf is unmade. A root's question stays, since a
    tree without a root has no answer to give, unless it failed."""
    kept = 0
    for m in range(f.counts[ASKED]):
        tree, node = f.asked[m], f.asked_node[m]
        if f.stopped[tree] == RUNNING or (node == 0 and f.stopped[tree] != FAILED):
            f.asked[kept], f.asked_node[kept], f.asked_keys[kept] = tree, node, f.asked_keys[m]
            for a in range(f.actions):
                f.asked_legal[kept * f.actions + a] = f.asked_legal[m * f.actions + a]
            for w in range(f.width):
                f.asked_rows[kept * f.width + w] = f.asked_rows[m * f.width + w]
            for k in range(f.numbers):
                f.observations[kept * f.numbers + k] = f.observations[m * f.numbers + k]
            kept += 1
            continue
        if node > 0:
            at = f.start[tree] + node
            f.child[(f.start[tree] + f.parent[at]) * f.actions + f.parent_action[at]] = NONE
            f.size[tree] = node
        f.ready[f.counts[READY]] = tree  # from where it is listed as finished
        f.counts[READY] += 1
    f.counts[ASKED] = kept
