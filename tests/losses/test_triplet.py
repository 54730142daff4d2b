import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.config import parse
from reid.errors import ConfigError
from reid.losses._base import LossSpec
from reid.losses.triplet import Config, TripletLoss
from reid.types import ImageState
from tests.reference import losses as slow

SPEC = LossSpec(4, None)
STATE = ImageState({"none": torch.zeros(1)})


def test_by_hand():
    score = torch.tensor([[9.0, 1.0, 4.0], [2.0, 9.0, 0.5], [8.0, 7.0, 9.0]])
    value = TripletLoss(Config(margin=1.0), SPEC)(STATE, score, torch.tensor([0, 0, 1]))
    # Row 0: 4 - 1 + 1; row 1: max(0, 0.5 - 2 + 1); row 2 has no other image of its identity.
    assert value.loss.item() == pytest.approx((4.0 + 0.0 + 0.0) / 3)
    assert value.accuracy == pytest.approx(2 / 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.sampled_from([0.3, 2.0, 16.0]), st.integers(0, 1000))
def test_equals_the_loops(size, num_pids, margin, seed):
    generator = torch.Generator().manual_seed(seed)
    score = torch.randn(size, size, generator=generator, dtype=torch.float64) * 5
    label = torch.randint(num_pids, (size,), generator=generator)
    value = TripletLoss(Config(margin=margin), SPEC)(STATE, score, label)
    wanted = slow.triplet(score.numpy(), label.numpy(), margin)
    assert value.loss.item() == pytest.approx(wanted[0], rel=1e-12, abs=1e-12)
    assert value.accuracy == pytest.approx(wanted[1])


def test_gradient_reaches_one_positive_and_one_negative():
    score = torch.zeros(3, 3, requires_grad=True)  # ties everywhere
    TripletLoss(Config(), SPEC)(STATE, score, torch.tensor([0, 0, 1])).loss.backward()
    assert sorted(score.grad[0].tolist()) == pytest.approx([-1 / 3, 0.0, 1 / 3])
    assert score.grad[0, 0] == 0.0  # never the image itself
    assert score.grad[2].tolist() == [0.0, 0.0, 0.0]


def test_rows_that_are_not_finite_are_left_out():
    loss = TripletLoss(Config(), SPEC)
    score = torch.tensor([[0.0, 1.0, 3.0], [torch.nan, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    value = loss(STATE, score, torch.tensor([0, 0, 1]))
    value.loss.backward()
    assert value.loss.item() == pytest.approx((18.0 + 0.0) / 2)
    assert score.grad.isfinite().all()
    assert loss(STATE, torch.full((2, 2), torch.inf), torch.tensor([0, 1])).loss is None


def test_margin_must_be_positive():
    with pytest.raises(ConfigError, match="margin = 0"):
        parse(Config, {"margin": 0}, "x")
