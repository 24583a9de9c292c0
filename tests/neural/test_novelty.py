from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from escalade.domains.catalog import load_domain
from escalade.neural.manifest import parse_manifest
from escalade.neural.novelty import PrincipalNovelty, fit_novelty, restored
from escalade.training.casual import casual_positions


def same(observations: np.ndarray) -> list[str]:
    """Texts that tell nothing apart."""
    return ["x"] * len(observations)


def drawn(count: int, seed: int, size: int = 20, rank: int = 3) -> np.ndarray:
    """Observations that vary in few directions, and hardly in the others."""
    random = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(rank, size))
    return (random.normal(size=(count, rank)) @ directions + 0.1 * random.normal(size=(count, size))).astype(np.float32)


def test_so_many_of_those_seen_are_novel_as_the_quantile_leaves() -> None:
    seen = drawn(5000, 0)
    novelty = fit_novelty(seen, same(seen), rank=3, quantile=0.99)
    assert novelty.novel(seen, same(seen)).mean() == pytest.approx(0.01, abs=0.002)
    fresh = drawn(5000, 1)
    assert novelty.novel(fresh, same(fresh)).mean() == pytest.approx(0.01, abs=0.006)


def test_what_leaves_the_usual_directions_is_novel_though_no_larger() -> None:
    seen = drawn(5000, 0)
    novelty = fit_novelty(seen, same(seen), rank=3)
    strange = np.random.default_rng(5).normal(size=(200, 20)).astype(np.float32)
    strange -= strange.mean(axis=1, keepdims=True)
    assert novelty.novel(strange, same(strange)).mean() > 0.99


def test_distances_are_mahalanobis_where_every_direction_is_kept() -> None:
    seen = drawn(4000, 0, size=4, rank=4)
    novelty = fit_novelty(seen, same(seen), rank=4)
    apart = (seen - seen.mean(axis=0)).astype(np.float64)
    inverse = np.linalg.inv(apart.T @ apart / len(seen))
    wanted = np.einsum("bi,ij,bj->b", apart, inverse, apart)
    assert novelty.distances(seen, same(seen)) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_games_shorter_or_longer_than_any_seen_are_infinitely_far() -> None:
    domain = load_domain("connect_four")
    states = [state for _, ply, state in casual_positions(domain, range(300), 8, 30, seed=3) if ply >= 8]
    novelty = fit_novelty(domain.encode(states), [domain.format(state) for state in states])
    strange = [domain.initial_state(), domain.parse("4441"), domain.parse("11157411523147666")]
    found = novelty.distances(domain.encode(strange), [domain.format(state) for state in strange])
    assert np.isinf(found).tolist() == [True, True, False]


def test_a_state_is_as_far_alone_as_among_others() -> None:
    seen = drawn(200, 0)
    novelty = fit_novelty(seen, same(seen), rank=3)
    together = novelty.distances(seen, same(seen))
    assert [novelty.distances(seen[row : row + 1], "x")[0] for row in range(len(seen))] == together.tolist()
    with pytest.raises(ValueError, match="must have 20 numbers a state, not 19"):
        novelty.distances(seen[:, 1:], same(seen))


@given(st.integers(2, 40), st.integers(1, 10), st.integers(0, 100))
def test_any_observations_can_be_learned_from(count: int, size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    seen = random.integers(0, 2, (count, size)).astype(np.float32)
    found = fit_novelty(seen, same(seen)).distances(seen, same(seen))
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_one_state_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fit_novelty(np.zeros((1, 3), np.float32), ["x"])


def test_what_a_bundle_keeps_gives_the_same_distances() -> None:
    seen = drawn(100, 0)
    novelty = fit_novelty(seen, same(seen))
    again = restored(novelty.spec, novelty.tensors())
    fresh = drawn(50, 1)
    assert (again.distances(fresh, same(fresh)) == novelty.distances(fresh, same(fresh))).all()


def test_a_bundle_from_before_there_were_two_kinds_finds_the_same_states_as_far() -> None:
    domain, folder = load_domain("connect_four"), Path(__file__).parent / "before_limits"
    spec = parse_manifest((folder / "bundle.json").read_bytes()).novelty
    assert spec is not None
    novelty = restored(spec, load_file(folder / "novelty.safetensors"))
    assert isinstance(novelty, PrincipalNovelty)
    assert "kind" not in novelty.spec.model_dump()
    moves = ["12345671234567", "4444455", "4455"]
    found = novelty.distances(domain.encode([domain.parse(text) for text in moves]), moves)
    assert found.tolist() == [pytest.approx(40.5434052, abs=1e-5), np.inf, np.inf]
