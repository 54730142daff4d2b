import dataclasses

import pytest
from PIL import Image

from reid.datasets._base import Counts, DataSet
from reid.datasets._checks import check
from reid.datasets.cuhk03_np import CUHK03NP
from reid.datasets.cuhk03_np import Config as CUHKConfig
from reid.datasets.folder import Config as FolderConfig
from reid.datasets.folder import Folder
from reid.datasets.market1501 import Config, Market1501
from reid.errors import DatasetError

NAMES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000301_01.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c1s1_001051_00.jpg", "0004_c1s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000001_00.jpg",
        "0000_c1s1_000001_00.jpg",
        "0001_c1s1_001060_00.jpg",
        "0001_c2s1_001060_00.jpg",
        "0003_c1s1_001060_00.jpg",
    ],
}
COUNTS = {"train": Counts(2, 1, 2), "query": Counts(3, 3, 1), "gallery": Counts(4, 2, 2)}


class Small(Market1501):
    info = dataclasses.replace(Market1501.info, counts={"": COUNTS})


@pytest.fixture
def root(tmp_path):
    for folder, names in NAMES.items():
        (tmp_path / "market1501" / folder).mkdir(parents=True)
        for name in names:
            Image.new("RGB", (8, 16), (90, 20, 200)).save(tmp_path / "market1501" / folder / name)
    return tmp_path / "market1501"


def run(root, **options):
    return check(Small, Config(), root.parent, **options)


def test_complete_set_is_ok(root):
    report = run(root, deep=True)
    assert report.ok
    assert all(row.agrees for row in report.rows)
    assert "Everything as it should be." in report.text()


def test_removed_image_is_a_problem_with_cause_and_fix(root):
    (root / "bounding_box_train" / NAMES["bounding_box_train"][0]).unlink()
    report = run(root)
    assert not report.ok
    (problem,) = report.problems
    assert problem.what == "train: wanted 2 images, 1 identities, 2 cameras; found 1 images, 1 identities, 1 cameras"
    assert problem.cause.startswith("50.00% of the images are missing (1)")
    assert "expected_counts" in problem.fix
    text = report.text()
    assert "Likely cause: 50.00%" in text
    line = next(line for line in text.splitlines() if line.startswith("train") and "images" in line)
    assert line.split() == ["train", "images", "2", "1", "NO"]


def test_queries_without_a_match_are_explained(root):
    notes = "\n".join(run(root).notes)
    assert "1 of 3 queries (1 identities) have no match: their identity is not in the gallery" in notes
    assert (
        "1 of 3 queries (1 identities) have no match: their identity is in the gallery under the query's own" in notes
    )


def test_roles_are_told(root):
    notes = run(root).notes
    assert "gallery: distractor images: 1 (ranked, never a match)." in notes
    assert "gallery: junk images: 1 (removed from every ranking, not counted)." in notes


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"no image"])
def test_deep_finds_unreadable_images(root, damage):
    path = root / "query" / NAMES["query"][0]
    path.write_bytes(damage(path.read_bytes()))
    assert run(root).ok
    report = run(root, deep=True)
    (problem,) = report.problems
    assert problem.what.startswith(f"1 of 10 images cannot be decoded: {path} (")


def test_deep_finds_a_damaged_png(tmp_path):
    (tmp_path / "1").mkdir()
    path = tmp_path / "1" / "a.png"
    Image.effect_noise((40, 40), 80).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    report = check(Folder, FolderConfig(root=tmp_path), tmp_path, deep=True)
    assert [problem.what.startswith("1 of 1 images cannot be decoded") for problem in report.problems] == [True]


def test_without_published_counts_it_says_unchecked(root):
    report = check(Small, Config(expected_counts="none"), root.parent)
    assert report.ok
    assert any("counts unchecked" in note for note in report.notes)
    assert all(row.wanted is None for row in report.rows)


def test_missing_camera_ids_are_told(tmp_path):
    for split in ("query", "gallery"):
        (tmp_path / split / "1").mkdir(parents=True)
        (tmp_path / split / "1" / "a.jpg").touch()
    report = check(Folder, FolderConfig(root=tmp_path), tmp_path)
    assert any("same-camera rule is off" in note for note in report.notes)
    assert not any("no match" in note for note in report.notes)


def test_folder_that_cannot_be_opened_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="wanted a folder market1501"):
        run(tmp_path / "market1501")


def published(found, wanted, other):
    """A class of sets with ``found`` training images of one identity, where ``wanted`` is published."""

    class Fake(CUHK03NP):
        info = dataclasses.replace(
            CUHK03NP.info,
            counts={"detected": {"train": wanted}, **({"labeled": {"train": other}} if other else {})},
        )

        def load(self, data_root):
            train = Folder(FolderConfig(root=data_root)).load(data_root).train[:found]
            return DataSet("fake", "fake", train, (), (), counts_checked=False, variant="detected", root=data_root)

    return Fake


@pytest.mark.parametrize(
    ("found", "wanted", "other", "cause"),
    [
        (0, Counts(4, 1), None, "The split is empty"),
        (2, Counts(4, 1), None, "50.00% of the images are missing (2)"),
        (4, Counts(2, 1), None, "Every image is there twice"),
        (5, Counts(4, 1), None, "Too many images (1)"),
        (4, Counts(4, 2), None, "The number of images is right, the names are not"),
        (5, Counts(4, 1), Counts(5, 1), "These are the counts of variant 'labeled', not of 'detected'"),
    ],
)
def test_likely_causes(tmp_path, found, wanted, other, cause):
    (tmp_path / "1").mkdir()
    for number in range(5):
        (tmp_path / "1" / f"{number}.jpg").touch()
    report = check(published(found, wanted, other), CUHKConfig(), tmp_path)
    assert report.problems[0].cause.startswith(cause)
