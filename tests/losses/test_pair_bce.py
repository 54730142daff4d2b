import math

import pytest
import torch

from reid.errors import ShapeError
from reid.losses._base import LossSpec
from reid.losses.pair_bce import Config, PairBceLoss
from reid.matchers._base import PairOutputs

LOSS = PairBceLoss(Config(), LossSpec(4, None))


def test_by_hand():
    value = LOSS(PairOutputs(torch.tensor([2.0, 1.0, -3.0])), torch.tensor([True, False, False]))
    wanted = math.log1p(math.exp(-2)) + math.log1p(math.exp(1)) + math.log1p(math.exp(-3))
    assert value.loss.item() == pytest.approx(wanted / 3)
    assert value.accuracy == pytest.approx(2 / 3)


def test_pairs_that_are_not_finite_are_left_out_and_get_no_gradient():
    logit = torch.tensor([1.0, torch.nan, -torch.inf], requires_grad=True)
    value = LOSS(PairOutputs(logit), torch.tensor([True, True, False]))
    value.loss.backward()
    assert value.loss.item() == pytest.approx(math.log1p(math.exp(-1)))
    assert value.accuracy == 1.0
    assert logit.grad[1:].tolist() == [0.0, 0.0]


def test_no_finite_pair_is_no_loss():
    value = LOSS(PairOutputs(torch.tensor([torch.nan])), torch.tensor([True]))
    assert value.loss is None
    assert value.accuracy == 0.0


def test_gradient():
    logit = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    match = torch.tensor([True, False, True, False, False])
    assert torch.autograd.gradcheck(lambda x: LOSS(PairOutputs(x), match).loss, [logit])


def test_another_number_of_logits_is_refused():
    with pytest.raises(ShapeError, match="each of 2 pairs"):
        LOSS(PairOutputs(torch.zeros(3)), torch.tensor([True, False]))
