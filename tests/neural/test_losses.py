from __future__ import annotations

import numpy as np
import pytest
import torch

from escalade.neural.losses import outcome_chances, policy_loss, td_target, value_loss

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(5, 4, generator=GENERATOR)
LEGAL = torch.tensor([[True, True, False, True]]).repeat(5, 1)
TARGET = torch.tensor([[0.2, 0.3, 0.0, 0.5]]).repeat(5, 1)


def test_policy_loss_is_cross_entropy_over_legal_actions():
    legal = LOGITS[:, [0, 1, 3]].double()
    expected = -(TARGET[:, [0, 1, 3]].double() * legal.log_softmax(1)).sum(1).mean()
    assert policy_loss(LOGITS, LEGAL, TARGET).item() == pytest.approx(expected.item(), rel=1e-5)


def test_illegal_logits_neither_matter_nor_move():
    logits = LOGITS.clone().requires_grad_()
    loss = policy_loss(logits, LEGAL, TARGET)
    loss.backward()
    assert (logits.grad[:, 2] == 0).all()
    assert logits.grad.isfinite().all()
    moved = LOGITS.clone()
    moved[:, 2] = 1e30
    assert policy_loss(moved, LEGAL, TARGET) == loss


def test_policy_loss_is_least_at_the_target():
    at_target = policy_loss(TARGET.clamp(min=1e-9).log(), LEGAL, TARGET).item()
    entropy = -float((TARGET[0] * TARGET[0].clamp(min=1e-9).log()).sum())
    assert at_target == pytest.approx(entropy, rel=1e-5)
    assert policy_loss(LOGITS, LEGAL, TARGET).item() > at_target


def test_value_losses_read_the_head_as_inference_does():
    output, target = torch.tensor([[0.0], [100.0]]), torch.tensor([0.5, 1.0])
    assert value_loss(output, target, "tanh").item() == pytest.approx(0.125)
    assert value_loss(output, target, "sigmoid").item() == pytest.approx(0.125)
    sure = torch.tensor([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0], [0.0, 0.0, 50.0]])
    assert value_loss(sure, torch.tensor([1.0, 0.0, -1.0]), "wdl").item() == pytest.approx(0.0, abs=1e-6)
    assert value_loss(sure, torch.tensor([-1.0, 0.0, -1.0]), "wdl").item() > 10


def test_outcome_chances_keep_the_expectation():
    value = torch.tensor([-1.0, -0.25, 0.0, 0.6, 1.0])
    chances = outcome_chances(value)
    assert (chances >= 0).all()
    np.testing.assert_allclose(chances.sum(1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(chances[:, 0] - chances[:, 2], value, rtol=1e-6)


def test_a_column_never_broadcasts_against_a_row():
    column, row = torch.zeros(5, 1), torch.zeros(5)
    for output, target in ((column, column), (row, row), (column, torch.zeros(4)), (row, column)):
        for kind in ("tanh", "sigmoid", "wdl"):
            with pytest.raises(ValueError, match="value target"):
                value_loss(output, target, kind)
    with pytest.raises(ValueError, match="policy target"):
        policy_loss(LOGITS, LEGAL, TARGET[:1])
    with pytest.raises(ValueError, match="legal"):
        policy_loss(LOGITS, LEGAL[:1], TARGET)


def test_weighted_losses_are_weighted_sums():
    weight = torch.tensor([0.5, 0.25, 0.0, 1.0, 2.0])
    each = torch.stack([policy_loss(LOGITS[i : i + 1], LEGAL[i : i + 1], TARGET[i : i + 1]) for i in range(5)])
    assert policy_loss(LOGITS, LEGAL, TARGET, weight).item() == pytest.approx(float((each * weight).sum()), rel=1e-5)
    value = torch.tensor([1.0, -1.0, 0.5, 0.0, 0.3])
    for kind, width in (("tanh", 1), ("wdl", 3)):
        output = LOGITS[:, :width]
        each = torch.stack([value_loss(output[i : i + 1], value[i : i + 1], kind) for i in range(5)])
        assert value_loss(output, value, kind, weight).item() == pytest.approx(float((each * weight).sum()), rel=1e-5)
    with pytest.raises(ValueError, match="weight must have the shape"):
        policy_loss(LOGITS, LEGAL, TARGET, weight[:, None])


def test_td_targets_look_one_step_on_from_the_mover_s_view():
    reward = torch.tensor([0.0, 0.0, -1.0, 0.5])
    later = torch.tensor([0.8, 0.8, float("nan"), 0.4], requires_grad=True)
    sign = torch.tensor([-1.0, 1.0, -1.0, -1.0])
    terminal = torch.tensor([False, False, True, False])
    target = td_target(reward, later, sign, terminal, gamma=0.5)
    assert target.tolist() == pytest.approx([-0.4, 0.4, -1.0, 0.3])
    assert not target.requires_grad
    with pytest.raises(ValueError, match="next_value must have the shape"):
        td_target(reward, later[:, None], sign, terminal)
