"""Which stretches of an arena are free: never lent twice, never lost, the first that fits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from escalade.search.ranges import Ranges

SIZE = 64


class Lending(RuleBasedStateMachine):
    """Ranges beside the plainest model there is: one flag a number."""

    def __init__(self) -> None:
        super().__init__()
        self.ranges = Ranges(SIZE)
        self.taken: list[tuple[int, int]] = []
        self.used = [False] * SIZE

    def first_fit(self, length: int) -> int | None:
        for start in range(SIZE - length + 1):
            if not any(self.used[start : start + length]):
                return start
        return None

    @rule(length=st.integers(1, SIZE + 1))
    def take(self, length: int) -> None:
        start = self.ranges.take(length)
        assert start == self.first_fit(length)
        if start is not None:
            self.used[start : start + length] = [True] * length
            self.taken.append((start, length))

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        if self.taken:
            start, length = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
            self.ranges.give_back(start, length)
            self.used[start : start + length] = [False] * length

    @invariant()
    def what_is_free_is_what_is_not_used(self) -> None:
        free = [n for start, end in self.ranges._free for n in range(start, end)]
        assert free == [n for n in range(SIZE) if not self.used[n]]

    @invariant()
    def free_stretches_never_touch(self) -> None:
        assert all(left[1] < right[0] for left, right in itertools.pairwise(self.ranges._free))

    def teardown(self) -> None:
        for start, length in self.taken:
            self.ranges.give_back(start, length)
        assert self.ranges.take(SIZE) == 0  # one stretch again


TestLending = Lending.TestCase


@given(st.lists(st.integers(1, 9), max_size=30), st.randoms(use_true_random=False))
def test_what_is_lent_never_overlaps_and_all_of_it_comes_back(lengths: list[int], random: object) -> None:
    ranges = Ranges(sum(lengths))
    lent = [(ranges.take(length), length) for length in lengths]
    places = [n for start, length in lent if start is not None for n in range(start, start + length)]
    assert sorted(places) == list(range(sum(lengths)))
    assert ranges.take(1) is None
    random.shuffle(lent)  # type: ignore[attr-defined]
    for start, length in lent:
        assert start is not None
        ranges.give_back(start, length)
    if lengths:
        assert ranges.take(sum(lengths)) == 0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_neighbours_join_in_any_order(order: tuple[int, ...]) -> None:
    ranges = Ranges(9)
    for _ in range(3):
        ranges.take(3)
    for third in order:
        ranges.give_back(3 * third, 3)
    assert ranges.take(9) == 0


def test_takes_the_first_stretch_that_fits() -> None:
    ranges = Ranges(20)
    assert [ranges.take(n) for n in (4, 2, 6, 8)] == [0, 4, 6, 12]
    ranges.give_back(0, 4)
    ranges.give_back(6, 6)
    assert ranges.take(5) == 6
    assert ranges.take(4) == 0
    assert ranges.take(2) is None
    assert ranges.take(1) == 11


def test_an_arena_without_room_lends_nothing() -> None:
    assert Ranges(0).take(1) is None
    assert Ranges(3).take(4) is None
