"""Fitting, on the whole of tic-tac-toe with targets from a minimax written here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from escalade.domains.base import legal_mask
from escalade.domains.errors import EscaladeError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training.fit import EpochReport, fit_labelled
from escalade.training.optimizers import parameter_groups

SPEC = NetworkSpec(hidden=(64, 64), observation_shape=(3, 3, 3), num_actions=9)


@dataclass
class Rows:
    observations: np.ndarray
    legal: np.ndarray
    policy: np.ndarray
    value: np.ndarray

    def head(self, count: int) -> tuple[np.ndarray, ...]:
        return tuple(array[:count].copy() for array in (self.observations, self.legal, self.policy, self.value))


@pytest.fixture(scope="session")
def solved() -> Rows:
    """Every position that can be reached and is not finished: all best moves alike, and the exact value."""
    domain = TicTacToe()
    states, scores, values = {}, {}, {}

    def solve(state) -> float:
        key = (state.mine, state.theirs)
        if domain.is_terminal(state):
            return domain.outcome(state)
        if key not in values:
            scores[key] = {action: -solve(domain.step(state, action)) for action in domain.legal_actions(state)}
            states[key], values[key] = state, max(scores[key].values())
        return values[key]

    assert solve(domain.initial_state()) == 0.0
    best = np.array([[scores[k].get(a) == values[k] for a in range(9)] for k in states], dtype=np.float32)
    every = list(states.values())
    return Rows(
        domain.encode(every),
        legal_mask(domain, every),
        best / best.sum(axis=1, keepdims=True),
        np.array(list(values.values()), dtype=np.float32),
    )


def optimal_share(network: PolicyValueNetwork, rows: Rows) -> float:
    """Share of positions whose top legal move is a best one."""
    actions = network.select_action(rows.observations, rows.legal, temperature=0.0)
    return float((rows.policy[np.arange(len(actions)), actions] > 0).mean())


@pytest.mark.parametrize(
    "trunk",
    [
        {"kind": "perceptron", "value_head": "tanh", "hidden": (128, 128)},
        {"kind": "residual", "value_head": "wdl", "hidden": (64, 64)},
        {"kind": "perceptron", "value_head": "wdl", "hidden": (64, 64)},
        {"kind": "convolutional", "value_head": "wdl", "hidden": (24, 24), "features": 64},
    ],
    ids=lambda trunk: f"{trunk['kind']}-{trunk['value_head']}",
)
def test_tic_tac_toe_is_learned_from_its_solution(solved, trunk):
    assert len(solved.value) == 4520
    spec = NetworkSpec(observation_shape=(3, 3, 3), num_actions=9, **trunk)
    reports: list[EpochReport] = []
    network = fit_labelled(
        spec,
        *solved.head(4520),
        epochs=12,
        batch_size=64,
        learning_rate=5e-3,
        seed=0,
        on_epoch=lambda report, _: reports.append(report),
    )
    assert not network.training
    assert optimal_share(network, solved) > 0.95
    _, values = network.evaluate(solved.observations, solved.legal)
    assert ((values - solved.value) ** 2).mean() < 0.1
    assert [report.epoch for report in reports] == list(range(1, 13))
    assert reports[-1].policy_loss < reports[0].policy_loss
    assert reports[-1].value_loss < reports[0].value_loss
    rates = [report.learning_rate for report in reports]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def fit(rows, seed=0, spec=SPEC, **options):
    options = {"epochs": 2, "batch_size": 64, "learning_rate": 1e-3, **options}
    return fit_labelled(spec, *rows, seed=seed, **options)


def weights(network) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in network.state_dict().values()]


def test_equal_seeds_give_equal_weights(solved):
    spec = SPEC.model_copy(update={"dropout": 0.2})
    rows = solved.head(500)
    torch.manual_seed(1)
    first = weights(fit(rows, spec=spec))
    torch.manual_seed(2)
    assert weights(fit(rows, spec=spec)) == first
    assert weights(fit(rows, spec=spec, seed=1)) != first


def test_the_rest_of_the_process_is_left_alone(solved):
    rows = solved.head(100)
    before = [array.copy() for array in rows]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        fit(rows)
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all((a == b).all() for a, b in zip(rows, before, strict=True))


def test_the_network_may_be_evaluated_between_epochs(solved):
    rows = solved.head(300)
    spec = SPEC.model_copy(update={"dropout": 0.3})
    plain = weights(fit(rows, spec=spec))
    watched = fit(rows, spec=spec, on_epoch=lambda _, network: network.evaluate(rows[0], rows[1]))
    assert weights(watched) == plain


def test_only_matrices_decay():
    network = PolicyValueNetwork(NetworkSpec(kind="residual", hidden=(8, 4), observation_shape=(3,), num_actions=2))
    decaying, kept = parameter_groups(list(network.parameters()), 0.1)
    assert (decaying["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    with_decay, without = ([names[id(parameter)] for parameter in group["params"]] for group in (decaying, kept))
    assert sorted(with_decay + without) == sorted(names.values())
    linear = {name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    assert set(with_decay) == {f"{name}.weight" for name in linear}


def test_rows_that_are_not_as_described_are_refused(solved):
    good = solved.head(10)

    def with_row(index, change):
        rows = [array.copy() for array in good]
        rows[index] = change(rows[index])
        return rows

    def put(array, value):
        array[(3,) * array.ndim if array.ndim < 3 else 3] = value
        return array

    cases = {
        r"target_value must be float32 \[10\], not float32 \[10, 1\]": with_row(3, lambda v: v[:, None]),
        r"target_value must be float32 \[10\], not float64": with_row(3, lambda v: v.astype(np.float64)),
        "target_policy must be": with_row(2, lambda p: p[:, :8]),
        "legal must be bool": with_row(1, lambda m: m.astype(np.int8)),
        "observations must be": with_row(0, lambda o: o.reshape(10, 27)),
        "observations hold NaN": with_row(0, lambda o: put(o, np.nan)),
        "row 3 has no legal action": with_row(1, lambda m: np.where(np.arange(10)[:, None] == 3, False, m)),
        "target_policy of row 3": with_row(2, lambda p: put(p, np.nan)),
        "target_policy of row 0": with_row(2, lambda p: p * 2),
        "target_policy of row 0 is not": with_row(2, lambda p: 2 * p - 1 / 9),
        r"target_value must lie in \[-1, 1\]": with_row(3, lambda v: put(v, 1.5)),
        "target_value must lie": with_row(3, lambda v: put(v, np.nan)),
        "no rows": solved.head(0),
    }
    for message, rows in cases.items():
        with pytest.raises(ValueError, match=message):
            fit(rows)
    illegal = with_row(1, lambda m: m & (good[2] == 0) | ~m)
    with pytest.raises(ValueError, match="distribution over its legal actions"):
        fit(illegal)


@pytest.mark.parametrize(
    "options",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"threads": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"weight_decay": -1},
    ],
)
def test_impossible_options_are_refused(solved, options):
    with pytest.raises(ValueError, match="must be"):
        fit(solved.head(10), **options)


def test_a_loss_that_is_no_number_stops_the_fit(solved):
    with pytest.raises(EscaladeError, match="the loss is no number"):
        fit(solved.head(500), learning_rate=1e30, epochs=5)
