from pathlib import Path

import numpy as np

from reid.evaluation.judge import Judge
from reid.evaluation.labels import Labels
from reid.evaluation.shortlist import propose
from reid.types import ImageRecord

QUERY = [ImageRecord(Path("q.jpg"), 1, 0)]
GALLERY = [ImageRecord(Path(f"{number}.jpg"), pid, 1) for number, pid in enumerate((0, 1, 0, 1))]


def judge(score):
    return Judge(np.float32([score]), Labels.of(QUERY), Labels.of(GALLERY), same_camera=True)


def test_orders_by_hand():
    ours = judge([0.9, 0.8, 0.7, 0.6])  # matches at ranks 2 and 4
    before = ours.score_QG.copy()
    assert ours.as_scored().figures.mAP == (1 / 2 + 2 / 4) / 2
    assert ours.as_scored().figures.rank1 == 0
    shortlist = propose(ours.score_QG, 2, GALLERY)
    verdict = ours.reordered(shortlist, np.float32([[1, 2]]))  # the second image first: ranks 1 and 4
    assert verdict.figures.mAP == (1 + 2 / 4) / 2
    assert verdict.ranking.rank_Q[0].tolist() == [1, 4]
    np.testing.assert_array_equal(ours.score_QG, before)
    ours.reordered(shortlist, np.float32([[1, 2]]), keep=True)
    assert ours.as_scored().figures == verdict.figures
    assert ours.truth[0].match_M.tolist() == [1, 3]
