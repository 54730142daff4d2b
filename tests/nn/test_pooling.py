import pytest
import torch

from reid.nn.pooling import AveragePooling, GemPooling

MAP = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]]])


def test_average_by_hand():
    assert AveragePooling()(MAP).tolist() == [[3.0, 1.0]]


def test_generalised_mean_by_hand():
    # ((1 + 8 + 27 + 216) / 4)^(1/3) = 63^(1/3), ((64) / 4)^(1/3) = 16^(1/3)
    torch.testing.assert_close(GemPooling(3.0)(MAP), torch.tensor([[63.0 ** (1 / 3), 16.0 ** (1 / 3)]]))


def test_generalised_mean_lies_between_mean_and_maximum():
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(GemPooling(1.0)(x), AveragePooling()(x))
    pooled = GemPooling(5.0)(x)
    assert (pooled > x.mean((2, 3))).all()
    assert (pooled < x.amax((2, 3))).all()


def test_generalised_mean_bears_zeros_and_half_precision():
    pooling = GemPooling()
    zero = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pooling(zero).sum().backward()
    assert zero.grad.isfinite().all()
    large = torch.full((1, 1, 2, 2), 1000.0, dtype=torch.float16)  # cubed, beyond float16
    assert pooling(large).item() == pytest.approx(1000.0, rel=1e-5)


def test_power_gradient():
    pooling = GemPooling().double()
    x = torch.rand(1, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    assert torch.autograd.gradcheck(lambda power, y: y.pow(power).mean((2, 3)).pow(1 / power), (pooling.power, x))
    pooling(x).sum().backward()
    step = 1e-6
    with torch.no_grad():
        pooling.power += step
        high = pooling(x).sum()
        pooling.power -= 2 * step
        low = pooling(x).sum()
    assert pooling.power.grad.item() == pytest.approx(((high - low) / (2 * step)).item(), rel=1e-6)
