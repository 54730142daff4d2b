import numpy as np
import pytest
import torch

from reid.matchers._dense import DenseStep
from reid.matchers._roma_refiner import Refiner, RefinerConfig
from tests.reference import roma


def make(**options: int) -> Refiner:
    torch.manual_seed(0)
    refiner = Refiner(RefinerConfig(**{"stride": 4, "dim": 3, "displacement": 2, "num_blocks": 2, **options}), 16)
    for name, buffer in refiner.named_buffers():  # as if it had been trained
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 1.5)
    return refiner.double().eval()


def inputs(num: int = 2, height: int = 4, width: int = 3) -> tuple[torch.Tensor, torch.Tensor, DenseStep]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    size = 4 * torch.tensor([width, height])
    warp = size * (0.5 + 0.4 * random(num, height, width, 2))
    start = DenseStep(4, warp, random(num, height, width))
    return random(num, 3, height, width), random(num, 3, height, width), start


@torch.no_grad()
@pytest.mark.parametrize("radius", [0, 1, 2])
def test_it_equals_the_loops(radius):
    refiner = make(radius=radius)
    own, other, start = inputs()
    found = refiner(own, other, start)
    weights = {name: tensor.numpy() for name, tensor in refiner.state_dict().items()}
    for n in range(2):
        warp = start.warp_NHW2[n].numpy()
        seen = roma.refiner_inputs(own[n].numpy(), other[n].numpy(), warp, weights, 4, radius, 16.0)
        shift = roma.refined(seen, weights)
        moved = warp + shift[:2].transpose(1, 2, 0) * 4 / 8
        np.testing.assert_allclose(found.warp_NHW2[n].numpy(), moved, rtol=1e-9)
        np.testing.assert_allclose(found.certainty_NHW[n].numpy(), start.certainty_NHW[n].numpy() + shift[2], rtol=1e-9)
    assert found.start_NHW2 is start.warp_NHW2


def test_gradient():
    refiner = make(radius=1, num_blocks=1)
    own, other, start = inputs(1, 2, 2)

    def refine(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = refiner(a, b, start)
        return found.warp_NHW2, found.certainty_NHW

    assert torch.autograd.gradcheck(refine, [own.requires_grad_(), other.requires_grad_()])


@torch.no_grad()
def test_in_half_precision_positions_stay_in_full():
    refiner = make().float()
    own, other, start = inputs()
    start = DenseStep(4, start.warp_NHW2.float(), start.certainty_NHW.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = refiner(own.float(), other.float(), start)
    wanted = refiner(own.float(), other.float(), start)
    assert found.warp_NHW2.dtype == found.certainty_NHW.dtype == torch.float32
    assert float((found.warp_NHW2 - wanted.warp_NHW2).abs().max()) < 0.02  # pixels


def test_channels_are_the_published_ones():
    published = [(512, 128, 7), (512, 64, 3), (256, 32, 2), (64, 16, 0), (9, 6, 0)]
    channels = [RefinerConfig(stride=1, dim=d, displacement=e, radius=r).num_channels for d, e, r in published]
    assert channels == [1377, 1137, 569, 144, 24]
