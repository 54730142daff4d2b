import pytest

from reid.datasets.randperson import Config, RandPerson
from reid.errors import DatasetError
from tests.datasets._trees import GOLDEN, touch

FILES = GOLDEN["files"]["randperson"]


def load(data_root, **options):
    return RandPerson(Config(expected_counts="none", **options)).load(data_root)


def test_equals_the_released_code(tmp_path):
    touch(tmp_path / "randperson", FILES)
    data = load(tmp_path)
    golden = GOLDEN["randperson"]["train"]
    number = {pid: label for label, pid in enumerate(dict.fromkeys(entry.pid for entry in data.train))}
    found = [(entry.path.name, number[entry.pid], entry.camid) for entry in data.train]
    assert found == [(name, pid, camid) for name, pid, camid, _ in golden]
    assert [entry.time_s for entry in data.train] == pytest.approx([row[3] for row in golden], rel=1e-12)
    assert not data.query
    assert not data.gallery


def test_clock_and_camera_by_hand(tmp_path):
    touch(tmp_path / "randperson", ["randperson_subset/000012_s01_c01_f000048.jpg"])
    (record,) = load(tmp_path).train
    assert (record.pid, record.camid, record.time_s) == (12, 2 + 1, (160_000 + 48) / 24)


def test_root_may_be_the_folder_of_images(tmp_path):
    touch(tmp_path / "randperson", FILES)
    for root in (tmp_path / "randperson", tmp_path / "randperson" / "randperson_subset"):
        assert len(load(tmp_path, root=root).train) == 4


@pytest.mark.parametrize("name", ["000001_s11_c00_f000001.jpg", "-1_s00_c00_f000001.jpg", "000001_s00_f000001.jpg"])
def test_unreadable_name_is_an_error_that_shows_it(tmp_path, name):
    touch(tmp_path / "randperson" / "randperson_subset", [name])
    with pytest.raises(DatasetError, match=rf"found 1 other name: {name}"):
        load(tmp_path)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match=r"wanted a folder randperson .*randperson_subset"):
        load(tmp_path)
