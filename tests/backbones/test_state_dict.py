import hashlib
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from reid.backbones._state_dict import file_sha256, load_matching, read_pth, read_state
from reid.errors import WeightsError

STATE = {"0.weight": torch.arange(6.0).reshape(2, 3), "0.bias": torch.tensor([1.0, 2.0])}


class Stranger:
    """Something that no weights file should hold."""


def module():
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def batch_norm_state(**changes):
    state = {"1.weight": torch.ones(2), "1.bias": torch.zeros(2)}
    return STATE | state | {"1.running_mean": torch.zeros(2), "1.running_var": torch.full((2,), 4.0)} | changes


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_read_state(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(STATE, path)
    found = read_state(path)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_old_pth_format(tmp_path):
    torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state(tmp_path / "a.pth")["0.weight"], STATE["0.weight"])


def test_pth_runs_nothing(tmp_path):
    marker = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (type(marker).touch, (marker,))

    for name, new_format in (("new.pth", True), ("old.pth", False)):
        torch.save({"a": Trap()}, tmp_path / name, _use_new_zipfile_serialization=new_format)
        with pytest.raises(WeightsError, match="safe loader refuses"):
            read_pth(tmp_path / name)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(), protocol=2))
    with pytest.raises(WeightsError):
        read_pth(tmp_path / "plain.pth")
    assert not marker.exists()


def test_refusal_names_the_object_but_not_the_way_around(tmp_path):
    torch.save({"model": Stranger()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"Stranger.*state_dict\(\)") as caught:
        read_state(tmp_path / "a.pth")
    assert "weights_only" not in str(caught.value)
    assert "add_safe_globals" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3, "state_dict": STATE}, r"\['epoch', 'state_dict'\]"),
        ([1, 2], "found a list"),
        ({}, "found 0 entries"),
        ({1: torch.zeros(1)}, r"\['1'\]"),
    ],
)
def test_not_a_state_dict(tmp_path, content, words):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=words):
        read_state(tmp_path / "a.pth")


def test_other_files(tmp_path):
    for name in ("a.pth", "a.safetensors"):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_state(tmp_path / name)
    with pytest.raises(WeightsError, match=r"wanted a file ending in .*found '\.bin'"):
        read_state(tmp_path / "a.bin")
    with pytest.raises(WeightsError, match="cannot be read"):
        file_sha256(tmp_path)


@settings(deadline=None, max_examples=60)
@given(share=st.floats(0, 0.999), suffix=st.sampled_from([".pth", ".safetensors"]), new_format=st.booleans())
def test_truncated_anywhere(tmp_path_factory, share, suffix, new_format):
    path = tmp_path_factory.mktemp("cut") / f"a{suffix}"
    if suffix == ".safetensors":
        save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WeightsError, match="a" + suffix):
        read_state(path)


@settings(deadline=None, max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("a.pth", "a.safetensors"):
        (folder / name).write_bytes(content)
        with pytest.raises(WeightsError):
            read_state(folder / name)


def test_file_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_load_matching_fills_batch_counters_and_casts():
    target = module()
    state = batch_norm_state(**{"0.weight": STATE["0.weight"].half()})
    load_matching(target, state, where="a.pth")
    assert torch.equal(target[0].weight, STATE["0.weight"])
    assert target[0].weight.dtype == torch.float32
    assert target[1].running_var.tolist() == [4.0, 4.0]
    assert int(target[1].num_batches_tracked) == 0


def test_load_matching_ignores_only_what_it_is_told():
    state = batch_norm_state(**{"fc.weight": torch.zeros(1), "fcx": torch.zeros(1)})
    load_matching(module(), state, where="a.pth", ignore=("fc",))
    with pytest.raises(WeightsError, match=r"unexpected: fcx\."):
        load_matching(module(), state, where="a.pth", ignore=("fc.",))


def test_load_matching_counts_what_is_wrong_and_changes_nothing():
    target = module()
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    state = {f"x{index}": torch.zeros(1) for index in range(5)} | {"0.weight": torch.zeros(2, 4)}
    with pytest.raises(WeightsError) as caught:
        load_matching(target, state, where="a.pth")
    text = str(caught.value)
    assert text.startswith("a.pth: ")
    assert "missing: 0.bias, 1.weight, 1.bias and 2 more;" in text
    assert "unexpected: x0, x1, x2 and 2 more;" in text
    assert "0.weight [2, 4] instead of [2, 3]" in text
    assert all(torch.equal(tensor, before[key]) for key, tensor in target.state_dict().items())
