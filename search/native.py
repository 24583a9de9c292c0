"""Whole searches inside one kernel: waves and a compiled evaluator in turn, without Python in between.

That is how a single tree comes near the speed of its network, and how threads work beside each other without waiting
for the interpreter's lock.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numba import carray, njit, types
from numba.core.errors import NumbaExperimentalFeatureWarning
from numba.experimental import structref

from escalade.domains.base import Domain, array_domain
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import NATIVE, AnyEvaluator, NativeCall, native_of
from escalade.search.arrays import ASKED, FINISHED, READY
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.forest import FOREST_TYPE, RULES_TYPE, flags
from escalade.search.threads import asking_compiler
from escalade.search.waves import wave

UNIFORM, ROLLOUTS, NETWORK = range(3)


@structref.register
class _NativeType(types.StructRef):  # type: ignore[misc]
    pass


class _NativeBox(structref.StructRefProxy):  # type: ignore[misc]
    pass


structref.define_boxing(_NativeType, _NativeBox)
_POINTER = types.FunctionType(NATIVE)
_FIELDS = [("kind", types.int64), ("rollouts", types.int64), ("kernel", _POINTER)]
_FIELDS += [("integers", types.int64[::1]), ("numbers", types.float32[::1])]
NATIVE_TYPE = _NativeType(_FIELDS)


@njit(NATIVE, nogil=True, cache=True)
def _no_kernel(observations, legal, integers, numbers, logits, values):  # type: ignore[no-untyped-def]
    pass


with warnings.catch_warnings():
    # As in search/forest.py.
    warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)

    @njit(NATIVE_TYPE(types.int64, types.int64, _POINTER, types.int64[::1], types.float32[::1]), cache=True)
    def _box(kind, rollouts, kernel, integers, numbers):  # type: ignore[no-untyped-def]
        box = structref.new(NATIVE_TYPE)
        box.kind, box.rollouts, box.kernel, box.integers, box.numbers = kind, rollouts, kernel, integers, numbers
        return box

    @njit(nogil=True, cache=True, error_model="numpy")
    def _play(f, rules, rollouts, count):  # type: ignore[no-untyped-def]
        """As `RolloutEvaluator.evaluate_states`."""
        rows, keys = np.empty((count * rollouts, f.width), np.int64), np.empty(count * rollouts, np.uint64)
        outcomes = np.empty(count * rollouts, np.float32)
        for m in range(count):
            for r in range(rollouts):
                for w in range(f.width):
                    rows[m * rollouts + r, w] = f.asked_rows[m * f.width + w]
                keys[m * rollouts + r] = f.asked_keys[m] + np.uint64(r)
        rules.playout(rows, keys, outcomes)
        for m in range(count):
            total = np.float32(0)
            for r in range(rollouts):
                total += outcomes[m * rollouts + r]
            f.values[m] = total / np.float32(rollouts)

    @njit(
        types.void(FOREST_TYPE, RULES_TYPE, NATIVE_TYPE, types.int64, types.boolean),
        nogil=True,
        cache=True,
        error_model="numpy",
    )
    def run(f, rules, native, waves, to_the_end):  # type: ignore[no-untyped-def]
        """So many waves, or fewer: until nothing is asked any more, and unless `to_the_end`, until a tree stops."""
        if native.kind != NETWORK:
            for k in range(f.trees * f.actions):
                f.logits[k] = 0
            for m in range(f.trees):
                f.values[m] = 0
        encode = native.kind == NETWORK
        for _ in range(waves):
            count = f.counts[ASKED]
            if count > 0:
                if native.kind == NETWORK:
                    legal, given = flags(f.asked_legal, (count, f.actions)), carray(f.observations, (count, f.numbers))
                    logits, values = carray(f.logits, (count, f.actions)), carray(f.values, count)
                    native.kernel(given, legal, native.integers, native.numbers, logits, values)
                elif native.kind == ROLLOUTS:
                    _play(f, rules, native.rollouts, count)
            wave(f, rules, encode)
            # With trees left that are ready, the wave was long enough for Python to have a look around.
            if f.counts[ASKED] == 0 or f.counts[READY] > 0 or (f.counts[FINISHED] > 0 and not to_the_end):
                break


def native_evaluator(domain: Domain[Any], evaluator: AnyEvaluator) -> Any:
    """What `run` takes, or None if this domain or this evaluator needs Python in every wave."""
    if array_domain(domain) is None:
        return None
    if type(evaluator) is UniformEvaluator:
        return _box_without_network(UNIFORM, 0)
    if type(evaluator) is RolloutEvaluator and evaluator.domain is domain:
        return _box_without_network(ROLLOUTS, evaluator.rollouts)
    call = native_of(evaluator)
    if call is None:
        return None
    wanted = math.prod(domain.observation_shape), call.num_actions and domain.num_actions
    if (call.observation_size, call.num_actions) != wanted:
        raise SettingsError(
            f"the evaluator is for states of {call.observation_size} numbers and {call.num_actions or 'any'} actions, "
            f"but domain '{domain.name}' has {wanted[0]} and {domain.num_actions}"
        )
    if call not in _boxes:
        with asking_compiler:
            _boxes[call] = _box(NETWORK, 0, call.kernel, call.integers, call.numbers)
    return _boxes[call]


@functools.lru_cache(maxsize=64)
def _box_without_network(kind: int, rollouts: int) -> Any:
    with asking_compiler:
        return _box(kind, rollouts, _no_kernel, np.zeros(0, np.int64), np.zeros(0, np.float32))


_boxes: WeakKeyDictionary[NativeCall, Any] = WeakKeyDictionary()
