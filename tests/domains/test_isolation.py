"""The rows of a batch that make an evaluator raise are found, at a bounded cost, and fail alone."""

from __future__ import annotations

import gc
import math
import traceback
import weakref
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.errors import EscaladeError
from escalade.domains.isolation import GIVE_UP_AFTER, failures_by_row, without_locals


class Batch:
    """Counts its calls; raises where a bad row is among those asked about."""

    def __init__(self, rows: int, bad: set[int], error: type[BaseException] = ValueError) -> None:
        self.bad, self.error = bad, error
        self.calls = 0
        self.answered = [0] * rows

    def ask(self, first: int, last: int) -> None:
        self.calls += 1
        assert first < last
        for row in range(first, last):
            if row in self.bad:
                raise self.error(f"row {row}")
        for row in range(first, last):
            self.answered[row] += 1


BATCHES = st.integers(1, 40).flatmap(
    lambda rows: st.tuples(
        st.just(rows), st.one_of(st.sets(st.integers(0, rows - 1)), st.sets(st.integers(0, rows - 1), max_size=3))
    )
)


@given(BATCHES)
def test_every_other_row_is_answered_once_and_each_bad_one_has_its_own_error(batch: tuple[int, set[int]]) -> None:
    rows, bad = batch
    asked = Batch(rows, bad)
    failures = failures_by_row(asked.ask, rows)
    if any(bad.issuperset(range(row, row + GIVE_UP_AFTER)) for row in range(rows)):
        return  # taken for an evaluator that is broken
    assert set(failures) == bad
    assert asked.answered == [int(row not in bad) for row in range(rows)]
    assert all(str(error) == f"row {row}" for row, error in failures.items())
    assert asked.calls <= 1 + len(bad) * (math.ceil(math.log2(rows)) + 2)


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7, 64, 255, 256])
def test_one_bad_row_costs_no_more_calls_than_halving_takes(rows: int) -> None:
    for bad in range(rows):
        asked = Batch(rows, {bad})
        assert set(failures_by_row(asked.ask, rows)) == {bad}
        assert asked.calls <= math.ceil(math.log2(rows)) + 3
    good = Batch(rows, set())
    assert failures_by_row(good.ask, rows) == {}
    assert good.calls == 1


@pytest.mark.parametrize("rows", [1, 6, GIVE_UP_AFTER, 64, 1000])
def test_where_nothing_can_be_answered_the_search_for_a_good_row_ends_early(rows: int) -> None:
    asked = Batch(rows, set(range(rows)))
    failures = failures_by_row(asked.ask, rows)
    assert set(failures) == set(range(rows))
    assert asked.calls <= GIVE_UP_AFTER * (math.ceil(math.log2(rows)) + 2) + 1


def test_an_evaluator_that_goes_down_meanwhile_is_given_up_too() -> None:
    asked = Batch(256, set(range(5, 256)))
    failures = failures_by_row(asked.ask, 256)
    assert set(failures) == set(range(5, 256))
    assert asked.answered[:5] == [1] * 5
    assert asked.calls <= (GIVE_UP_AFTER + 5) * 10


def test_a_fault_that_passes_fails_no_one() -> None:
    calls: list[tuple[int, int]] = []
    answered: set[int] = set()

    def ask(first: int, last: int) -> None:
        calls.append((first, last))
        if len(calls) == 1:
            raise OSError("the line was down for a moment")
        assert not answered & set(range(first, last))
        answered.update(range(first, last))

    assert failures_by_row(ask, 6) == {}
    assert answered == set(range(6))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, StopIteration, CancelledError, GeneratorExit])
def test_what_a_future_cannot_carry_is_an_error_that_names_it(kind: type[BaseException]) -> None:
    asked = Batch(4, {2}, kind)
    failures = failures_by_row(asked.ask, 4)
    assert set(failures) == {2}
    assert isinstance(failures[2], EscaladeError)
    assert f"the evaluator stopped with {kind.__name__}: row 2" in str(failures[2])
    assert isinstance(failures[2].__cause__, kind)


def test_an_error_that_is_kept_keeps_nothing_of_its_batch() -> None:
    class Arrays:
        pass

    held: list[weakref.ref[Arrays]] = []

    def ask(first: int, last: int) -> None:
        arrays = Arrays()
        held.append(weakref.ref(arrays))
        try:
            raise KeyError(first)
        except KeyError as inner:
            raise ValueError("wrapped") from inner

    failures = failures_by_row(ask, 3)
    kept = [without_locals(error) for error in failures.values()]
    del failures
    gc.collect()
    assert [reference() for reference in held if reference() is not None] == []
    assert all("wrapped" in "".join(traceback.format_exception(error)) for error in kept)
