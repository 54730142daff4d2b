from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from reid.evaluation.curve import Curve, Line, Point, heads
from reid.evaluation.judge import Judge
from reid.evaluation.labels import Labels
from reid.evaluation.reranked import Figures
from reid.evaluation.shortlist import propose
from reid.types import ImageRecord

QUERY = [ImageRecord(Path("q.jpg"), 1, 0)]
GALLERY = [ImageRecord(Path(f"{number}.jpg"), pid, 1) for number, pid in enumerate((0, 1, 0, 1, 0))]


def test_heads_by_hand():
    """The first stage says 0 1 2 3 4, the second the reverse; images 1 and 3 match."""
    judge = Judge(np.float32([[0.9, 0.8, 0.7, 0.6, 0.5]]), Labels.of(QUERY), Labels.of(GALLERY), same_camera=True)
    before = judge.score_QG.copy()
    shortlist = propose(judge.score_QG, 4, GALLERY)
    found = heads(judge, shortlist, np.float32([[1, 2, 3, 4]]), [1, 2, 3, 4])
    own, oracle = zip(*found, strict=True)
    assert [figures.rank1 for figures in own] == [0, 1, 0, 1]
    assert [figures.mAP for figures in own] == pytest.approx(
        [
            (1 / 2 + 2 / 4) / 2,  # 0 | 1 2 3 4
            (1 / 1 + 2 / 4) / 2,  # 1 0 | 2 3 4
            (1 / 2 + 2 / 4) / 2,  # 2 1 0 | 3 4
            (1 / 1 + 2 / 3) / 2,  # 3 2 1 0 | 4
        ]
    )
    assert [figures.rank1 for figures in oracle] == [0, 1, 1, 1]
    assert [figures.mAP for figures in oracle] == pytest.approx(
        [
            (1 / 2 + 2 / 4) / 2,  # image 1 is not on the list
            (1 / 1 + 2 / 4) / 2,  # 1 0 | 2 3 4
            (1 / 1 + 2 / 4) / 2,  # 1 0 2 | 3 4
            1,  # 1 3 0 2 | 4
        ]
    )
    np.testing.assert_array_equal(judge.score_QG, before)


def test_each_length_stands_in_its_place():
    judge = Judge(np.float32([[0.9, 0.8, 0.7, 0.6, 0.5]]), Labels.of(QUERY), Labels.of(GALLERY), same_camera=True)
    shortlist = propose(judge.score_QG, 4, GALLERY)
    found = heads(judge, shortlist, np.float32([[1, 2, 3, 4]]), [4, 2])
    assert [own.mAP for own, _ in found] == pytest.approx([5 / 6, 3 / 4])


def test_a_query_of_the_first_stage_alone_is_encoded_and_compared():
    figures = Figures(rank1=0.5, mAP=0.25)
    point = Point(top_k=1, figures=figures, oracle=figures, rescore_s=1.0, query_s=4.0)
    line = Line(method="x", encode_s=2.0, one_backbone=False, points=(point,))
    facts = {"counts_checked": True, "camera_rule": "on", "num_query": 1, "num_gallery": 5, "first": figures}
    curve = Curve(target="synthped (street, 2)", encode_s=1.5, score_s=0.25, lines=(line,), **facts)
    assert curve.first_s == 1.75
    assert curve.file_name == "synthped_street_2"
    with pytest.raises(ValidationError):
        Point(top_k=0, figures=figures, oracle=figures, rescore_s=1.0, query_s=4.0)
