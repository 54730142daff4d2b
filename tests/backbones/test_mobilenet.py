import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from reid.backbones.mobilenet import COMPONENT, Config, MobileNet
from reid.config import parse
from reid.errors import ConfigError, WeightsError
from reid.vision import models

CHANNELS = {4: 24, 8: 32, 16: 96, 32: 320}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    return models.mobilenetv2.MobileNetV2().eval()


@pytest.fixture(scope="module")
def whole_file(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("mobilenet") / "whole.safetensors"
    save_file(reference.state_dict(), path)
    return path


def test_maps_are_torchvisions(reference, whole_file):
    """A stride's map is the one that enters the next striding block."""
    backbone = MobileNet(Config(strides=(8, 32, 4, 16), weights=str(whole_file), normalization="half")).eval()
    image_BCHW = torch.rand(2, 3, 75, 33)
    wanted = {}
    with torch.no_grad():
        map_BCHW = 2 * image_BCHW - 1
        for block in reference.features[:-1]:
            map_BCHW = block(map_BCHW)
            wanted[2 ** round(math.log2(75 / map_BCHW.shape[2]))] = map_BCHW
        maps = backbone(image_BCHW)
    assert maps.keys() == set(CHANNELS)
    for stride, channels in CHANNELS.items():
        assert maps[stride].shape[1] == channels
        torch.testing.assert_close(maps[stride], wanted[stride], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", CHANNELS)
def test_cut_keys_are_torchvisions(reference, whole_file, stride):
    backbone = MobileNet(Config(strides=(stride,), weights=str(whole_file), normalization="none"))
    whole = reference.state_dict()
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, whole[key])
    behind = reference.features[len(backbone.features)]
    if stride < 32:
        assert any(getattr(module, "stride", None) == (2, 2) for module in behind.modules())
    else:
        assert behind is reference.features[-1]
    assert backbone.spec((64, 32)).maps == {stride: (CHANNELS[stride], 64 // stride, 32 // stride)}


@pytest.fixture(scope="module")
def all_strides():
    return MobileNet(Config(strides=tuple(CHANNELS)))


@settings(deadline=None, max_examples=15)
@given(height=st.integers(1, 130), width=st.integers(1, 70))
def test_spec_of_any_size(all_strides, height, width):
    maps = all_strides.spec((height, width)).maps
    assert maps == {s: (c, math.ceil(height / s), math.ceil(width / s)) for s, c in CHANNELS.items()}


def test_parameters_get_gradients():
    backbone = MobileNet(Config())
    backbone(torch.rand(2, 3, 64, 32))[16].square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in backbone.parameters())


@pytest.mark.parametrize("strides", [[], [2], [16, 64]])
def test_unknown_strides(strides):
    with pytest.raises(ConfigError, match=r"wanted strides out of \[4, 8, 16, 32\]"):
        parse(Config, {"strides": strides}, "x.toml [backbone]")


def test_weights_of_another_architecture(tmp_path):
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.safetensors")
    config = Config(weights=str(tmp_path / "other.safetensors"), normalization="none")
    with pytest.raises(WeightsError, match=r"missing: features\.0\.0\.weight.* more; unexpected: conv1\.weight"):
        MobileNet(config)


def test_component():
    assert COMPONENT is MobileNet
