"""The component: config, folders that are drawn once, and what is said when they are not as they should be."""

import json

import pytest

import reid.datasets.synthped as module
from reid.config import parse
from reid.datasets._checks import check
from reid.datasets.synthped import COMPONENT, INFO, Config, Synthped
from reid.errors import ConfigError, DatasetError, StorageError

TINY = {
    "domain": "street",
    "num_train_pids": 2,
    "num_test_pids": 2,
    "num_cameras": 2,
    "images_per_camera": 2,
    "num_distractors": 2,
    "num_junk": 1,
    "queries_per_pid": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    Synthped(Config(**TINY)).load(folder)
    return folder


def forbid(monkeypatch):
    def draw(*_):
        raise AssertionError("drawn again")

    monkeypatch.setattr(module, "draw_set", draw)


def test_first_use_draws_and_the_second_reads(root, monkeypatch):
    forbid(monkeypatch)
    data = Synthped(Config(**TINY)).load(root)
    assert (data.name, data.label, data.counts_checked) == ("synthped", "synthped (street)", True)
    assert len(data.train) == 2 * 2 * 2
    assert len(data.query) == 2
    assert sorted(record.role for record in data.gallery) == ["distractor"] * 2 + ["junk"] + ["person"] * 6
    assert {record.camid for record in data.train} == {0, 1}
    assert {record.pid for record in data.train}.isdisjoint(record.pid for record in data.query)
    assert all(record.time_s is not None and record.source == "synthped-street-0" for record in data.gallery)


def test_another_table_is_another_folder_with_other_people(root):
    other, data = (Synthped(Config(**TINY | {"seed": seed})).load(root) for seed in (3, 0))
    assert other.root != data.root == Synthped(Config(**TINY, label="another name")).load(root).root
    assert other.train[0].source != data.train[0].source


def test_a_folder_of_another_renderer_is_drawn_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENDERER", 0)
    folder = Synthped(Config(**TINY)).load(tmp_path).root
    assert json.loads((folder / module.STAMP).read_text())["renderer"] == 0
    monkeypatch.undo()
    Synthped(Config(**TINY)).load(tmp_path)
    assert json.loads((folder / module.STAMP).read_text())["renderer"] == module.RENDERER


def test_a_folder_with_half_a_stamp_is_drawn_again(tmp_path):
    folder = Synthped(Config(**TINY)).load(tmp_path).root
    (folder / module.STAMP).write_text('{"renderer"')
    assert Synthped(Config(**TINY)).load(tmp_path).counts_checked


def test_missing_images_are_an_error_that_says_what_to_do(tmp_path):
    folder = Synthped(Config(**TINY)).load(tmp_path).root
    next((folder / "query").iterdir()).unlink()
    with pytest.raises(DatasetError, match="Remove the folder"):
        Synthped(Config(**TINY)).load(tmp_path)
    opened = Synthped(Config(**TINY, expected_counts="none")).load(tmp_path)
    assert (len(opened.query), opened.counts_checked) == (1, False)


def test_a_check_compares_with_what_was_drawn(root, tmp_path):
    report = check(Synthped, Config(**TINY), root)
    assert report.ok
    assert [(row.split, row.wanted.images, row.found.images) for row in report.rows] == [
        ("train", 8, 8),
        ("query", 2, 2),
        ("gallery", 8, 8),
    ]
    assert not any("unchecked" in note for note in report.notes)


def test_a_check_finds_a_deleted_image(tmp_path):
    folder = Synthped(Config(**TINY)).load(tmp_path).root
    next((folder / "bounding_box_train").iterdir()).unlink()
    (problem,) = check(Synthped, Config(**TINY), tmp_path).problems
    assert problem.what == "train: wanted 8 images; found 7 images"
    assert problem.cause.startswith("12.50% of the images are missing (1)")
    assert problem.fix.startswith("Remove the folder, and it is drawn again")


def test_a_root_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(DatasetError, match="something else"):
        Synthped(Config(**TINY, root=tmp_path)).load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_new_root_is_drawn_into(tmp_path):
    root = tmp_path / "here"
    assert Synthped(Config(**TINY, root=root)).load(tmp_path).root == root
    assert (root / "query").is_dir()


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch, fault):
    def stop(plan, folder, drawn):
        (folder / "query").mkdir()
        raise fault

    monkeypatch.setattr(module, "draw_set", stop)
    with pytest.raises((KeyboardInterrupt, StorageError)):
        Synthped(Config(**TINY)).load(tmp_path)
    assert list((tmp_path / "synthped").iterdir()) == []


def test_without_training_people_there_is_no_training_split(tmp_path):
    data = Synthped(Config(**TINY | {"num_train_pids": 0})).load(tmp_path)
    assert len(data.train) == 0
    assert len(data.query) == 2


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"domain": "beach"}, "beach"),
        ({"num_pids": 3}, "num_test_pids|num_train_pids"),
        ({"num_cameras": 1}, "num_cameras"),
        ({"image_height": 4}, "image_height"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_tables_are_refused(table, said):
    with pytest.raises(ConfigError, match=said):
        parse(Config, table, "x.toml [dataset]")


def test_the_component_is_declared():
    assert COMPONENT is Synthped
    assert Synthped.info is INFO
    assert INFO.licence == "MIT"
