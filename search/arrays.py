"""The arrays that search trees are made of: a struct of arrays, in one arena that trees of different size share.

A tree owns the nodes `start .. start + room` of the arena and numbers its own from 0, the root. Every value is seen
from the player to move in its node, edge values from the player to move in the parent. An edge repeats what its child
knows (visits, value, bounds), so that selection reads one row of memory a node.

Proofs are bounds: each node keeps a lower and an upper bound on its exact value, equal once the value is proven. That
is MCTS-Solver (Winands et al. 2008) in the score-bounded form of Cazenave & Saffidine, "Score Bounded Monte-Carlo Tree
Search", 2010, which proves draws as well as wins and losses.

The arrays are allocated once and never filled: a node is initialised when it is made, so room that no tree grows into
is never touched.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
from contextlib import suppress
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import Domain, array_domain
from escalade.domains.errors import SettingsError

MAX_BYTES = 8 * 2**30
NONE = -1
BEYOND = -2
"""In place of a child: none was made, since its value was proven at sight, and the game ends no one knows when."""
RUNNING, SIMULATIONS, PROVEN, DEADLINE, MEMORY, CANCELLED, FAILED, UNLAWFUL, FULL = range(9)
"""Why a tree stopped. FAILED: the evaluator or a plain domain did; UNLAWFUL: what the rules said cannot be; FULL: until
it gets more room."""
FAULTS = FAILED, UNLAWFUL
WORK_LISTS = READY, PENDING, ASKED, FINISHED, HITS = range(5)
"""Places in `counts`: how many entries of the work lists are in use; and how often the cache knew a state."""

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]


class Arrays(NamedTuple):
    """All there is to know of the trees, and the lists of work in progress.

    Shapes: T trees at once, P nodes in the arena, A actions, W integers a state (0 for a plain domain), K numbers an
    encoded state, C places of the cache, S actions that may be tried at once, L work lists.
    """

    # Of a node's actions. A prior of -1 marks an illegal one; `child` is a node of the same tree, NONE or BEYOND.
    prior: Annotated[F32, "P A"]
    edge_visits: Annotated[I32, "P A"]
    edge_value: Annotated[F32, "P A"]
    edge_lower: Annotated[F32, "P A"]
    edge_upper: Annotated[F32, "P A"]
    child: Annotated[I32, "P A"]
    # Of a node. Its exact value is in [lower, upper].
    visits: Annotated[I32, "P"]
    raw_value: Annotated[F32, "P"]  # the evaluator's
    value: Annotated[F32, "P"]  # what the search makes of it: total / visits, within the bounds
    total: Annotated[F64, "P"]  # sum of the leaf values found below, its own included
    lower: Annotated[F32, "P"]
    upper: Annotated[F32, "P"]
    parent: Annotated[I32, "P"]  # -1 at the root
    parent_action: Annotated[I32, "P"]
    to_move: Annotated[I8, "P"]
    terminal: Annotated[Flags, "P"]
    rows: Annotated[I64, "P W"]  # the states of an `ArrayDomain`; W is 0 for others
    # Of a tree.
    start: Annotated[I64, "T"]  # its first node in the arena
    room: Annotated[I64, "T"]  # how many there are for it
    size: Annotated[I64, "T"]  # and how many it uses
    visits_wanted: Annotated[I64, "T"]  # of the root, the one that makes it included
    stopped: Annotated[I8, "T"]  # RUNNING or why not
    seed: Annotated[U64, "T"]
    proofs: Annotated[Flags, "T"]  # whether exact results are backed up
    c_puct: Annotated[F32, "T"]
    fpu_reduction: Annotated[F32, "T"]
    noise_fraction: Annotated[F32, "T"]  # of Dirichlet noise in the root's priors
    noise: Annotated[F32, "T A"]  # logs of gamma variates for Dirichlet noise, or the Gumbel variables of the root
    gumbel: Annotated[Flags, "T"]  # whether it is a Gumbel search
    c_visit: Annotated[F32, "T"]
    c_scale: Annotated[F32, "T"]
    rescale: Annotated[Flags, "T"]  # whether Q is scaled by the range that a node's actions have
    considered: Annotated[I64, "T"]  # actions that share the simulations of a Gumbel search
    root_prior: Annotated[F32, "T A"]  # the root's priors without noise
    root_samples: Annotated[F32, "T A"]  # leaf values found through each action of the root: how many,
    root_sum: Annotated[F32, "T A"]  # their sum, seen from the root,
    root_squares: Annotated[F32, "T A"]  # and that of their squares
    # Work lists; `counts` says how long each is.
    counts: Annotated[I64, "L"]
    ready: Annotated[I64, "T"]  # trees that may select
    finished: Annotated[I64, "T"]  # trees that stopped
    pending: Annotated[I64, "T"]  # trees with a new leaf, which is
    leaf_parent: Annotated[I64, "T"]  # under this node
    leaf_action: Annotated[I64, "T"]  # by this action,
    leaf_node: Annotated[I64, "T"]  # and gets this number
    leaf_rows: Annotated[I64, "T W"]  # states of the leaves, in order of `pending`
    leaf_legal: Annotated[Flags, "T A"]
    leaf_terminal: Annotated[Flags, "T"]
    leaf_outcome: Annotated[F32, "T"]
    leaf_to_move: Annotated[I8, "T"]
    leaf_ends: Annotated[F32, "T A"]  # outcomes of actions that end the game, else NaN
    leaf_proofs: Annotated[F32, "T A"]  # what actions are proven to be worth without a search, else NaN
    asked: Annotated[I64, "T"]  # trees whose leaf waits for the evaluator
    asked_node: Annotated[I64, "T"]  # that leaf
    asked_rows: Annotated[I64, "T W"]
    asked_legal: Annotated[Flags, "T A"]
    asked_keys: Annotated[U64, "T"]  # the leaf's own source of chance
    observations: Annotated[F32, "T K"]
    logits: Annotated[F32, "T A"]  # the evaluator's answers
    values: Annotated[F32, "T"]
    # Estimates of states met before, C places, each for one state at a time; C is a power of two, or 1 for no cache.
    cached_rows: Annotated[I64, "C W"]
    cached_logits: Annotated[F32, "C A"]
    cached_values: Annotated[F32, "C"]  # NaN where nothing is kept
    # Room for steps, one from each leaf's parent, and for one-ply lookahead.
    scratch_rows: Annotated[I64, "2S W"]
    scratch_actions: Annotated[I64, "S"]
    scratch_legal: Annotated[Flags, "S A"]
    scratch_terminal: Annotated[Flags, "S"]
    scratch_outcome: Annotated[F32, "S"]
    scratch_to_move: Annotated[I8, "S"]


def nodes_in(memory: int, domain: Domain[Any]) -> int:
    """How many nodes an arena of so many bytes has."""
    fast = array_domain(domain)
    return memory // _node_bytes(domain.num_actions, fast.row_width if fast else 0)


def node_arrays(arrays: Arrays) -> list[NDArray[Any]]:
    """Those with a line a node."""
    return [getattr(arrays, name) for name, (_, letters) in LAYOUT.items() if letters[0] == "P"]


def _node_bytes(actions: int, width: int) -> int:
    sizes = {"P": 1, "A": actions, "W": width}
    return sum(
        np.dtype(kind).itemsize * math.prod(sizes[letter] for letter in letters.split())
        for kind, letters in LAYOUT.values()
        if letters[0] == "P"
    )


def new_arrays(
    trees: int, nodes: int, actions: int, width: int, numbers: int, cache: int = 0, looks_ahead: bool = True
) -> tuple[Arrays, U64]:
    """Room for `trees` trees with `nodes` nodes in all, and for about `cache` estimates; and the address of each array.
    looks_ahead: whether every action of a leaf is tried. Raises SettingsError if that would not fit in memory."""
    needed = nodes * _node_bytes(actions, width)
    if needed > MAX_BYTES:
        raise SettingsError(
            f"{trees} trees of {nodes // trees} nodes with {actions} actions need {needed / 2**30:.1f} GiB, more than "
            f"the {MAX_BYTES / 2**30:.0f} GiB allowed: lower simulations or search fewer states at once"
        )
    places = 1 << max(cache - 1, 0).bit_length()
    tried = 0 if width == 0 else trees * actions if looks_ahead else trees
    total, offsets, views = _places(nodes, trees, actions, width, numbers, places, tried)
    if total - needed > MAX_BYTES:
        raise SettingsError(
            f"{trees} trees of {actions} actions, with {cache} cached estimates, need {total / 2**30:.0f} GiB beside "
            f"their nodes; more than the {MAX_BYTES / 2**30:.0f} GiB allowed: search fewer states, or lower cache"
        )
    block = _block(total)
    arrays = Arrays(*(np.ndarray(shape, kind, block, offset) for kind, shape, offset in views))
    arrays.counts[:] = 0
    arrays.cached_values[:] = np.nan
    return arrays, block.ctypes.data + offsets


def _block(size: int) -> NDArray[np.uint8]:
    """So many bytes. Large blocks come from the system directly, page by page as they are written to: NumPy would ask
    for pages of 2 MiB, one or more of which each tree would touch in each array with its first node."""
    try:
        if size < 2**20 or os.name != "posix":
            return np.empty(size, np.uint8)
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        pages = mmap.mmap(-1, size, private)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_NOHUGEPAGE)
        return np.frombuffer(pages, np.uint8)
    except (MemoryError, OSError):
        raise SettingsError(
            f"there are no {size / 2**30:.2f} GiB of memory for the search: lower simulations, search fewer states at "
            "once, or give a service less memory"
        ) from None


@functools.lru_cache(maxsize=256)
def _places(
    p: int, t: int, a: int, w: int, k: int, c: int, s: int
) -> tuple[int, U64, list[tuple[Any, tuple[int, ...], int]]]:
    """The bytes of one block for all arrays, where in it each begins, and each one's type, shape and beginning."""
    sizes = {"P": p, "T": t, "A": a, "W": w, "K": k, "C": c, "S": s, "2S": 2 * s, "L": len(WORK_LISTS)}
    views, offset = [], 0
    for kind, letters in LAYOUT.values():
        shape = tuple(sizes[letter] for letter in letters.split())
        views.append((np.dtype(kind), shape, offset))
        offset += -(-math.prod(shape) * np.dtype(kind).itemsize // _LINE) * _LINE
    return offset, np.array([place for _, _, place in views], np.uint64), views


_LINE = 64
"""Bytes: where memory is shared with another array, writes to one would slow down the other."""


def _layout() -> dict[str, tuple[Any, str]]:
    """Each array's type and the letters of its shape, read from the declaration above."""
    found = {}
    for name, hint in get_type_hints(Arrays, include_extras=True).items():
        array, letters = get_args(hint)
        (kind,) = get_args(get_args(array)[1])
        found[name] = (kind, letters)
    return found


LAYOUT = _layout()
