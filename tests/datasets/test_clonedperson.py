import pytest

from reid.datasets.clonedperson import ClonedPerson, Config
from reid.errors import DatasetError
from tests.datasets._trees import GOLDEN, touch

FILES = GOLDEN["files"]["clonedperson"]


@pytest.fixture
def data_root(tmp_path):
    touch(tmp_path / "clonedperson", FILES)
    return tmp_path


def load(data_root, **options):
    return ClonedPerson(Config(**options)).load(data_root)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_released_form_equals_the_released_code(data_root, split):
    records = [entry for entry in load(data_root, released_cameras=True).split(split) if entry.role != "junk"]
    number = {pid: label for label, pid in enumerate(dict.fromkeys(entry.pid for entry in records))}
    found = [
        [entry.path.name, number[entry.pid] if split == "train" else entry.pid, entry.camid, entry.time_s]
        for entry in records
    ]
    assert found == GOLDEN["clonedperson"][split]


def test_cameras_of_different_scenes_differ(data_root):
    # Sorted pairs: (3, 1), (5, 0), (11, 2), (12, 3).
    data = load(data_root)
    assert [entry.camid for entry in data.train] == [0, 3]
    assert [entry.camid for entry in data.query] == [1]
    assert [entry.camid for entry in data.gallery] == [2, 2]


def test_junk_is_a_role(data_root):
    assert [(entry.role, entry.pid) for entry in load(data_root).gallery] == [("junk", -1), ("person", 10)]


def test_counts_are_unknown(data_root):
    assert not load(data_root).counts_checked


def test_unreadable_name_is_an_error_that_shows_it(data_root):
    touch(data_root / "clonedperson" / "train", ["id6_s2.jpg"])
    with pytest.raises(DatasetError, match=r"found 1 other name: id6_s2\.jpg"):
        load(data_root)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="wanted a folder clonedperson"):
        load(tmp_path)
