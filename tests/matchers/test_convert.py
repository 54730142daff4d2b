import pickle

import pytest
import torch

from reid.errors import CheckpointError
from reid.matchers import qaconv, transmatcher
from reid.matchers._convert import load_matcher, read_released, split_released
from reid.types import FeatureSpec, ImageState

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})
TRANSMATCHER = transmatcher.Config(dim=8, num_layers=2, feedforward=12, decoder_feedforward=16)
BASE = {"base.conv1.weight": torch.ones(4, 3, 7, 7), "base.fc.bias": torch.ones(2)}


def released_transmatcher() -> tuple[transmatcher.TransMatcher, dict]:
    matcher = transmatcher.TransMatcher(TRANSMATCHER, SPEC)
    own = matcher.state_dict()
    prototype = {
        f"decoder_{name.removeprefix('decoder.').replace('layers.0', 'layer')}": value
        for name, value in own.items()
        if name.startswith("decoder.layers.0")
    }
    model = {name: value for name, value in own.items() if not name.startswith("decoder.")}
    head = {name: value for name, value in own.items() if name.startswith("decoder.")}
    criterion = {f"matcher.{name}": value for name, value in {**prototype, **head}.items()}
    return matcher, {"model": {**BASE, **model}, "criterion": criterion, "optim": {}, "epoch": 3}


def released_qaconv() -> tuple[qaconv.QAConv, dict]:
    matcher = qaconv.QAConv(qaconv.Config(dim=8), SPEC)
    own = matcher.state_dict()
    model = {name: value for name, value in own.items() if name.startswith("neck")}
    criterion = {f"matcher.{name}": value for name, value in own.items() if not name.startswith("neck")}
    return matcher, {"model": {**BASE, **model}, "criterion": criterion, "epoch": 3}


@pytest.mark.parametrize("make", [released_transmatcher, released_qaconv])
def test_file_to_matcher(tmp_path, make):
    wanted, checkpoint = make()
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(checkpoint, path)
    released = read_released(path)
    assert sorted(released.backbone) == ["conv1.weight", "fc.bias"]
    matcher = type(wanted)(wanted.config, SPEC)
    load_matcher(matcher, released.matcher, str(path))
    maps = {16: torch.randn(3, 8, 6, 2, generator=torch.Generator().manual_seed(0))}
    states = [m.eval().encode(torch.zeros(3, 3, 96, 32), maps) for m in (matcher, wanted)]
    assert torch.equal(matcher.score(states[0], states[0]), wanted.score(states[1], states[1]))
    assert isinstance(states[0], ImageState)


def test_prototype_is_in_the_checkpoint_and_ignored():
    _, checkpoint = released_transmatcher()
    assert "matcher.decoder_layer.fc1.weight" in checkpoint["criterion"]
    assert not [name for name in split_released(checkpoint, "x").matcher if name.startswith("decoder_layer")]


def test_weights_that_do_not_fit_leave_the_matcher_unchanged():
    matcher, checkpoint = released_transmatcher()
    before = {name: value.clone() for name, value in matcher.state_dict().items()}
    weights = {name: value + 1 for name, value in split_released(checkpoint, "x").matcher.items()}
    removed = weights.pop("neck_conv.bias")
    weights["neck_conv.scale"] = removed
    weights["decoder.layers.0.fc1.bias"] = torch.zeros(9)
    with pytest.raises(CheckpointError) as error:
        load_matcher(matcher, weights, "some.pth")
    for part in ("some.pth", "missing: neck_conv.bias", "unexpected: neck_conv.scale", "fc1.bias [9] instead of [8]"):
        assert part in str(error.value)
    for name, value in matcher.state_dict().items():
        assert torch.equal(value, before[name])


def test_another_depth_names_only_some_of_many_keys():
    matcher = transmatcher.TransMatcher(TRANSMATCHER.model_copy(update={"num_layers": 3}), SPEC)
    _, checkpoint = released_transmatcher()
    with pytest.raises(CheckpointError, match=r"missing: encoder\.layers\.1\..* and \d+ more"):
        load_matcher(matcher, split_released(checkpoint, "x").matcher, "x")


def test_checkpoints_of_other_programs():
    with pytest.raises(CheckpointError, match=r"wanted entries 'model' and 'criterion'.*found \['state_dict'\]"):
        split_released({"state_dict": {}}, "x")
    with pytest.raises(CheckpointError, match="found list"):
        split_released([1], "x")
    with pytest.raises(CheckpointError, match="also memory"):
        split_released({"model": {}, "criterion": {"memory": torch.zeros(1)}}, "x")


def test_files_that_are_missing_cut_short_or_carry_code(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_released(tmp_path / "none.pth")
    _, checkpoint = released_qaconv()
    path = tmp_path / "cut.pth"
    torch.save(checkpoint, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="not readable as weights"):
        read_released(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="not readable as weights"):
        read_released(path)
    path.write_bytes(b"no weights at all")
    with pytest.raises(CheckpointError, match="not readable as weights"):
        read_released(path)

    class Harmful:
        def __reduce__(self) -> tuple:
            return (tmp_path.joinpath("touched").write_text, ("x",))

    path.write_bytes(pickle.dumps(Harmful(), protocol=2))
    with pytest.raises(CheckpointError, match="not readable as weights"):
        read_released(path)
    assert not (tmp_path / "touched").exists()
