import dataclasses
import hashlib
import io

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reid.backbones import _download, _weights
from reid.backbones._state_dict import ORIGIN_KEY
from reid.backbones._weights import RECORDS, STATISTICS, PretrainedConfig, load_pretrained, normalization_of
from reid.errors import ConfigError, WeightsError
from reid.progress import Silent
from reid.vision import models

RESNET50 = RECORDS["resnet50"]


def test_records_are_torchvisions():
    wanted = {
        "resnet18": models.ResNet18_Weights,
        "resnet34": models.ResNet34_Weights,
        "resnet50": models.ResNet50_Weights,
        "resnet101": models.ResNet101_Weights,
        "resnet152": models.ResNet152_Weights,
        "mobilenet_v2": models.MobileNet_V2_Weights,
    }
    for name, weights in wanted.items():
        assert RECORDS[name].url == weights.IMAGENET1K_V1.url
        preset = weights.IMAGENET1K_V1.transforms()
        assert STATISTICS[RECORDS[name].normalization] == (tuple(preset.mean), tuple(preset.std))


def test_records_are_complete():
    ibn = {f"resnet{depth}_ibn_{kind}" for depth in (18, 34, 50, 101) for kind in "ab"}
    assert ibn | {"mobilenet_v2"} <= RECORDS.keys()
    assert len(RECORDS) == 14
    for name, record in RECORDS.items():
        assert record.name == name
        assert record.url.endswith(f"/{name}-{record.sha256}.pth")
        assert len(record.sha256) == 8
        assert int(record.sha256, 16) >= 0


@pytest.mark.parametrize(
    ("weights", "normalization", "wanted"),
    [
        ("none", "auto", "none"),
        ("imagenet", "auto", "imagenet"),
        ("imagenet", "none", "none"),
        ("imagenet", "half", "half"),
        ("none", "imagenet", "imagenet"),
        ("no/such/file.pth", "half", "half"),
        (f"https://example.org/a.pth#sha256={'a' * 64}", "half", "half"),
        (f"https://example.org/a.pth#sha256={RESNET50.sha256.upper()}{'a' * 56}", "auto", "imagenet"),
    ],
)
def test_normalization(weights, normalization, wanted):
    config = PretrainedConfig(weights=weights, normalization=normalization)
    assert normalization_of(config, RESNET50) == wanted


def test_auto_needs_a_known_file(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"abc")
    config = PretrainedConfig(weights=str(path))
    with pytest.raises(ConfigError, match=r"mine\.pth.*normalization = one of none, imagenet, half"):
        normalization_of(config, RESNET50)
    digits = hashlib.sha256(b"abc").hexdigest()[:8]
    record = dataclasses.replace(RESNET50, sha256=digits, normalization="half")
    monkeypatch.setattr(_weights, "RECORDS", {"mine": record})
    assert normalization_of(config, RESNET50) == "half"
    copy = tmp_path / "copy.safetensors"  # as a download is kept
    save_file({"weight": torch.zeros(1)}, copy, metadata={ORIGIN_KEY: hashlib.sha256(b"abc").hexdigest()})
    assert normalization_of(PretrainedConfig(weights=str(copy)), RESNET50) == "half"
    save_file({"weight": torch.zeros(1)}, copy)
    with pytest.raises(ConfigError, match="reid does not know this file"):
        normalization_of(PretrainedConfig(weights=str(copy)), RESNET50)
    with pytest.raises(ConfigError, match="reid does not know this file"):
        normalization_of(PretrainedConfig(weights=f"http://h/a.pth#sha256={'0' * 64}"), RESNET50)


@pytest.mark.parametrize("weights", ["imagnet", "no/such/file.pth"])
def test_no_such_file(weights):
    config = PretrainedConfig(weights=weights)
    with pytest.raises(WeightsError, match="wanted none, imagenet"):
        load_pretrained(nn.Linear(1, 1), config, imagenet=RESNET50, ignore=(), progress=Silent())
    with pytest.raises(WeightsError, match="wanted none, imagenet"):
        normalization_of(config, RESNET50)


@pytest.mark.parametrize("fragment", ["", "#", "#sha256=abc", f"#sha256={'g' * 64}", f"#md5={'a' * 64}"])
def test_url_without_a_hash(fragment):
    config = PretrainedConfig(weights=f"https://example.org/a.pth{fragment}", normalization="none")
    with pytest.raises(ConfigError, match=r"wanted URL#sha256=64 hex digits"):
        load_pretrained(nn.Linear(1, 1), config, imagenet=RESNET50, ignore=(), progress=Silent())


@pytest.fixture
def linear_file(tmp_path):
    path = tmp_path / "linear.safetensors"
    save_file({"weight": torch.tensor([[3.0]]), "bias": torch.tensor([4.0]), "fc.bias": torch.ones(1)}, path)
    return path


def test_load_from_a_file(linear_file):
    module = nn.Linear(1, 1)
    config = PretrainedConfig(weights=str(linear_file), normalization="none")
    load_pretrained(module, config, imagenet=RESNET50, ignore=("fc.",), progress=Silent())
    assert float(module(torch.tensor([2.0])).detach()) == 10.0


def test_none_leaves_the_module_alone():
    module = nn.Linear(1, 1)
    before = module.weight.detach().clone()
    load_pretrained(module, PretrainedConfig(), imagenet=RESNET50, ignore=(), progress=Silent())
    assert torch.equal(module.weight, before)


@pytest.mark.parametrize("by", ["imagenet", "url"])
def test_load_from_the_weights_folder(by, tmp_path, monkeypatch):
    """Both names of a published file find it in the folder, by its hash."""
    file = io.BytesIO()
    torch.save({"weight": torch.tensor([[3.0]]), "bias": torch.tensor([4.0])}, file)
    sha256 = hashlib.sha256(file.getvalue()).hexdigest()
    monkeypatch.setenv("REID_WEIGHTS", str(tmp_path))
    (_download.weights_folder() / "linear.pth").write_bytes(file.getvalue())
    record = dataclasses.replace(RESNET50, url="https://example.invalid/linear.pth", sha256=sha256[:8])
    weights = "imagenet" if by == "imagenet" else f"{record.url}#sha256={sha256}"
    module = nn.Linear(1, 1)
    config = PretrainedConfig(weights=weights, normalization="none")
    load_pretrained(module, config, imagenet=record, ignore=(), progress=Silent())
    assert float(module(torch.tensor([2.0])).detach()) == 10.0
