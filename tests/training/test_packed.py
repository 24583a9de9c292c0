from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from escalade.domains.connect_four import ConnectFour
from escalade.training.packed import PackedBits, compact, concatenated

BITS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=9))


@given(BITS, st.sampled_from([np.float32, np.uint8, np.float16]))
def test_bits_come_back_as_they_were(bits: np.ndarray, kind: type) -> None:
    packed = compact(bits.astype(kind))
    assert isinstance(packed, PackedBits)
    assert packed.shape == bits.shape
    assert packed.bits.size <= len(bits) * (bits[:1].size + 7) // 8
    np.testing.assert_array_equal(np.asarray(packed), bits)
    assert np.asarray(packed).dtype == packed.dtype == np.uint8
    assert np.asarray(packed, np.float32).dtype == np.float32
    assert compact(packed) is packed


@given(BITS, st.data())
def test_some_of_them_are_what_some_of_the_array_are(bits: np.ndarray, data: st.DataObject) -> None:
    packed = PackedBits.of(bits)
    assert packed is not None
    places = np.array(data.draw(st.lists(st.integers(0, len(bits) - 1))) if len(bits) else [], np.int64)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(bits), max_size=len(bits))), np.bool_)
    for chosen in (places, mask, slice(1, None, 2)):
        np.testing.assert_array_equal(np.asarray(packed[chosen]), bits[chosen])


def test_other_numbers_take_the_least_room_that_holds_them() -> None:
    planes = np.array([[0, 1, 2], [255, 3, 0]], np.float32)
    for observation, kind in ((planes, np.uint8), (planes / 2, np.float16), (planes / 3, np.float32)):
        smaller = compact(observation)
        assert smaller.dtype == kind
        np.testing.assert_array_equal(smaller, observation)
        assert compact(smaller).dtype == kind
    assert compact(-planes).dtype == np.float16
    assert PackedBits.of(np.array([[0, np.nan]], np.float32)) is None


@pytest.mark.parametrize("kinds", [(1, 1), (1, 2), (2, 2)])
def test_joined_observations_are_packed_where_all_are(kinds: tuple[int, int]) -> None:
    parts = [np.eye(3, dtype=np.float32) * kind for kind in kinds]
    found = concatenated([compact(part) for part in parts])
    assert isinstance(found, PackedBits) == (kinds == (1, 1))
    np.testing.assert_array_equal(np.asarray(found), np.concatenate(parts))


def test_connect_four_takes_an_eighth_of_a_byte_a_number() -> None:
    domain = ConnectFour()
    packed = compact(domain.encode([domain.initial_state()] * 4))
    assert isinstance(packed, PackedBits)
    assert packed.bits.nbytes == 4 * -(-domain.observation_shape[0] // 8)
