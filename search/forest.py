"""Search trees as kernels see them: `f.prior[at * f.actions + action]`.

A `ForestType` is one address: of a table of words, which are the addresses of all arrays and the sizes. Passing it
costs nothing and, unlike Numba's own structures and arrays, it is not counted: a count is a locked instruction, behind
which the processor cannot look ahead to the memory of the next tree. Nor can a word change while a kernel runs, which
the compiler is told.
"""

from __future__ import annotations

import functools
import hashlib
import math
import warnings
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core.errors import NumbaExperimentalFeatureWarning
from numba.core.typing.templates import AttributeTemplate
from numba.experimental import structref
from numba.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.numpy_support import from_dtype

from escalade.domains.base import Domain, array_domain
from escalade.domains.evaluator import usable_cores
from escalade.domains.kernels import ENCODE, ENDS, PLAYOUT, PROOFS, RULES, STEP, RowKernels, check_kernels
from escalade.search.arrays import LAYOUT, Arrays, new_arrays, node_arrays
from escalade.search.threads import asking_compiler


def _element(kind: Any) -> Any:
    return types.uint8 if kind is np.bool_ else from_dtype(np.dtype(kind))


_WORDS: dict[str, Any] = {
    **{name: types.CPointer(_element(kind)) for name, (kind, _) in LAYOUT.items()},
    **dict.fromkeys(("trees", "actions", "width", "numbers", "cache_places"), types.int64),
}
"""The type of each word: T, A, W, K and C of `Arrays` come after the arrays."""


class ForestType(types.Type):  # type: ignore[misc]
    """What kernels call `f`."""

    def __init__(self) -> None:
        # Compiled kernels are kept on disk by the names of their types: another order of words is another type.
        super().__init__(name=f"Forest{hashlib.sha256(repr(_WORDS).encode()).hexdigest()[:8]}")


FOREST_TYPE = ForestType()


@register_model(ForestType)
class _ForestModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, ir.IntType(64).as_pointer())


@infer_getattr
class _ForestAttributes(AttributeTemplate):  # type: ignore[misc]
    key = ForestType

    def generic_resolve(self, forest: Any, name: str) -> Any:
        return _WORDS.get(name)


@lower_getattr_generic(ForestType)
def _load_word(context: Any, builder: Any, forest: Any, value: Any, name: str) -> Any:
    place = ir.Constant(ir.IntType(64), list(_WORDS).index(name))
    word = builder.load(builder.gep(value, [place]))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    kind = _WORDS[name]
    return word if kind == types.int64 else builder.inttoptr(word, context.get_value_type(kind))


@intrinsic
def _untyped(typing_context: Any, pointer: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return arguments[0]

    return types.voidptr(pointer), generate


@njit(inline="always")
def flags(pointer, shape):  # type: ignore[no-untyped-def]
    """As `carray`, of an array of bool, whose bytes kernels see as numbers."""
    return carray(_untyped(pointer), shape, np.bool_)


class Handle:
    """A forest as it is handed to kernels. It does not keep the arrays alive."""

    def __init__(self, words: Any) -> None:
        self._words = words
        self.address = words.ctypes.data


@typeof_impl.register(Handle)
def _typeof_handle(value: Handle, context: Any) -> ForestType:
    return FOREST_TYPE


@unbox(ForestType)
def _unbox_handle(kind: Any, value: Any, context: Any) -> Any:
    number = context.pyapi.object_getattr_string(value, "address")
    address = context.pyapi.long_as_ulonglong(number)
    context.pyapi.decref(number)
    return NativeValue(context.builder.inttoptr(address, context.context.get_value_type(kind)))


@structref.register
class _RulesType(types.StructRef):  # type: ignore[misc]
    pass


class _RulesBox(structref.StructRefProxy):  # type: ignore[misc]
    pass


structref.define_boxing(_RulesType, _RulesBox)
_SIGNATURES = (STEP, RULES, ENCODE, PLAYOUT, ENDS, PROOFS)  # in the order of RowKernels
_POINTERS = [types.FunctionType(signature) for signature in _SIGNATURES]
RULES_TYPE = _RulesType(
    [*zip(RowKernels._fields, _POINTERS, strict=True), ("has_ends", types.boolean), ("has_proofs", types.boolean)]
)
"""A domain's kernels: what kernels call `rules`."""


with warnings.catch_warnings():
    # Calling kernels through pointers has been in Numba since 2020 and is still called experimental.
    warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)

    @njit(RULES_TYPE(*_POINTERS, types.boolean, types.boolean), cache=True)
    def _box_rules(step, rules, encode, playout, ends, proofs, has_ends, has_proofs):  # type: ignore[no-untyped-def]
        box = structref.new(RULES_TYPE)
        box.step, box.rules, box.encode, box.playout = step, rules, encode, playout
        box.ends, box.has_ends = ends, has_ends
        box.proofs, box.has_proofs = proofs, has_proofs
        return box


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
    with asking_compiler:
        if kernels is None:
            return _box_rules(_no_step, _no_rules, _no_output, _no_playout, _no_output, _no_output, False, False)
        chosen = kernels._replace(ends=kernels.ends or _no_output, proofs=kernels.proofs or _no_output)
        for kernel, signature in zip(chosen, _SIGNATURES, strict=True):
            if signature.args not in kernel.signatures:
                kernel.compile(signature.args)
        return _box_rules(*chosen, kernels.ends is not None, kernels.proofs is not None)


class Forest(NamedTuple):
    """The arrays, and what kernels get of them and of the domain. form: what else it would fit."""

    arrays: Arrays
    handle: Handle
    rules: Any
    form: tuple[Any, ...]


def new_forest(domain: Domain[Any], trees: int, nodes: int, cache: int = 0) -> Forest:
    """Room for `trees` trees of a domain with `nodes` nodes in all, and for `cache` estimates. Raises SettingsError if
    memory forbids it."""
    fast = array_domain(domain)
    kernels, width = (check_kernels(fast), fast.row_width) if fast else (None, 0)
    numbers = math.prod(domain.observation_shape)
    form = (trees, nodes, domain.num_actions, width, numbers, cache, kernels is not None and kernels.ends is None)
    for _ in range(len(_spare)):
        with suppress(IndexError):  # another thread has just taken the last one
            spare = _spare.popleft()
            if spare.form == (kernels, *form):
                spare.arrays.counts[:] = 0
                return spare
            _spare.append(spare)
    arrays, addresses = new_arrays(*form)
    sizes = [trees, domain.num_actions, width, numbers, len(arrays.cached_values)]
    handle = Handle(np.concatenate((addresses, np.array(sizes, np.uint64))))
    return Forest(arrays, handle, _rules_of(kernels), (kernels, *form))


def spare_forest(forest: Forest) -> None:
    """It is not needed any more: the next that is wanted of its form may take its place, as long as it is small, where
    making one would take as long as many simulations."""
    arrays = forest.arrays
    small = sum(array.nbytes for array in node_arrays(arrays)) <= LARGEST_SPARE
    if small and len(arrays.cached_values) == 1:  # estimates would be another evaluator's
        _spare.append(forest)


LARGEST_SPARE = 4 * 2**20
_spare: deque[Forest] = deque(maxlen=2 * usable_cores())
