import numpy as np
import pytest

from reid.errors import DatasetError, ShapeError
from reid.evaluation.labels import Labels, Truth
from tests.evaluation.builders import labels, record

GALLERY = labels(
    [7, 7, 9, -1, -1, 7],
    [0, 1, 0, 0, 0, 1],
    ["person", "person", "person", "junk", "distractor", "person"],
)


def test_matches_and_removed_images():
    truth = Truth(labels([7], [0]), GALLERY)[0]
    assert truth.match_M.tolist() == [1, 5]
    assert sorted(truth.removed_R.tolist()) == [0, 3]
    assert truth.reason is None


def test_without_the_camera_rule_only_junk_is_removed():
    truth = Truth(labels([7], [0]), GALLERY, camera_rule=False)
    assert truth.camera_rule == "off"
    assert truth[0].match_M.tolist() == [0, 1, 5]
    assert truth[0].removed_R.tolist() == [3]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (labels([9], [0]), "only gallery images of the same camera"),
        (labels([8], [0]), "no gallery image of this identity"),
        (labels([-1], [1], ["distractor"]), "the query has no identity"),
        (labels([-1], [1], ["junk"]), "the query has no identity"),
    ],
)
def test_reason_for_nothing_to_find(query, reason):
    row = Truth(query, GALLERY)[0]
    assert row.reason == reason
    assert len(row.match_M) == 0
    assert 3 in row.removed_R


def test_no_camera_ids_switch_the_rule_off_and_say_so():
    truth = Truth(labels([7], [None]), GALLERY)
    assert truth.camera_rule == "off (no camera ids)"
    assert truth[0].match_M.tolist() == [0, 1, 5]


def test_camera_ids_of_some_persons_only_are_an_error():
    with pytest.raises(DatasetError, match="1 of 3 images of persons"):
        Labels.of([record(1, 0), record(2, None), record(3, 1)])


def test_distractors_need_no_camera():
    assert Labels.of([record(1, 4), record(-1, None, "distractor")]).camid_N.tolist() == [4, -1]


def test_the_same_pid_of_another_source_is_another_person():
    query = Labels.of([record(1, 0, source="b")])
    gallery = Labels.of([record(1, 1, source="a"), record(1, 1, source="b"), record(2, 1, source="b")])
    assert Truth(query, gallery)[0].match_M.tolist() == [1]


def test_large_pids_of_many_sources_do_not_collide():
    pids = [2**61, 0, 2**61 - 1]
    gallery = Labels.of([record(pid, 1, source=source) for source in "abc" for pid in pids])
    query = Labels.of([record(pid, 0, source=source) for source in "abc" for pid in pids])
    truth = Truth(query, gallery)
    assert [truth[idx].match_M.tolist() for idx in range(9)] == [[idx] for idx in range(9)]


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ShapeError, match="found 1 and 0"):
        Truth(labels([7], [0]), Labels.of([]))


def test_arrays_have_the_documented_types():
    one = Labels.of([record(3, 2)])
    assert one.camid_N is not None
    assert (one.pid_N.dtype, one.camid_N.dtype, one.role_N.dtype) == (np.int64, np.int64, np.int8)
    assert len(one) == 1
