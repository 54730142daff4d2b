import math

import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.losses._base import LossSpec
from reid.losses.attention import AttentionLoss, Config
from reid.types import ImageState


def state_of(attended: torch.Tensor, error: torch.Tensor) -> ImageState:
    return ImageState({"attended": attended, "reconstruction_error": error})


def loss_with(weight: list[list[float]], **options: float) -> AttentionLoss:
    loss = AttentionLoss(Config(**options), LossSpec(len(weight), None, len(weight[0])))
    with torch.no_grad():
        loss.classifier.weight.copy_(torch.tensor(weight))
        loss.classifier.bias.zero_()
    return loss


def test_by_hand():
    loss = loss_with([[1.0, 0.0], [0.0, 1.0]], reconstruction_weight=2.0)
    value = loss(state_of(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0.5, 0.25])), torch.tensor([0, 1]))
    softmax = math.log1p(math.exp(-2)) + math.log1p(math.exp(1))
    assert value.loss.item() == pytest.approx((softmax + 2.0 * 0.75) / 2)
    assert value.accuracy == 0.5


def test_the_published_weight_is_the_default():
    attended, label = torch.zeros(1, 2), torch.tensor([0])
    loss = loss_with([[0.0, 0.0], [0.0, 0.0]])
    assert loss(state_of(attended, torch.tensor([0.3])), label).loss.item() == pytest.approx(math.log(2) + 3.0)


def test_images_that_are_not_finite_are_left_out_and_get_no_gradient():
    loss = loss_with([[1.0, 0.0], [0.0, 1.0]])
    attended = torch.tensor([[2.0, 0.0], [torch.nan, 0.0], [0.0, 1.0]], requires_grad=True)
    value = loss(state_of(attended, torch.tensor([0.0, 0.0, torch.inf])), torch.tensor([0, 1, 1]))
    value.loss.backward()
    assert value.loss.item() == pytest.approx(math.log1p(math.exp(-2)))
    assert value.accuracy == 1.0
    assert attended.grad[1:].abs().sum() == 0
    assert loss.classifier.weight.grad.isfinite().all()
    nothing = loss(state_of(attended[1:2].detach(), torch.zeros(1)), torch.tensor([1]))
    assert nothing.loss is None


def test_gradient():
    generator = torch.Generator().manual_seed(0)
    loss = AttentionLoss(Config(), LossSpec(3, None, 4)).double()
    attended = torch.randn(5, 4, dtype=torch.float64, generator=generator).requires_grad_()
    error = torch.rand(5, dtype=torch.float64, generator=generator).requires_grad_()
    label = torch.tensor([0, 1, 2, 0, 1])
    assert torch.autograd.gradcheck(lambda x, e: loss(state_of(x, e), label).loss, [attended, error])


def test_a_matcher_without_attention_is_refused():
    with pytest.raises(ConfigError, match="num_locals"):
        AttentionLoss(Config(), LossSpec(3, 8))


def test_other_states_are_refused():
    loss = AttentionLoss(Config(), LossSpec(3, None, 4))
    with pytest.raises(ShapeError, match=r"found \['tokens'\]"):
        loss(ImageState({"tokens": torch.zeros(2, 3, 4)}), torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match="for 1 labels"):
        loss(state_of(torch.zeros(2, 4), torch.zeros(2)), torch.tensor([0]))
