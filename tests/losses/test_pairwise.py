import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.losses._base import LossSpec
from reid.losses.pairwise import Config, PairwiseMatchingLoss
from reid.types import ImageState
from tests.reference import losses as slow

LOSS = PairwiseMatchingLoss(Config(), LossSpec(4, None))
STATE = ImageState({"none": torch.zeros(1)})


def test_by_hand():
    score = torch.tensor([[0.0, 2.0], [-1.0, 3.0]], requires_grad=True)
    value = LOSS(STATE, score, torch.tensor([0, 1]))
    rows = [math.log(2) + math.log(1 + math.exp(2)), math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-3))]
    assert value.loss.item() == pytest.approx(sum(rows) / 2)
    assert value.accuracy == 1.0  # no other image of the same identity: nothing can be wrong


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 1000))
def test_equals_the_loops(size, num_pids, seed):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(size, size, generator=generator, dtype=torch.float64) * 10
    label = torch.randint(num_pids, (size,), generator=generator)
    value = LOSS(STATE, score, label)
    wanted = slow.pairwise(score.numpy(), label.numpy())
    assert value.loss.item() == pytest.approx(wanted[0], rel=1e-12)
    assert value.accuracy == pytest.approx(wanted[1])


def test_rows_that_are_not_finite_are_left_out_and_get_no_gradient():
    score = torch.tensor([[1.0, 2.0, 0.5], [torch.nan, 1.0, 1.0], [0.0, torch.inf, 1.0]], requires_grad=True)
    value = LOSS(STATE, score, torch.tensor([0, 0, 1]))
    value.loss.backward()
    first = sum(math.log1p(math.exp(x)) for x in (-1.0, -2.0, 0.5))
    assert value.loss.item() == pytest.approx(first)
    assert value.accuracy == 1.0
    assert score.grad[1:].tolist() == [[0.0] * 3] * 2


def test_no_finite_row_is_no_loss():
    value = LOSS(STATE, torch.full((2, 2), torch.nan, requires_grad=True), torch.tensor([0, 0]))
    assert value.loss is None
    assert value.accuracy == 0.0


def test_gradient():
    score = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    label = torch.tensor([0, 0, 1, 1])
    assert torch.autograd.gradcheck(lambda s: LOSS(STATE, s, label).loss, [score])


def test_scores_of_another_size():
    with pytest.raises(ShapeError, match=r"3 labels, found \[3, 4\]"):
        LOSS(STATE, torch.zeros(3, 4), torch.zeros(3, dtype=torch.long))
