import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.nn.gaussian_process import GaussianProcess
from tests.reference import roma


def make(dim: int = 6, **options: float) -> GaussianProcess:
    torch.manual_seed(0)
    return GaussianProcess(dim, **options).double()


def features(num: int, cells: int, channels: int, seed: int) -> torch.Tensor:
    return torch.randn(num, cells, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def positions(cells: int) -> torch.Tensor:
    return torch.rand(cells, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(9)) - 0.5


def weights_of(process: GaussianProcess) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in process.state_dict().items()}


@torch.no_grad()
@pytest.mark.parametrize(("temperature", "noise"), [(0.2, 0.1), (1.0, 0.01)])
def test_it_equals_the_loops(temperature, noise):
    process = make(temperature=temperature, noise=noise)
    query, support = features(2, 5, 4, 0), features(2, 7, 4, 1)
    found = process(query, support, process.weights(support, positions(7)))
    for n in range(2):
        wanted = roma.posterior_mean(
            query[n].numpy(), support[n].numpy(), positions(7).numpy(), weights_of(process), temperature, noise
        )
        np.testing.assert_allclose(found[n].numpy(), wanted, rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_it_interpolates_as_the_noise_vanishes():
    support = features(3, 8, 5, 0)
    error = []
    for noise in (1e-1, 1e-3, 1e-6, 0.0):
        process = make(noise=noise)
        mean = process(support, support, process.weights(support, positions(8)))
        error.append(float((mean - process.embed(positions(8))).abs().max()))
    assert error == sorted(error, reverse=True)
    assert error[0] > 1e-2
    assert error[3] < 1e-9


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99))
@torch.no_grad()
def test_the_length_of_features_does_not_matter(scale, seed):
    process = make()
    query, support = features(1, 4, 4, seed), features(1, 5, 4, seed + 100)
    wanted = process(query, support, process.weights(support, positions(5)))
    found = process(query * scale, support * scale, process.weights(support * scale, positions(5)))
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_order_of_cells_does_not_matter():
    process = make()
    query, support = features(2, 4, 4, 0), features(2, 5, 4, 1)
    order = [3, 1, 4, 0, 2]
    wanted = process(query, support, process.weights(support, positions(5)))
    moved = support[:, order]
    found = process(query, moved, process.weights(moved, positions(5)[order]))
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_half_precision_and_autocast_cannot_break_it():
    process = GaussianProcess(16)
    common = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    support = common + 0.3 * features(2, 192, 64, 1).float()  # as a network's maps: much in common
    process64 = GaussianProcess(16).double()
    process64.load_state_dict(process.state_dict())
    wanted = process64.weights(support.double(), positions(192))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = process.weights(support, positions(192).float())
        mean = process(support, support, found)
        assert process.weights(support.bfloat16(), positions(192).float()).dtype == torch.float32
    assert found.dtype == mean.dtype == torch.float32
    assert float((found - wanted).abs().max()) < 1e-3 * float(wanted.abs().max())


@torch.no_grad()
def test_equal_features_without_noise_get_jitter_and_leave_others_alone():
    process = make(noise=0.0)
    mixed = features(2, 6, 4, 0)
    mixed[0, 1:] = mixed[0, :1]  # all alike: the matrix is all ones
    found = process.weights(mixed, positions(6))
    assert found.isfinite().all()
    torch.testing.assert_close(found[1:], process.weights(mixed[1:], positions(6)))


@torch.no_grad()
def test_a_matrix_that_cannot_be_factored_is_refused():
    process = make(noise=-2.0)
    with pytest.raises(ShapeError, match="found 1 of 1 that are not"):
        process.weights(features(1, 4, 3, 0), positions(4))


@torch.no_grad()
def test_nan_stays_with_its_image():
    process = make()
    support = features(3, 5, 4, 0)
    wanted = process.weights(support, positions(5))
    support[1, 2, 3] = torch.nan
    found = process.weights(support, positions(5))
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]])


def test_gradient():
    process = make(2)
    query, support = features(1, 2, 3, 0).requires_grad_(), features(1, 3, 3, 1).requires_grad_()

    def mean(q: torch.Tensor, s: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return process(q, s, process.weights(s, positions(3)))

    assert torch.autograd.gradcheck(mean, [query, support, *process.parameters()])


def test_the_embedding_by_hand_and_the_published_number_of_parameters():
    process = GaussianProcess(1)
    with torch.no_grad():
        process.position.weight.copy_(torch.tensor([[0.25, 0.5]]))
        process.position.bias.fill_(0.125)
    found = process.embed(torch.tensor([[0.1, -0.2]])).item()
    assert found == pytest.approx(math.cos(8 * math.pi * (0.025 - 0.1 + 0.125)))
    assert sum(parameter.numel() for parameter in GaussianProcess(512).parameters()) == 1536
