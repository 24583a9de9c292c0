"""Search trees as kernels see them: one Numba structure with the address of every array and of the domain's rules.

Passing the structure costs a call less than a microsecond; passing the arrays one by one would cost ten.
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
from numba.np.numpy_support import from_dtype

from escalade.domains.base import Domain, array_domain
from escalade.domains.kernels import ENCODE, ENDS, PLAYOUT, RULES, STEP, RowKernels, check_kernels
from escalade.search.arrays import LAYOUT, Arrays, new_arrays


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

_ARRAYS = types.NamedTuple(
    [types.Array(from_dtype(np.dtype(kind)), len(letters.split()), "C") for kind, letters in LAYOUT.values()], Arrays
)
_FOR_RULES = [
    *("leaf_rows", "leaf_legal", "leaf_terminal", "leaf_outcome", "leaf_to_move", "leaf_ends"),
    *("asked_rows", "asked_legal", "cached_logits", "observations"),
    *(name for name in LAYOUT if name.startswith("scratch_")),
]
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
    f.room = _pointer(a.room)
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
    f.considered = _pointer(a.considered)
    f.root_prior = _pointer(a.root_prior)
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
        if signature.args not in kernel.signatures:
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
