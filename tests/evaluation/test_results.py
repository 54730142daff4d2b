import json

import numpy as np
import pytest
from pydantic import ValidationError

from reid.errors import CheckpointError, StorageError
from reid.evaluation.metrics import retrieval_metrics
from reid.evaluation.ranking import rank_matches
from reid.evaluation.results import (
    Measured,
    RunResult,
    Stamp,
    Training,
    read_results,
    target_result,
    write_results,
)
from reid.evaluation.scoring import GalleryScores
from tests.evaluation.builders import labels

STAMP = Stamp(
    sources=("synthped (studio)",),
    seed=3,
    image_size=(128, 64),
    normalisation="none",
    precision="float32",
    backbone="resnet",
    matcher="transmatcher",
    parameters=1234,
    commit="abc1234",
)


def one_target():
    """Query 0 finds its matches at ranks 1 and 3, query 1 at 2 and 4, query 2 has only its own camera."""
    scores = GalleryScores(np.array([[4, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]], np.float32), score_s=2.0, gallery_s=0.5)
    query, gallery = labels([1, 1, 4], [0, 0, 1]), labels([1, 4, 1, 3], [1, 1, 1, 1])
    ranking = rank_matches(scores.score_QG, query, gallery)
    return target_result(
        "market1501", ranking, retrieval_metrics(ranking), scores, Measured(0.25, 0.125), counts_checked=True
    )


def result() -> RunResult:
    training = Training(epochs=2, steps=20, images_seen=320, seconds=12.5)
    return RunResult(title="a run", stamp=STAMP, targets=(one_target(),), training=training, machine="2 cores")


def test_a_target_holds_what_was_measured():
    target = one_target()
    assert target.rank1 == 0.5
    assert target.rank5 == target.rank10 == 1.0
    assert target.mAP == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2 + 2 / 4) / 2) / 2)
    assert target.per_query == ((1, 3), (2, 4), ())
    assert (target.num_query, target.num_query_counted, target.num_gallery) == (3, 2, 4)
    assert target.unmatched == {"only gallery images of the same camera": 1}
    assert target.extract_s == 0.75
    assert target.pairs_per_s == 6.0
    assert target.peak_memory_mib is None


def test_the_quoted_map_follows_the_rule():
    target = one_target()
    assert target.quoted_map("finite_sum") == target.mAP
    assert target.quoted_map("trapezoid") == target.mAP_trapezoid < target.mAP


def test_results_are_read_as_written(tmp_path):
    write_results(tmp_path / "results.json", result())
    assert read_results(tmp_path / "results.json") == result()
    assert read_results(tmp_path) == result()


def test_per_query_ranks_can_be_left_out(tmp_path):
    small = result().without_per_query()
    assert small.targets[0].per_query is None
    assert small.targets[0].rank1 == result().targets[0].rank1
    write_results(tmp_path / "small.json", small)
    assert read_results(tmp_path / "small.json") == small


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "wanted JSON"),
        ("[1]", "found a list"),
        ('{"schema_version": 2, "news": 1}', "newer reid"),
        ('{"schema_version": 1}', "'title' is missing"),
        ("\xff", "wanted JSON"),
    ],
)
def test_a_damaged_file_is_an_error(tmp_path, text, message):
    (tmp_path / "results.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=message):
        read_results(tmp_path / "results.json")


def test_a_file_cut_in_half_or_with_a_wrong_number_is_an_error(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, result())
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match="wanted JSON"):
        read_results(path)
    table = json.loads(text)
    table["targets"][0]["rank1"] = 73.4
    path.write_text(json.dumps(table))
    with pytest.raises(CheckpointError, match=r"rank1 = 73\.4"):
        read_results(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match="found none"):
        read_results(tmp_path)


def test_a_folder_that_cannot_be_written_leaves_the_old_results(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        write_results(tmp_path / "file" / "results.json", result())
    assert (tmp_path / "file").read_text() == "in the way"


def test_percent_is_refused():
    with pytest.raises(ValidationError):
        one_target().model_validate({**one_target().model_dump(), "mAP": 54.3})
