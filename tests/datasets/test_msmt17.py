import pytest

from reid.datasets._base import count
from reid.datasets.msmt17 import MSMT17, Config
from reid.errors import DatasetError
from tests.datasets._trees import GOLDEN, rows, touch

PLAIN, ALL = GOLDEN["msmt_combine_all_False"], GOLDEN["msmt_combine_all_True"]
TEST_FOLDER = {"train": "train", "val": "train", "query": "test", "gallery": "test"}


def lists():
    """The golden images by list; the last training identity is taken for val."""
    train = PLAIN["train"]
    return {
        "train": [row for row in train if row[1] == 0],
        "val": [row for row in train if row[1] == 1],
        "query": PLAIN["query"],
        "gallery": PLAIN["gallery"],
    }


def make(root, train="train", test="test"):
    root.mkdir(parents=True)
    for name, entries in lists().items():
        folder = train if TEST_FOLDER[name] == "train" else test
        touch(root / folder, [path for path, *_ in entries])
        (root / f"list_{name}.txt").write_text("".join(f"{path} {pid}\n" for path, pid, *_ in entries))
    return root


def load(data_root, **options):
    return MSMT17(Config(expected_counts="none", **options)).load(data_root)


def test_training_images_equal_the_released_code(tmp_path):
    make(tmp_path / "msmt17")
    data = load(tmp_path)
    assert rows(data.train, tmp_path / "msmt17" / "train") == [
        (path, pid, cam, None) for path, pid, cam, _ in PLAIN["train"]
    ]
    assert data.label == "msmt17 (with val)"


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_all_equals_the_released_code(tmp_path, split):
    root = make(tmp_path / "msmt17")
    found = rows(load(tmp_path, train="all").split(split), root)
    assert sorted(found) == sorted((path, pid, cam, None) for path, pid, cam, _ in ALL[split])


def test_identities_are_unique_over_splits(tmp_path):
    # Two training identities (0, 1), so test identities 0 and 2 become 2 and 4.
    make(tmp_path / "msmt17")
    for train in ("train", "train+val", "all"):
        data = load(tmp_path, train=train)
        assert [entry.pid for entry in data.query] == [2]
        assert [entry.pid for entry in data.gallery] == [2, 4]


def test_without_val(tmp_path):
    make(tmp_path / "msmt17")
    data = load(tmp_path, train="train")
    assert {entry.pid for entry in data.train} == {0}
    assert (data.label, data.variant) == ("msmt17 (without val)", "train")


@pytest.mark.parametrize(
    ("folder", "train", "test"),
    [
        ("MSMT17_V1", "train", "test"),
        ("MSMT17_V2", "mask_train_v2", "mask_test_v2"),
        ("msmt17/MSMT17_V2", "mask_train_v2", "mask_test_v2"),
    ],
)
def test_trees_in_the_wild(tmp_path, folder, train, test):
    root = make(tmp_path / folder, train, test)
    data = load(tmp_path)
    assert data.label == ("msmt17 (with val)" if train == "train" else "msmt17 V2 (with val)")
    assert data.train[0].path.is_relative_to(root / train)
    assert data.query[0].path.is_relative_to(root / test)
    assert all(entry.path.is_file() for entry in (*data.train, *data.query, *data.gallery))


def test_listed_image_that_is_missing_is_an_error(tmp_path):
    root = make(tmp_path / "msmt17")
    missing = root / "test" / PLAIN["gallery"][0][0]
    missing.unlink()
    with pytest.raises(
        DatasetError, match=rf"list_gallery.txt in .*test, found 1 missing: .*{missing.name}.*unpack again"
    ):
        load(tmp_path)


def test_missing_identity_folder_is_an_error(tmp_path):
    root = make(tmp_path / "msmt17")
    (root / "test" / "0002").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="found 1 missing: 0002/"):
        load(tmp_path)


def test_broken_line_is_an_error_with_its_number(tmp_path):
    root = make(tmp_path / "msmt17")
    with (root / "list_val.txt").open("a") as file:
        file.write("0001/picture.jpg 1\n")
    with pytest.raises(DatasetError, match=r"list_val.txt, line 3: .*found '0001/picture.jpg 1'"):
        load(tmp_path)


@pytest.mark.parametrize("part", ["list_query.txt", "train"])
def test_missing_part_is_an_error(tmp_path, part):
    (make(tmp_path / "msmt17") / part).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=part):
        load(tmp_path)


def test_declared_counts_add_up():
    with_val, without_val, everything = (MSMT17.info.counts[key] for key in ("train+val", "train", "all"))
    assert without_val["train"].images + 2_373 == with_val["train"].images
    assert everything["train"].images == sum(with_val[split].images for split in ("train", "query", "gallery"))
    assert everything["train"].pids == with_val["train"].pids + with_val["gallery"].pids


def test_counts_of_all(tmp_path):
    make(tmp_path / "msmt17")
    # 4 training images, 1 query, 2 gallery; identities 0, 1 and test identities 0, 2; cameras 1, 14, 5, 15, 7, 2, 3.
    found = count(load(tmp_path, train="all").train)
    assert (found.images, found.pids, found.cams) == (7, 4, 7)
