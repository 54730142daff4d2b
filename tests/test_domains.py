import shutil

import numpy as np
import pytest

from reid.domains import Target, open_domains
from reid.errors import ConfigError, DatasetError, ProtocolError, SamplingError
from reid.experiment import resolve
from tests.drawn import draw_person

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}


def opened(table, session, **changes):
    return open_domains(resolve({**table, **changes}, "x.toml"), session)


def test_sources_and_targets_are_opened(tiny, session):
    domains = opened(tiny, session)
    assert domains.sources == ("market1501",)
    assert not domains.sources_counts_checked
    assert len(domains.train) == 40
    (target,) = domains.targets
    assert (target.label, len(target.query), len(target.gallery)) == ("market1501", 10, 15)
    assert [record.role for record in target.gallery].count("junk") == 2
    assert not target.counts_checked


def test_classes_follow_data_set_and_identity(tiny, data_root, session_on, draw_two):
    for pid in (3, 2):  # the same numbers as in market, other people
        draw_two(data_root / "mine" / str(pid))
    folder = {"name": "folder", "root": "mine"}
    domains = opened(tiny, session_on(data_root), source=[MARKET, folder])
    assert domains.sources == ("market1501", "folder (mine)")
    training = domains.training_set()
    assert len(training.records) == len(training.labels) == 40 + 4
    assert set(training.labels) == set(range(12))
    person_of = {}
    for record, label in zip(training.records, training.labels, strict=True):
        assert person_of.setdefault(label, (record.source, record.pid)) == (record.source, record.pid)
    assert [person_of[label] for label in range(12)] == sorted(person_of.values())


@pytest.fixture
def draw_two():
    def draw(folder):
        for number in range(2):
            draw_person(folder / f"{number}.jpg", number, np.random.default_rng(number))

    return draw


def test_validation_identities_are_no_longer_trained_on(tiny, session):
    domains = opened(tiny, session, validation_pids=3)
    validation = domains.targets[-1]
    assert validation.label == "validation"
    held = {record.pid for record in validation.query}
    assert len(held) == 3
    assert held == {record.pid for record in validation.gallery}
    assert not held & {record.pid for record in domains.train}
    assert max(domains.training_set().labels) == 6
    assert len(domains.train) + len(validation.query) + len(validation.gallery) == 40


def test_validation_alone_is_a_target(tiny, session):
    assert [target.label for target in opened(tiny, session, validation_pids=3, target=[]).targets] == ["validation"]


def test_too_many_validation_identities(tiny, session):
    with pytest.raises(SamplingError, match="validation_pids = 9"):
        opened(tiny, session, validation_pids=9)


def test_validation_without_a_gallery_is_refused_before_training(tiny, data_root, session_on):
    for path in (data_root / "market" / "bounding_box_train").glob("*_000002_*"):
        path.unlink()  # one image a person and camera is left
    with pytest.raises(DatasetError, match=r"validation: wanted query and gallery images.*found 6 and 0"):
        opened(tiny, session_on(data_root), validation_pids=3)


def test_a_target_that_is_trained_on_is_refused(tiny, session):
    with pytest.raises(ProtocolError, match="Leak"):
        opened(tiny, session, source=[{**MARKET, "train": "all"}])


def test_a_copy_of_a_target_that_is_trained_on_is_refused(tiny, data_root, session_on):
    shutil.copytree(data_root / "market", data_root / "copy")
    source = {**MARKET, "root": "copy", "train": "all"}
    with pytest.raises(ProtocolError, match=r"market1501 20"):
        opened(tiny, session_on(data_root), source=[source])


def test_a_target_for_training_only(tiny, data_root, session_on, draw_two):
    draw_two(data_root / "mine" / "7")
    with pytest.raises(DatasetError, match=r"folder \(mine\): wanted query and gallery images.*found 0 and 0"):
        opened(tiny, session_on(data_root), target=[{"name": "folder", "root": "mine"}])


def test_a_missing_target_is_found_before_training(tiny, session):
    with pytest.raises(DatasetError, match="elsewhere"):
        opened(tiny, session, target=[{**MARKET, "root": "elsewhere"}])


def test_no_source_gives_nothing_to_train_on(tiny, session):
    domains = opened(tiny, session, source=[])
    assert domains.train == []
    with pytest.raises(DatasetError, match=r"\[\[source\]\]: wanted images to train on"):
        domains.training_set()


@pytest.mark.parametrize(
    ("label", "name"),
    [("market1501", "market1501"), ("cuhk03_np (detected)", "cuhk03_np_detected"), ("a/b: c", "a_b_c")],
)
def test_labels_become_file_names(label, name):
    assert Target(label, [], [], counts_checked=True).file_name == name


@pytest.mark.parametrize("labels", [("a", "a"), ("a (b)", "a b"), ("validation",)])
def test_targets_have_names_of_their_own(labels, tiny, session):
    targets = [{**MARKET, "label": label} for label in labels]
    with pytest.raises(ConfigError, match="found two targets named"):
        opened(tiny, session, target=targets, validation_pids=3)


def test_a_label_does_not_hide_a_leak(tiny, data_root, session_on, draw_two):
    for split in ("train", "query", "gallery"):
        draw_two(data_root / "mine" / split / "1")
    folder = {"name": "folder", "root": "mine"}
    with pytest.raises(ProtocolError):
        opened(tiny, session_on(data_root), source=[folder], target=[{**folder, "label": "my shop"}])
