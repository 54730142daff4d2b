import errno
import os
import re
import stat

import pytest

from reid import files
from reid.errors import StorageError
from reid.files import atomic_file, atomic_folder, claim_space, claimed_name, storage_error, write_json, write_text


def test_write_text_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["b.txt"]
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444


def test_failure_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == '{\n "a": 1\n}\n'
    assert os.listdir(tmp_path) == ["x.json"]


def test_folder_is_replaced_whole_or_kept(tmp_path):
    path = tmp_path / "folder"
    for content in ["one", "two"]:
        with atomic_folder(path) as temporary:
            (temporary / content).touch()
    assert os.listdir(path) == ["two"]
    with pytest.raises(RuntimeError), atomic_folder(path) as temporary:
        (temporary / "three").touch()
        raise RuntimeError
    assert os.listdir(path) == ["two"]
    assert os.listdir(tmp_path) == ["folder"]


def test_disk_full_says_how_much_is_free(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_text(path, "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"x\.txt.*No space left.*MiB are free"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_file_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "file" / "x.txt", "text")


@pytest.mark.parametrize(
    ("number", "reason", "advice"),
    [
        (errno.EACCES, "Permission denied", r"Check the permissions of {}, or choose another folder\."),
        (errno.EROFS, "Read-only file system", r"Check the permissions of {}, or choose another folder\."),
        (errno.ENOSPC, "No space left on device", r"[\d,]+ MiB are free in {}\. Free some space there"),
        (errno.ENOTDIR, "Not a directory", r"Make sure that {} is a folder that files can be made in"),
    ],
)
def test_the_advice_fits_the_reason_and_names_the_folder(number, reason, advice, tmp_path):
    message = str(storage_error(tmp_path / "none" / "x.txt", OSError(number, reason)))
    assert re.search(rf"x\.txt: cannot be written: {reason}\. " + advice.format(re.escape(str(tmp_path))), message)
    assert ("MiB" in message) == (number == errno.ENOSPC)
    assert "--" not in message


def test_claimed_space_is_zeros_and_replaces_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file"
    claim_space(path, 10_000)
    path.write_bytes(b"x" * 20_000)
    claim_space(path, 10_000)
    assert path.read_bytes() == bytes(10_000)


def test_more_space_than_there_is(tmp_path):
    with pytest.raises(StorageError, match=r"wanted 1,073,741,824 MiB of disk, found .* MiB free"):
        claim_space(tmp_path / "file", 2**50)
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_folder_is_flushed_before_the_folder_takes_its_name(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(files, "_flush", lambda path: flushed.append((path.name, (tmp_path / "new").exists())))
    with atomic_folder(tmp_path / "new", flush=True) as temporary:
        (temporary / "deep").mkdir()
        for name in ("a", "deep/b"):
            (temporary / name).write_text("x")
    assert sorted(flushed) == [("a", False), ("b", False)]


def test_names_are_claimed_once(tmp_path):
    path = tmp_path / "new" / "x.json"
    with claimed_name(path) as one, claimed_name(path) as two, claimed_name(path, first=2) as three:
        write_json(two, 2)
    assert [file.name for file in (one, two, three)] == ["x.json", "x_2.json", "x_3.json"]
    assert two.read_text() == "2\n"
    with pytest.raises(RuntimeError), claimed_name(path) as four:
        assert four.exists()
        raise RuntimeError
    assert sorted(os.listdir(path.parent)) == ["x.json", "x_2.json", "x_3.json"]
    with pytest.raises(StorageError, match="cannot be written"), claimed_name(path / "below.json"):
        pass
