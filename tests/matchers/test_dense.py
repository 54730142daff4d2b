import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.matchers._dense import (
    DenseDirection,
    DenseOutputs,
    DenseStep,
    local_correlation,
    sample,
    upsampled,
)
from reid.nn.grid import cell_centres
from tests.reference import roma


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def places(num: int, height: int, width: int, stride: int) -> torch.Tensor:
    """Some of them outside."""
    size = torch.tensor([width, height], dtype=torch.float64) * stride
    return size * (0.5 + 0.4 * random(num, height, width, 2, seed=5))


def test_samples_equal_the_loops():
    image, place = random(2, 3, 4, 5), places(2, 4, 5, 8)
    found = sample(image, place, 8)
    for n in range(2):
        for j in range(4):
            for i in range(5):
                wanted = roma.read(image[n].numpy(), *place[n, j, i].tolist(), 8)
                np.testing.assert_allclose(found[n, :, j, i].numpy(), wanted, atol=1e-12)


def test_samples_beyond_the_border():
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    outside = torch.tensor([[[[-40.0, -40.0], [99.0, 99.0], [4.0, 99.0]]]])
    assert sample(image, outside, 8).flatten().tolist() == [0, 0, 0]
    assert sample(image, outside, 8, beyond="border").flatten().tolist() == [1, 4, 3]


@pytest.mark.parametrize("radius", [1, 2])
def test_local_correlation_equals_the_loops(radius):
    own, other, warp = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1), places(2, 4, 5, 4)
    found = local_correlation(own, other, DenseStep(4, warp, warp[..., 0]), radius)
    nothing = {"displacement.weight": np.zeros((0, 2, 1, 1)), "displacement.bias": np.zeros(0)}
    for n in range(2):
        wanted = roma.refiner_inputs(own[n].numpy(), other[n].numpy(), warp[n].numpy(), nothing, 4, radius, 1.0)
        np.testing.assert_allclose(found[n].numpy(), wanted[6:], atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-20, 20), y=st.floats(-20, 20), stride=st.sampled_from([1, 2, 4]))
def test_a_shift_stays_a_shift_on_a_finer_grid(x, y, stride):
    shift = torch.tensor([x, y], dtype=torch.float64)
    warp = (cell_centres(3, 2, 8, shift) + shift)[None].requires_grad_()
    step = upsampled(DenseStep(8, warp, torch.full((1, 3, 2), 0.5, dtype=torch.float64)), stride)
    assert step.stride == stride
    assert not step.warp_NHW2.requires_grad
    wanted = cell_centres(24 // stride, 16 // stride, stride, shift) + shift
    torch.testing.assert_close(step.warp_NHW2[0], wanted)
    assert step.certainty_NHW.unique().tolist() == [0.5]


def test_strides_need_not_divide_each_other():
    warp = cell_centres(4, 8, 14, random(1))[None]
    step = upsampled(DenseStep(14, warp, warp[..., 0]), 8)
    assert step.certainty_NHW.shape == (1, 7, 14)
    torch.testing.assert_close(step.warp_NHW2[0], cell_centres(7, 14, 8, warp))


def test_parts_join_again():
    step = DenseStep(8, random(5, 3, 2, 2), random(5, 3, 2))
    finer = DenseStep(4, random(5, 6, 4, 2), random(5, 6, 4), random(5, 6, 4, 2, seed=1))
    both = DenseDirection((step, finer), random(5, 9, 3, 2))
    joined = DenseDirection.cat([both[:2], both[2:]])
    assert joined.finest.stride == 4
    for found, wanted in zip(joined.steps, both.steps, strict=True):
        assert torch.equal(found.warp_NHW2, wanted.warp_NHW2)
        assert torch.equal(found.certainty_NHW, wanted.certainty_NHW)
    assert joined.steps[0].start_NHW2 is None
    assert torch.equal(joined.finest.start_NHW2, finer.start_NHW2)
    outputs = DenseOutputs.cat(
        [DenseOutputs(random(n), part, part, None) for n, part in ((2, both[:2]), (3, both[2:]))]
    )
    assert outputs.logit_N.shape == (5,)
    assert torch.equal(outputs.to_query.anchor_logit_NAHW, both.anchor_logit_NAHW)
