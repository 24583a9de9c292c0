"""Search trees as a struct of arrays, in one arena that trees of different size share.

Shapes: T trees at once, P nodes in the arena, A actions, W integers a state, K numbers an encoded state. A tree owns
the nodes `start .. start + capacity` of the arena and numbers its own from 0, the root. Every value is seen from the
player to move in its node, edge values from the player to move in the parent. An edge repeats what its child knows
(visits, value, bounds), so that selection reads one row of memory a node.

Proofs are bounds: each node keeps a lower and an upper bound on its exact value, equal once the value is proven. That
is MCTS-Solver (Winands et al. 2008) in the score-bounded form of Cazenave & Saffidine, "Score Bounded Monte-Carlo Tree
Search", 2010, which proves draws as well as wins and losses.

The arrays are allocated once and never filled: a node is initialised when it is made, so room that no tree grows into
is never touched. Kernels see everything through one Numba structure, which costs a call less than a microsecond where
passing the arrays one by one would cost ten.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.core.errors import NumbaExperimentalFeatureWarning
from numba.experimental import structref
from numba.extending import intrinsic
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray, KeyArray, array_domain
from escalade.domains.errors import SettingsError
from escalade.domains.kernels import ENCODE, ENDS, PLAYOUT, RULES, STEP, RowKernels, check_kernels

MAX_BYTES = 8 * 2**30
NONE = -1
RUNNING, SIMULATIONS, PROVEN, DEADLINE, CANCELLED, FAILED = range(6)
"""Why a tree stopped."""
WORK_LISTS = READY, PENDING, ASKED, FINISHED, HITS = range(5)
"""Places in `counts`: how many entries of the work lists are in use; and how often the cache knew a state."""

Ints = NDArray[np.int32]


class Arrays(NamedTuple):
    """All there is to know of the trees, and the lists of work in progress."""

    # Of a node's actions. A prior of -1 marks an illegal one; `child` is a node of the same tree or -1.
    prior: FloatArray  # [P, A]
    edge_visits: Ints  # [P, A]
    edge_value: FloatArray  # [P, A]
    edge_lower: FloatArray  # [P, A]
    edge_upper: FloatArray  # [P, A]
    child: Ints  # [P, A]
    # Of a node. Its exact value is in [lower, upper].
    visits: Ints  # [P]
    raw_value: FloatArray  # [P], the evaluator's
    value: FloatArray  # [P], what the search makes of it: total / visits, within the bounds
    total: NDArray[np.float64]  # [P], sum of the leaf values found below, its own included
    lower: FloatArray  # [P]
    upper: FloatArray  # [P]
    parent: Ints  # [P], -1 at the root
    parent_action: Ints  # [P]
    to_move: NDArray[np.int8]  # [P]
    terminal: BoolArray  # [P]
    rows: IntArray  # [P, W], the states of an `ArrayDomain`; W is 0 for others
    # Of a tree.
    start: IntArray  # [T], its first node in the arena
    size: IntArray  # [T], nodes in use
    visits_wanted: IntArray  # [T], of the root, the one that makes it included
    stopped: NDArray[np.int8]  # [T], RUNNING or why not
    seed: KeyArray  # [T]
    proofs: BoolArray  # [T], whether exact results are backed up
    c_puct: FloatArray  # [T]
    fpu_reduction: FloatArray  # [T]
    noise_fraction: FloatArray  # [T], of Dirichlet noise in the root's priors
    noise: FloatArray  # [T, A], gamma variates for Dirichlet noise, or the Gumbel variables of the root
    gumbel: BoolArray  # [T], whether it is a Gumbel search
    c_visit: FloatArray  # [T]
    c_scale: FloatArray  # [T]
    schedule: Ints  # [P], per simulation of a Gumbel search: how often the action to try was visited before
    root_samples: FloatArray  # [T, A], leaf values found through each action of the root: how many,
    root_sum: FloatArray  # [T, A], their sum, seen from the root,
    root_squares: FloatArray  # [T, A], and that of their squares
    # Work lists; `counts` says how long each is.
    counts: IntArray  # [5]
    ready: IntArray  # [T], trees that may select
    finished: IntArray  # [T], trees that stopped
    pending: IntArray  # [T], trees with a new leaf, which is
    leaf_parent: IntArray  # [T], under this node
    leaf_action: IntArray  # [T], by this action,
    leaf_node: IntArray  # [T], and gets this number
    leaf_rows: IntArray  # [T, W], states of the leaves, in order of `pending`
    leaf_legal: BoolArray  # [T, A]
    leaf_terminal: BoolArray  # [T]
    leaf_outcome: FloatArray  # [T]
    leaf_to_move: NDArray[np.int8]  # [T]
    leaf_ends: FloatArray  # [T, A], outcomes of actions that end the game, else NaN
    asked: IntArray  # [T], trees whose leaf waits for the evaluator
    asked_node: IntArray  # [T], that leaf
    asked_rows: IntArray  # [T, W]
    asked_legal: BoolArray  # [T, A]
    asked_keys: KeyArray  # [T], the leaf's own source of chance
    observations: FloatArray  # [T, K]
    # Estimates of states met before, C places, each for one state at a time; C is a power of two, or 1 for no cache.
    cached_rows: IntArray  # [C, W]
    cached_logits: FloatArray  # [C, A]
    cached_values: FloatArray  # [C], NaN where nothing is kept
    # Room for steps, one from each leaf's parent, and for one-ply lookahead.
    scratch_rows: IntArray  # [2 * T * A, W]
    scratch_actions: IntArray  # [T * A]
    scratch_legal: BoolArray  # [T * A, A]
    scratch_terminal: BoolArray  # [T * A]
    scratch_outcome: FloatArray  # [T * A]
    scratch_to_move: NDArray[np.int8]  # [T * A]


def most_nodes(domain: Domain[Any]) -> int:
    """How many nodes an arena may have."""
    fast = array_domain(domain)
    return MAX_BYTES // _node_bytes(domain.num_actions, fast.row_width if fast else 0)


def _node_bytes(actions: int, width: int) -> int:
    return 24 * actions + 42 + 8 * width


def new_arrays(trees: int, nodes: int, actions: int, width: int, numbers: int, cache: int = 0) -> Arrays:
    """Room for `trees` trees with `nodes` nodes in all, and for about `cache` estimates. Raises SettingsError if that
    would not fit in memory."""
    p, t, a, w = nodes, trees, actions, width
    needed = p * _node_bytes(a, w)
    if needed > MAX_BYTES:
        raise SettingsError(
            f"{trees} trees of {nodes // trees} nodes with {actions} actions need {needed / 2**30:.1f} GiB, more than "
            f"the {MAX_BYTES / 2**30:.0f} GiB allowed: lower simulations or search fewer states at once"
        )
    wide, places = t * a, 1 << max(cache - 1, 0).bit_length()
    ta, tw = (t, a), (t, w)
    shapes: dict[str, tuple[int, ...]] = {
        **dict.fromkeys(("prior", "edge_visits", "edge_value", "edge_lower", "edge_upper", "child"), (p, a)),
        **dict.fromkeys(("visits", "raw_value", "value", "total", "lower", "upper", "parent", "parent_action"), (p,)),
        **dict.fromkeys(("to_move", "terminal", "schedule"), (p,)),
        "rows": (p, w),
        **dict.fromkeys(
            ("noise", "root_samples", "root_sum", "root_squares", "leaf_legal", "leaf_ends", "asked_legal"), ta
        ),
        **dict.fromkeys(("leaf_rows", "asked_rows"), tw),
        "counts": (len(WORK_LISTS),),
        "cached_rows": (places, w),
        "cached_logits": (places, a),
        "cached_values": (places,),
        "observations": (t, numbers),
        "scratch_rows": (2 * wide, w),
        "scratch_legal": (wide, a),
        **dict.fromkeys(("scratch_actions", "scratch_terminal", "scratch_outcome", "scratch_to_move"), (wide,)),
    }
    arrays: dict[str, Any] = {name: np.empty(shapes.get(name, (t,)), kind) for name, kind in _KINDS.items()}
    arrays["counts"][:] = 0
    arrays["cached_values"][:] = np.nan
    return Arrays(**arrays)


_KINDS: dict[str, Any] = {
    **dict.fromkeys(Arrays._fields, np.float32),
    **dict.fromkeys(("edge_visits", "child", "visits", "parent", "parent_action", "schedule"), np.int32),
    **dict.fromkeys(("rows", "start", "size", "visits_wanted", "counts", "ready", "finished", "pending"), np.int64),
    **dict.fromkeys(("cached_rows",), np.int64),
    **dict.fromkeys(("leaf_parent", "leaf_action", "leaf_node", "leaf_rows"), np.int64),
    **dict.fromkeys(("asked", "asked_node", "asked_rows", "scratch_rows", "scratch_actions"), np.int64),
    **dict.fromkeys(("terminal", "proofs", "gumbel", "leaf_legal", "leaf_terminal"), np.bool_),
    **dict.fromkeys(("asked_legal", "scratch_legal", "scratch_terminal"), np.bool_),
    **dict.fromkeys(("to_move", "stopped", "leaf_to_move", "scratch_to_move"), np.int8),
    **dict.fromkeys(("seed", "asked_keys"), np.uint64),
    "total": np.float64,
}


@structref.register
class _RulesType(types.StructRef):  # type: ignore[misc]
    pass


@structref.register
class _ForestType(types.StructRef):  # type: ignore[misc]
    pass


class _RulesBox(structref.StructRefProxy):  # type: ignore[misc]
    pass


class _ForestBox(structref.StructRefProxy):  # type: ignore[misc]
    pass


structref.define_boxing(_RulesType, _RulesBox)
structref.define_boxing(_ForestType, _ForestBox)

_NUMBA = {np.int32: types.int32, np.int64: types.int64, np.bool_: types.boolean, np.int8: types.int8}
_NUMBA |= {np.uint64: types.uint64, np.float32: types.float32, np.float64: types.float64}
_EXAMPLE = new_arrays(1, 1, 1, 1, 1)
_ARRAYS = types.NamedTuple([types.Array(_NUMBA[a.dtype.type], a.ndim, "C") for a in _EXAMPLE], Arrays)
_FOR_RULES = (
    *("leaf_rows", "leaf_legal", "leaf_terminal", "leaf_outcome", "leaf_to_move", "leaf_ends", "asked_rows"),
    *(
        "asked_legal",
        "cached_logits",
        "observations",
        "scratch_rows",
        "scratch_actions",
        "scratch_legal",
        "scratch_terminal",
        "scratch_outcome",
    ),
    "scratch_to_move",
)
"""What is handed to the domain's kernels, which take arrays: `f.leaf_rows_array` and so on."""
_SIGNATURES = (STEP, RULES, ENCODE, PLAYOUT, ENDS)  # in the order of RowKernels
_POINTERS = [types.FunctionType(signature) for signature in _SIGNATURES]
RULES_TYPE = _RulesType([*zip(RowKernels._fields, _POINTERS, strict=True), ("has_ends", types.boolean)])


def _pointer_type(array: Any) -> Any:
    return types.CPointer(types.uint8 if array.dtype == types.boolean else array.dtype)


FOREST_TYPE = _ForestType(
    [
        *((name, _pointer_type(array)) for name, array in zip(Arrays._fields, _ARRAYS.types, strict=True)),
        *((f"{name}_array", _ARRAYS.types[Arrays._fields.index(name)]) for name in _FOR_RULES),
        ("actions", types.int64),
        ("width", types.int64),
        ("cache_places", types.int64),
        ("rules", RULES_TYPE),
    ]
)
"""What kernels get. Every array is there as a bare pointer, `f.prior[at * f.actions + action]`: Numba counts references
to arrays, and taking one out of a structure would cost more than what is done with it."""


@intrinsic
def _pointer(typing_context, array):  # type: ignore[no-untyped-def]
    """The address of an array's first number."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return context.make_array(signature.args[0])(context, builder, arguments[0]).data

    return _pointer_type(array)(array), generate


with warnings.catch_warnings():
    # Calling kernels through pointers has been in Numba since 2020 and is still called experimental.
    warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)

    @njit(RULES_TYPE(*_POINTERS, types.boolean), cache=True)
    def _box_rules(step, rules, encode, playout, ends, has_ends):  # type: ignore[no-untyped-def]
        box = structref.new(RULES_TYPE)
        box.step, box.rules, box.encode, box.playout = step, rules, encode, playout
        box.ends, box.has_ends = ends, has_ends
        return box


@njit(FOREST_TYPE(_ARRAYS, RULES_TYPE), cache=True)
def _box_forest(a, rules):  # type: ignore[no-untyped-def]
    f = structref.new(FOREST_TYPE)
    f.rules, f.actions, f.width = rules, a.prior.shape[1], a.rows.shape[1]
    f.cache_places = a.cached_values.shape[0]
    f.prior = _pointer(a.prior)
    f.edge_visits = _pointer(a.edge_visits)
    f.edge_value = _pointer(a.edge_value)
    f.edge_lower = _pointer(a.edge_lower)
    f.edge_upper = _pointer(a.edge_upper)
    f.child = _pointer(a.child)
    f.visits = _pointer(a.visits)
    f.raw_value = _pointer(a.raw_value)
    f.value = _pointer(a.value)
    f.total = _pointer(a.total)
    f.lower = _pointer(a.lower)
    f.upper = _pointer(a.upper)
    f.parent = _pointer(a.parent)
    f.parent_action = _pointer(a.parent_action)
    f.to_move = _pointer(a.to_move)
    f.terminal = _pointer(a.terminal)
    f.rows = _pointer(a.rows)
    f.start = _pointer(a.start)
    f.size = _pointer(a.size)
    f.visits_wanted = _pointer(a.visits_wanted)
    f.stopped = _pointer(a.stopped)
    f.seed = _pointer(a.seed)
    f.proofs = _pointer(a.proofs)
    f.c_puct = _pointer(a.c_puct)
    f.fpu_reduction = _pointer(a.fpu_reduction)
    f.noise_fraction = _pointer(a.noise_fraction)
    f.noise = _pointer(a.noise)
    f.gumbel = _pointer(a.gumbel)
    f.c_visit = _pointer(a.c_visit)
    f.c_scale = _pointer(a.c_scale)
    f.schedule = _pointer(a.schedule)
    f.root_samples = _pointer(a.root_samples)
    f.root_sum = _pointer(a.root_sum)
    f.root_squares = _pointer(a.root_squares)
    f.counts = _pointer(a.counts)
    f.ready = _pointer(a.ready)
    f.finished = _pointer(a.finished)
    f.pending = _pointer(a.pending)
    f.leaf_parent = _pointer(a.leaf_parent)
    f.leaf_action = _pointer(a.leaf_action)
    f.leaf_node = _pointer(a.leaf_node)
    f.leaf_rows = _pointer(a.leaf_rows)
    f.leaf_legal = _pointer(a.leaf_legal)
    f.leaf_terminal = _pointer(a.leaf_terminal)
    f.leaf_outcome = _pointer(a.leaf_outcome)
    f.leaf_to_move = _pointer(a.leaf_to_move)
    f.leaf_ends = _pointer(a.leaf_ends)
    f.asked = _pointer(a.asked)
    f.asked_node = _pointer(a.asked_node)
    f.asked_rows = _pointer(a.asked_rows)
    f.asked_legal = _pointer(a.asked_legal)
    f.asked_keys = _pointer(a.asked_keys)
    f.observations = _pointer(a.observations)
    f.scratch_rows = _pointer(a.scratch_rows)
    f.scratch_actions = _pointer(a.scratch_actions)
    f.scratch_legal = _pointer(a.scratch_legal)
    f.scratch_terminal = _pointer(a.scratch_terminal)
    f.scratch_outcome = _pointer(a.scratch_outcome)
    f.scratch_to_move = _pointer(a.scratch_to_move)
    f.leaf_rows_array = a.leaf_rows
    f.leaf_legal_array = a.leaf_legal
    f.leaf_terminal_array = a.leaf_terminal
    f.leaf_outcome_array = a.leaf_outcome
    f.leaf_to_move_array = a.leaf_to_move
    f.leaf_ends_array = a.leaf_ends
    f.asked_rows_array = a.asked_rows
    f.asked_legal_array = a.asked_legal
    f.cached_logits_array = a.cached_logits
    f.cached_rows = _pointer(a.cached_rows)
    f.cached_logits = _pointer(a.cached_logits)
    f.cached_values = _pointer(a.cached_values)
    f.observations_array = a.observations
    f.scratch_rows_array = a.scratch_rows
    f.scratch_actions_array = a.scratch_actions
    f.scratch_legal_array = a.scratch_legal
    f.scratch_terminal_array = a.scratch_terminal
    f.scratch_outcome_array = a.scratch_outcome
    f.scratch_to_move_array = a.scratch_to_move
    return f


@njit(STEP, nogil=True, cache=True)
def _no_step(rows, actions, out):  # type: ignore[no-untyped-def]
    pass


@njit(RULES, nogil=True, cache=True)
def _no_rules(rows, legal, terminal, outcome, to_move):  # type: ignore[no-untyped-def]
    pass


@njit(ENDS, nogil=True, cache=True)
def _no_output(rows, out):  # type: ignore[no-untyped-def]
    pass


@njit(PLAYOUT, nogil=True, cache=True)
def _no_playout(rows, keys, out):  # type: ignore[no-untyped-def]
    pass


@functools.lru_cache(maxsize=64)
def _rules_of(kernels: RowKernels | None) -> Any:
    """A domain's kernels as pointers; a domain without any gets some that do nothing and are never called."""
    if kernels is None:
        return _box_rules(_no_step, _no_rules, _no_output, _no_playout, _no_output, False)
    chosen = kernels if kernels.ends else kernels._replace(ends=_no_output)
    for kernel, signature in zip(chosen, _SIGNATURES, strict=True):
        kernel.compile(signature.args)
    return _box_rules(*chosen, kernels.ends is not None)


class Forest(NamedTuple):
    """The arrays, and the same as one value for kernels."""

    arrays: Arrays
    handle: Any


def new_forest(domain: Domain[Any], trees: int, nodes: int, cache: int = 0) -> Forest:
    """Room for `trees` trees of a domain with `nodes` nodes in all, and for `cache` estimates. Raises SettingsError if
    memory forbids it."""
    fast = array_domain(domain)
    kernels, width = (check_kernels(fast), fast.row_width) if fast else (None, 0)
    numbers = math.prod(domain.observation_shape)
    arrays = new_arrays(trees, nodes, domain.num_actions, width, numbers, cache)
    return Forest(arrays, _box_forest(arrays, _rules_of(kernels)))
