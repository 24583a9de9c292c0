"""What learners see: every position once, every target a mean, and nothing of the validation games."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from experience import TTT, random_rows
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.training.packed import PackedBits, compact
from escalade.training.position_keys import position_keys
from escalade.training.rows import Rows, joined
from escalade.training.window import (
    WindowConfig,
    batches,
    is_validation,
    relabelled,
    split,
    targets,
    times_shown,
    value_targets,
)

CONFIG = WindowConfig()


def game_rows(seed: int, games: int = 60) -> Rows:
    """Many small games, so that both parts of a split have some."""
    rows = random_rows(seed, 6 * games)
    return replace(rows, game=np.array([f"g{number // 6}" for number in range(6 * games)]))


@given(st.integers(0, 1000), st.floats(0, 1))
def test_targets_are_the_means_of_what_is_known(seed: int, power: float) -> None:
    rows = random_rows(seed, 40)
    found = targets(rows, WindowConfig(duplicate_power=power))
    seen = rows.observation.reshape(len(rows), -1)
    assert len(found.value) == len(np.unique(seen, axis=0))
    given_values = value_targets(rows, CONFIG.outcome_weight)
    for place, observation in enumerate(found.observation):
        mine = np.flatnonzero((seen == observation.reshape(-1)).all(axis=1))
        exact = [row for row in mine if rows.source[row] == "solver"]
        teachers = exact or mine
        told = [row for row in teachers if not np.isnan(rows.policy[row]).all()]
        values = [given_values[row] for row in teachers if not np.isnan(given_values[row])]
        assert found.policy_weight[place] == (pytest.approx(len(mine) ** power) if told else 0)
        assert found.value_weight[place] == (pytest.approx(len(mine) ** power) if values else 0)
        if told:
            np.testing.assert_allclose(found.policy[place], rows.policy[told].mean(axis=0), atol=1e-6)
            assert found.policy[place].sum() == pytest.approx(1, abs=1e-5)
        if values:
            assert found.value[place] == pytest.approx(np.mean(values), abs=1e-6)
    assert np.isfinite(np.concatenate([array.reshape(-1) for array in found])).all()


def test_where_a_solver_has_spoken_nobody_else_is_heard() -> None:
    rows = random_rows(2, 1)
    policy = np.zeros((3, 9), np.float32)
    policy[np.arange(3), np.flatnonzero(rows.legal[0])[[0, 1, 1]]] = 1
    three = joined([rows] * 3)
    three = replace(
        three, policy=policy, outcome=np.array([1, -1, -1], np.float32), value=np.full(3, np.nan, np.float32)
    )
    for sources, heard in ((["solver", "self_play", "self_play"], [0]), (["search", "llm", "human"], [0, 1, 2])):
        found = targets(replace(three, source=np.array(sources)), CONFIG)
        np.testing.assert_allclose(found.policy[0], policy[heard].mean(axis=0), atol=1e-6)
        assert found.value[0] == pytest.approx(three.outcome[heard].mean())


def test_the_value_target_is_between_outcome_and_teacher() -> None:
    rows = replace(
        random_rows(1, 4),
        outcome=np.array([1, 1, np.nan, np.nan], np.float32),
        value=np.array([0, np.nan, -0.5, np.nan], np.float32),
    )
    np.testing.assert_array_equal(value_targets(rows, 0.25), np.array([0.25, 1, -0.5, np.nan], np.float32))


def test_games_are_split_whole_and_alike_everywhere() -> None:
    games = np.array([f"game-{number}" for number in range(20_000)])
    held = is_validation(games, 0.05)
    assert 0.04 < held.mean() < 0.06
    order = np.random.default_rng(0).permutation(len(games))
    np.testing.assert_array_equal(is_validation(games[order], 0.05), held[order])
    assert not is_validation(games, 0).any()
    assert is_validation(games, 1).all()
    assert (is_validation(games, 0.2) | ~held).all()  # a larger share holds the smaller


@given(st.integers(0, 200))
def test_no_position_is_learned_and_validated(seed: int) -> None:
    rows = game_rows(seed)
    learned, held = split(rows, WindowConfig(validation=0.3))
    assert len(learned.value)
    both = {row.tobytes() for row in learned.observation} & {row.tobytes() for row in held.observation}
    assert not both
    of_learners = np.unique(rows.observation[~is_validation(rows.game, 0.3)], axis=0)
    assert len(learned.value) == len(of_learners)
    assert len(learned.value) + len(held.value) == len(np.unique(rows.observation, axis=0))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_few_games_are_all_learned_from_and_none_is_left_for_validation(share: float) -> None:
    learned, held = split(game_rows(0, games=3), WindowConfig(validation=share))
    assert len(learned.value) > 0
    assert len(held.value) == 0
    assert held.observation.shape == (0, *learned.observation.shape[1:])


@pytest.mark.parametrize("game", [TTT, ConnectFour()], ids=["tic_tac_toe", "connect_four"])
def test_symmetric_positions_have_symmetric_targets(game) -> None:  # type: ignore[no-untyped-def]
    rows = random_rows(3, 30, game)
    found = targets(rows, CONFIG)
    symmetries = game.symmetries()
    unchanged = relabelled(found, symmetries, np.full(len(found.value), len(symmetries)))
    for one, other in zip(unchanged, found, strict=True):
        np.testing.assert_array_equal(one, other)
    for number, symmetry in enumerate(symmetries):
        seen = relabelled(found, symmetries, np.full(len(found.value), number))
        np.testing.assert_array_equal(seen.observation, symmetry.observations(found.observation))
        for action in range(game.num_actions):
            np.testing.assert_array_equal(seen.policy[:, symmetry.actions[action]], found.policy[:, action])
            np.testing.assert_array_equal(seen.legal[:, symmetry.actions[action]], found.legal[:, action])
        np.testing.assert_array_equal(seen.value, found.value)


def test_batches_show_every_position_once_in_another_order_each_time() -> None:
    found = targets(game_rows(5), CONFIG)
    count = len(found.value)
    orders = []
    for seed in (0, 0, 1):
        shown = [batch for batch, _ in batches(found, 32, np.random.default_rng(seed))]
        assert {len(batch.value) for batch in shown[:-1]} == {32}
        rows = np.concatenate([batch.observation.reshape(len(batch.value), -1) for batch in shown])
        rest = count % 32
        assert len(rows) == count - (rest if rest < 16 else 0)
        assert len({row.tobytes() for row in rows}) == len(rows)
        orders.append(rows.tobytes())
    assert orders[0] == orders[1] != orders[2]
    ((alone, weights),) = batches(found, 10**6, np.random.default_rng(0))
    assert len(alone.value) == count
    assert weights == pytest.approx((found.policy_weight.sum(), found.value_weight.sum()))


def test_what_weighs_more_is_shown_more_often_with_the_same_weight_in_all() -> None:
    found = targets(game_rows(5), CONFIG)
    weight = np.ones(len(found.value), np.float32)
    weight[:3] = 4.0, 7.0, 1000.0
    found = found._replace(policy_weight=weight, value_weight=np.where(weight > 5, weight, 0).astype(np.float32))
    times = times_shown(found, 8)
    mean = weight.mean()
    assert times[:3].tolist() == [max(1, round(4 / mean)), max(1, round(7 / mean)), 8]
    assert set(times[3:].tolist()) == {1}
    ((shown, weights),) = batches(found, 10**6, np.random.default_rng(0), most=8)
    assert len(shown.value) == times.sum()
    assert weights == pytest.approx((found.policy_weight.sum(), found.value_weight.sum()))
    assert shown.policy_weight.sum() == pytest.approx(found.policy_weight.sum())
    assert shown.policy_weight.max() == 125.0
    assert times_shown(found, 1).tolist() == [1] * len(weight)


def test_parts_of_batches_make_up_the_whole() -> None:
    found = targets(game_rows(7), CONFIG)
    symmetries = TTT.symmetries()
    whole = list(batches(found, 32, np.random.default_rng(3), symmetries, most=4))
    parts = [list(batches(found, 32, np.random.default_rng(3), symmetries, part=(k, 3), most=4)) for k in range(3)]
    for number, (batch, weights) in enumerate(whole):
        for k in range(3):
            share, all_weights = parts[k][number]
            assert all_weights == weights
            for mine, every in zip(share, batch, strict=True):
                np.testing.assert_array_equal(mine, every[k::3])


def test_with_symmetries_all_views_are_shown() -> None:
    rows = random_rows(6, 1)
    found = targets(joined([rows] * 1), CONFIG)
    random = np.random.default_rng(2)
    seen = {next(batches(found, 4, random, TTT.symmetries()))[0].policy.tobytes() for _ in range(300)}
    whole = {relabelled(found, TTT.symmetries(), np.array([which])).policy.tobytes() for which in range(8)}
    assert seen == whole


@pytest.mark.parametrize("options", [{"outcome_weight": 1.5}, {"validation": -0.1}, {"duplicate_power": float("nan")}])
def test_settings_out_of_range_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(SettingsError, match=f"{name} must be in"):
        WindowConfig(**options)


@given(st.integers(0, 50))
def test_compact_observations_give_the_same_targets(seed: int) -> None:
    rows = game_rows(seed)
    small = replace(rows, observation=compact(rows.observation))
    assert isinstance(small.observation, PackedBits)
    for one, other in zip(targets(rows, CONFIG), targets(small, CONFIG), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("balance", "share"), [(0.0, 30 / 40), (0.5, 3**0.5 / (1 + 3**0.5)), (1.0, 1 / 2)])
def test_no_phase_of_the_game_crowds_out_another(balance: float, share: float) -> None:
    rows = random_rows(0, 200)
    _, first = np.unique(position_keys(rows.observation, rows.legal), return_index=True)
    rows = rows.take(first[:40])
    late = np.arange(40) < 30
    rows = replace(rows, ply=np.where(late, 10 + np.arange(40) % 10, np.arange(40) % 10).astype(np.int32))
    told = replace(rows, value=np.zeros(40, np.float32))
    found = targets(told, WindowConfig(balance=balance))
    order = np.argsort(position_keys(rows.observation, rows.legal))
    assert found.value_weight[late[order]].sum() / found.value_weight.sum() == pytest.approx(share, rel=1e-4)
    assert found.value_weight.sum() == pytest.approx(40, rel=1e-4)
