import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from reid import files
from reid.errors import ConfigError, ShapeError, StorageError
from reid.evaluation.scoring import Scoring
from reid.evaluation.states import collect_states, fitting
from reid.types import ImageState, StateField

STATE = ImageState(
    {
        "keys": torch.randn(11, 2, 3, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "position": torch.arange(11.0)[:, None],
        "visible": torch.arange(11) % 2 == 0,
    },
    {"position": StateField(bears_halving=False)},
)
BYTES = 11 * (2 * 6 + 4 + 1)


def assert_same(found):
    assert found.fields == STATE.fields
    assert found.tensors.keys() == STATE.tensors.keys()
    for name, tensor in STATE.tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("chunk", [1, 4, 11, 20])
def test_chunks_of_any_size_in_memory_and_in_a_file(tmp_path, chunk):
    assert_same(collect_states(STATE.split(chunk), 11, max_memory=BYTES))
    file = tmp_path / "deep" / "query.states"
    mapped = collect_states(STATE.split(chunk), 11, max_memory=BYTES - 1, file=file)
    assert_same(mapped)
    assert list(file.parent.iterdir()) == []  # it has lost its name; the space goes with the tensors
    assert STATE.nbytes == mapped.nbytes == BYTES


def test_states_in_a_file_take_no_memory_of_their_own(tmp_path):
    def chunks():
        for _ in range(64):
            yield ImageState({"keys": torch.ones(1, 2**18)})

    def anonymous_kib():
        with Path("/proc/self/status").open() as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

    before = anonymous_kib()
    mapped = collect_states(chunks(), 64, max_memory=0, file=tmp_path / "states")
    assert mapped.nbytes == 64 * 2**20
    assert anonymous_kib() - before < 32 * 2**10
    assert mapped["keys"].sum() == 64 * 2**18


def test_another_number_of_images_is_an_error(tmp_path):
    for num in (10, 12):
        with pytest.raises(ShapeError, match=f"states of {num} images, at least one, found 11"):
            collect_states([STATE], num, max_memory=2 * BYTES)
    with pytest.raises(ShapeError, match="found 0"):
        collect_states([], 0, max_memory=BYTES)


def test_states_that_need_a_file_and_have_none():
    with pytest.raises(StorageError, match=r"11 images take 0 MiB.*no file to put them in"):
        collect_states([STATE], 11, max_memory=0)


def test_a_file_that_cannot_be_made(tmp_path):
    (tmp_path / "in the way").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        collect_states([STATE], 11, max_memory=0, file=tmp_path / "in the way" / "states")


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="MiB are free"):
        collect_states([STATE], 11, max_memory=0, file=tmp_path / "states")
    assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_is_an_error(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            collect_states([STATE], 11, max_memory=0, file=tmp_path / "states")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_the_first_states_are_looked_at_before_the_others_are_asked_for():
    asked = []

    def chunks():
        for number in range(3):
            asked.append(number)
            yield ImageState({"x": torch.zeros(2, 4)})

    found = fitting(chunks(), Scoring(max_memory=12 * 16))
    assert asked == [0]
    assert [len(chunk) for chunk in found] == [2, 2, 2]
    with pytest.raises(ConfigError, match="wanted room for blocks"):
        fitting(chunks(), Scoring(max_memory=12 * 16 - 1))
    halves = fitting(chunks(), Scoring(max_memory=12 * 8), lambda s: [ImageState({"x": h}) for h in s["x"].chunk(2, 1)])
    assert len(list(halves)) == 3
