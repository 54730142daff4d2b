"""Every array of ibn_blocks.npz, made by running IBN-Net's own blocks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from reid.backbones._ibn import IBN, residual_block

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "ibn_blocks.npz")
CASES = sorted({name.partition("/")[0] for name in GOLDEN.files} - {"ibn8"})
BLOCK_ARRAYS = {"x", "y_eval", "y_train", "grad_x_of_sum_sq_eval"}


def arrays_of(case):
    return {name.partition("/")[2]: GOLDEN[name] for name in GOLDEN.files if name.startswith(f"{case}/")}


def state_of(arrays):
    return {name.removeprefix("sd/"): torch.tensor(array) for name, array in arrays.items() if name.startswith("sd/")}


def assert_close(found, wanted, relative):
    difference = np.abs(found.detach().double().numpy() - wanted).max()
    assert difference <= relative * np.abs(wanted).max()


def block_of(case, dtype=torch.float64):
    shape, ibn, path = case.split("_")
    is_bottleneck = shape == "bottleneck"
    in_channels = 12 if path == "down" else 8 * (4 if is_bottleneck else 1)
    stride = 2 if path == "down" else 1
    block = residual_block(in_channels, 8, is_bottleneck=is_bottleneck, stride=stride, ibn=ibn)
    block.load_state_dict(state_of(arrays_of(case)))
    return block.to(dtype)


def test_all_arrays_are_compared():
    assert len(CASES) == 12
    for case in CASES:
        arrays = arrays_of(case)
        assert {name for name in arrays if not name.startswith("sd/")} == BLOCK_ARRAYS
        assert state_of(arrays).keys() == block_of(case).state_dict().keys()


@pytest.mark.parametrize("case", CASES)
def test_block_float64(case):
    arrays = arrays_of(case)
    block = block_of(case)
    x = torch.tensor(arrays["x"]).double().requires_grad_()
    y = block.eval()(x)
    assert_close(y, arrays["y_eval"], 1e-9)
    y.square().sum().backward()
    assert_close(x.grad, arrays["grad_x_of_sum_sq_eval"], 1e-9)
    assert_close(block.train()(x), arrays["y_train"], 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_block_float32(case):
    arrays = arrays_of(case)
    y = block_of(case, torch.float32).eval()(torch.tensor(arrays["x"]))
    assert np.abs(y.detach().numpy() - arrays["y_eval"]).max() <= 1e-5 * arrays["y_eval"].std()


def test_ibn_layer():
    arrays = arrays_of("ibn8")
    layer = IBN(8)
    layer.load_state_dict(state_of(arrays))
    x = torch.tensor(arrays["x"])
    # stored in float32, so no closer than that; 2e-7 is one rounding
    assert_close(layer.double().eval()(x.double()), arrays["y_eval"], 2e-7)
    assert_close(layer.train()(x.double()), arrays["y_train"], 2e-7)
    assert {name for name in arrays if not name.startswith("sd/")} == {"x", "y_eval", "y_train"}


def test_ibn_layer_against_arithmetic():
    """Two channels of two positions: instance norm gives +-1 per image, batch norm uses its running statistics."""
    layer = IBN(2).eval()
    image_BCHW = torch.tensor([[[[0.0, 2.0]], [[3.0, 5.0]]], [[[10.0, 30.0]], [[7.0, 9.0]]]])
    found = layer(image_BCHW)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, 1, 0], image_BCHW[:, 1, 0], rtol=1e-5, atol=0)


def test_odd_number_of_channels_gives_batch_norm_one_more():
    layer = IBN(5)
    assert (layer.IN.num_features, layer.BN.num_features) == (2, 3)
    assert layer(torch.rand(2, 5, 3, 3)).shape == (2, 5, 3, 3)


@pytest.mark.parametrize("ibn", ["a", "b"])
def test_instance_norm_forgets_contrast_of_one_image(ibn):
    """The rest of the batch does not reach an image in eval mode."""
    block = residual_block(8, 8, is_bottleneck=False, ibn=ibn).eval()
    image_BCHW = torch.rand(3, 8, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(image_BCHW)[1:2], block(image_BCHW[1:2]))
