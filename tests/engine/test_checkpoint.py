import errno
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from reid.engine import checkpoint as module
from reid.engine.checkpoint import (
    Checkpoint,
    epoch_folder,
    keep_latest,
    latest,
    load_checkpoint,
    load_into,
    save_checkpoint,
    saved_epochs,
)
from reid.errors import CheckpointError, StorageError

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)}
SAVED = Checkpoint(STATE, {"optimizer.0.step": torch.tensor(2.5)}, {"clock": {"epoch": 1}})


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "epoch_1", SAVED)
    return tmp_path / "epoch_1"


def fail_after(monkeypatch, name, calls):
    """Let the disk be full at the ``calls``-th use of a method of Path."""
    original, left = getattr(Path, name), [calls]

    def full(self, *arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            original(self, arguments[0][:5], **options)
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, name, full)


def test_what_is_saved_comes_back(folder):
    found = load_checkpoint(folder)
    assert found.facts == {"schema": 1, "clock": {"epoch": 1}}
    assert found.model.keys() == STATE.keys()
    assert all(torch.equal(found.model[name], STATE[name]) for name in STATE)
    assert torch.equal(found.state["optimizer.0.step"], torch.tensor(2.5))
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "state.json", "state.safetensors"]


def test_memory_layout_does_not_matter(tmp_path):
    image_like = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "epoch_1", Checkpoint({"x": image_like}, {}, {}))
    assert torch.equal(load_checkpoint(tmp_path / "epoch_1").model["x"], image_like)


@pytest.mark.parametrize(("method", "calls"), [("write_bytes", 1), ("write_bytes", 2), ("write_text", 1)])
def test_a_full_disk_leaves_what_was_there_and_no_litter(method, calls, folder, monkeypatch, files_below):
    before = files_below(folder.parent)
    fail_after(monkeypatch, method, calls)
    with pytest.raises(StorageError, match=r"epoch_\d.*No space left on device.*Free some space"):
        save_checkpoint(folder.parent / "epoch_2", SAVED)
    assert files_below(folder.parent) == before
    assert saved_epochs(folder.parent) == [1]
    assert [path.name for path in folder.parent.iterdir()] == ["epoch_1"]


def test_replacing_a_checkpoint_fails_as_a_whole(folder, monkeypatch, files_below):
    before = files_below(folder)
    fail_after(monkeypatch, "write_bytes", 2)
    with pytest.raises(StorageError):
        save_checkpoint(folder, Checkpoint({}, {}, {}))
    assert files_below(folder) == before


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
def test_a_file_cut_in_half(name, folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=rf"{name}: damaged or cut off.*Remove epoch_1"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
def test_a_missing_file(name, folder):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=rf"{name}: no such file.*Remove epoch_1"):
        load_checkpoint(folder)


@pytest.mark.parametrize("text", ["[]", "3", "{}"])
def test_facts_of_another_kind(text, folder):
    (folder / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"state\.json: damaged"):
        load_checkpoint(folder)


def test_a_newer_schema(folder):
    facts = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**facts, "schema": 2}))
    with pytest.raises(CheckpointError, match=r"wanted schema 1, found 2\. Use the reid that wrote it"):
        load_checkpoint(folder)


def test_another_architecture_is_described():
    linear = nn.Linear(3, 2)
    before = linear.weight.clone()
    state = {"weight": torch.zeros(2, 4), "gain": torch.zeros(2)}
    with pytest.raises(CheckpointError) as caught:
        load_into(linear, state, "epoch_7")
    for words in ["epoch_7: made for another architecture", "missing: bias;", "unexpected: gain;"]:
        assert words in str(caught.value)
    assert "weight [2, 4] instead of [2, 3]" in str(caught.value)
    assert torch.equal(linear.weight, before)


def test_epochs_are_numbers_and_other_names_are_not_looked_at(tmp_path):
    for name in ("epoch_2", "epoch_10", "epoch_1", "epoch_x", "notes"):
        (tmp_path / name).mkdir()
    assert saved_epochs(tmp_path) == [1, 2, 10]
    assert latest(tmp_path) == epoch_folder(tmp_path, 10)
    keep_latest(tmp_path, 2)
    assert saved_epochs(tmp_path) == [2, 10]
    assert (tmp_path / "epoch_x").exists()
    assert saved_epochs(tmp_path / "none") == []


def test_no_checkpoint_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="wanted a folder epoch_N, found none"):
        latest(tmp_path)


def test_a_checkpoint_that_cannot_be_deleted(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    save_checkpoint(folder.parent / "epoch_2", SAVED)
    monkeypatch.setattr(module.shutil, "rmtree", refuse)
    with pytest.raises(StorageError, match=r"epoch_1: cannot be deleted: Permission denied"):
        keep_latest(folder.parent, 1)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_file_that_cannot_be_read_is_not_called_damaged(name, folder, monkeypatch):
    for method in ("read_bytes", "read_text"):
        read = getattr(Path, method)

        def denied(self, *arguments, read=read, **options):
            if self.name == name:
                raise PermissionError(errno.EACCES, "Permission denied")
            return read(self, *arguments, **options)

        monkeypatch.setattr(Path, method, denied)
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read: Permission denied\. Check") as caught:
        load_checkpoint(folder)
    assert "Remove" not in str(caught.value)


def test_unfinished_checkpoints_are_cleared_away(tmp_path):
    save_checkpoint(tmp_path / "epoch_1", SAVED)
    (tmp_path / ".epoch_2.abcd").mkdir()
    (tmp_path / ".epoch_2.abcd" / "model.safetensors").write_text("half")
    keep_latest(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch_1"]
