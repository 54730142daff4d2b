import dataclasses
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.datasets._base import Counts
from reid.datasets._market_form import read_market_folder
from reid.datasets.market1501 import Config, Market1501
from reid.errors import DatasetError
from tests.datasets._trees import GOLDEN, rows, touch

FILES = GOLDEN["files"]["market"]
UNCHECKED = {"expected_counts": "none"}


@pytest.fixture
def data_root(tmp_path):
    touch(tmp_path / "market1501", FILES)
    return tmp_path


def load(data_root, **options):
    return Market1501(Config(**{**UNCHECKED, **options})).load(data_root)


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_released_form_equals_the_released_code(data_root, split):
    records = [entry for entry in load(data_root, released_times=True).split(split) if entry.role != "junk"]
    golden = GOLDEN["market"][split]
    # The released code numbers training identities in order of appearance and calls distractors 0.
    number = {pid: label for label, pid in enumerate(dict.fromkeys(entry.pid for entry in records))}
    pids = [number[entry.pid] if split == "train" else max(entry.pid, 0) for entry in records]
    assert [entry.path.name for entry in records] == [name for name, *_ in golden]
    assert pids == [pid for _, pid, _, _ in golden]
    assert [entry.camid for entry in records] == [camid for _, _, camid, _ in golden]
    assert [entry.time_s for entry in records] == [time_s for _, _, _, time_s in golden]


def test_sequences_are_laid_end_to_end(data_root):
    # Camera 1 reaches frame 1051 in sequence 1 and 2427 in sequence 2; sequence 3 begins after both.
    times = {entry.path.name: entry.time_s for entry in load(data_root).train}
    assert times["0010_c1s2_002427_05.jpg"] == (1051 + 2427) / 25
    assert times["0010_c1s3_000100_05.jpg"] == (1051 + 2427 + 100) / 25
    assert times["0007_c3s3_077419_03.jpg"] == 77419 / 25


def test_roles(data_root):
    data = load(data_root)
    assert [(entry.role, entry.pid) for entry in data.gallery] == [
        ("junk", -1),
        ("distractor", -1),
        ("distractor", -1),
        ("person", 1),
        ("person", 1),
        ("person", 1),
        ("person", 1501),
    ]
    assert {entry.role for entry in (*data.train, *data.query)} == {"person"}
    assert {entry.source for entry in (*data.train, *data.query, *data.gallery)} == {"market1501"}


def test_train_holds_persons_only(data_root):
    touch(data_root / "market1501" / "bounding_box_train", ["-1_c1s1_000001_00.jpg", "0000_c1s1_000001_00.jpg"])
    assert {entry.pid for entry in load(data_root).train} == {2, 7, 10}


def test_all_for_training_takes_the_persons_of_every_split(data_root):
    data = load(data_root, train="all")
    assert (data.label, data.variant) == ("market1501 (all)", "all")
    assert [entry.path.name for entry in data.train] == sorted(
        (name.split("/")[1] for name in FILES if name.split("/")[1][:4] not in ("-1_c", "0000", "Thum")),
        key=lambda name: next(file for file in FILES if file.endswith(name)),
    )
    assert load(data_root, train="all").gallery == load(data_root).gallery


@pytest.mark.parametrize(
    "folder", ["market1501", "Market-1501-v15.09.15", "market1501/Market-1501-v15.09.15", "Market-1501"]
)
def test_trees_in_the_wild(tmp_path, folder):
    touch(tmp_path / folder, FILES)
    assert load(tmp_path).root == tmp_path / folder


def test_own_root_wins_over_the_data_root(data_root, tmp_path):
    own = touch(tmp_path / "dev", [name.replace("0002", "0003") for name in FILES])
    data = load(data_root, root=own)
    assert data.root == own
    assert {entry.pid for entry in data.train} == {3, 7, 10}


def test_published_counts_are_required_by_default(data_root):
    with pytest.raises(DatasetError) as caught:
        Market1501(Config()).load(data_root)
    message = str(caught.value)
    assert "train: wanted 12,936 images, 751 identities, 6 cameras; found 7 images, 3 identities, 4 cameras" in message
    assert "99.95% of the images are missing (12,929)" in message
    assert "(junk is rightly not counted: 1)" in message
    assert 'expected_counts = "none"' in message


def test_agreeing_counts_are_recorded(data_root):
    class Small(Market1501):
        info = dataclasses.replace(
            Market1501.info,
            counts={"": {"train": Counts(7, 3, 4), "query": Counts(3, 2, 3), "gallery": Counts(6, 2, 4)}},
        )

    assert Small(Config()).load(data_root).counts_checked
    assert not Small(Config(expected_counts="none")).load(data_root).counts_checked


def test_declared_counts_add_up():
    counts, everything = Market1501.info.counts[""], Market1501.info.counts["all"]["train"]
    distractors = 2_798  # Zheng et al., ICCV 2015
    assert everything.images == sum(split.images for split in counts.values()) - distractors
    assert everything.pids == 1_501
    assert counts["gallery"].images + 3_819 == 19_732
    assert counts["train"].pids + counts["gallery"].pids == 1_501


def test_missing_folder_names_what_was_wanted_and_found(tmp_path):
    touch(tmp_path, ["msmt17/list_train.txt"])
    with pytest.raises(DatasetError, match=r"wanted a folder market1501 .*bounding_box_train.*found only msmt17"):
        load(tmp_path)
    with pytest.raises(DatasetError, match=r"nowhere, which does not exist"):
        load(tmp_path, root=tmp_path / "nowhere")


def test_missing_part_is_an_error(data_root, tmp_path):
    (data_root / "market1501" / "query").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"wanted the folder .*query, found only bounding_box_test"):
        load(data_root)


@pytest.mark.parametrize("name", ["person.jpg", "0001c1s1_000001_00.jpg", "notes.txt"])
def test_unreadable_name_is_an_error_that_shows_it(data_root, name):
    touch(data_root / "market1501" / "query", [name])
    with pytest.raises(DatasetError, match=rf"found 1 other name: {name}"):
        load(data_root)


def test_litter_is_ignored(data_root):
    touch(data_root / "market1501" / "query", ["Thumbs.db", ".DS_Store", "._0001_c1s1_001051_00.jpg", "desktop.ini"])
    assert len(load(data_root).query) == 3


def test_empty_tree_is_an_error(tmp_path):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "market1501" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"wanted images in .*found none"):
        load(tmp_path)


def test_records_are_sorted_by_name(data_root):
    names = [row[0] for row in rows(load(data_root).gallery)]
    assert names == sorted(names)


@settings(max_examples=30, deadline=None)
@given(st.sets(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(0, 500)), min_size=1, max_size=12))
def test_time_keeps_the_order_of_sequences_and_frames(shots):
    with tempfile.TemporaryDirectory() as folder:
        names = [f"bounding_box_test/0001_c{camera}s{seq}_{frame:06d}_00.jpg" for camera, seq, frame in shots]
        root = touch(Path(folder), ["bounding_box_train/0002_c1.jpg", "query/0003_c1.jpg", *names])
        gallery = read_market_folder(root, "drawn")["gallery"]
    clock = {entry.path.name: entry.time_s for entry in gallery}
    for camera in {camera for camera, _, _ in shots}:
        ordered = sorted(shot for shot in shots if shot[0] == camera)
        times = [clock[f"0001_c{camera}s{seq}_{frame:06d}_00.jpg"] for _, seq, frame in ordered]
        assert times == sorted(times)
        assert times[0] == ordered[0][2] / 25
