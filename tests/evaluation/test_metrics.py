from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from reid.errors import ProtocolError, ShapeError
from reid.evaluation.metrics import (
    MAX_RANK,
    average_precision,
    average_precision_trapezoid,
    paired_bootstrap,
    retrieval_metrics,
)
from reid.evaluation.ranking import Ranking, rank_matches
from tests.evaluation.builders import drawn_images, labels, labels_of
from tests.reference import metrics as reference

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")
SETS = ("A", "B", "C_small_gallery")
CMC_CODES = ("openreid_market1501", "torchreid_py_market1501", "torchreid_cy_market1501", "fastreid_py", "fastreid_cy")
MAP_CODES = ("openreid", "torchreid_py_market1501", "torchreid_py_cuhk03", "fastreid_py_cuhk03")
MAP_CODES_FLOAT32 = ("torchreid_cy_market1501", "torchreid_cy_cuhk03")
COMPARED = {
    *(f"{code}_cmc" for code in CMC_CODES),
    *(f"{code}_mAP" for code in (*MAP_CODES, *MAP_CODES_FLOAT32)),
    *("fastreid_py_AP", "fastreid_cy_AP", "fastreid_py_INP", "fastreid_cy_INP", "fastreid_roc_n_pos_neg"),
    *("openreid_allshots_cmc", "openreid_sepcam_cmc", "torchreid_py_mAP", "torchreid_py_cmc"),
}
SINGLE_SHOT = "compared in test_single_shot.py"
LEFT_OUT = {
    "openreid_cuhk03_singleshot_sepcam_cmc_seed0": SINGLE_SHOT,
    "torchreid_py_cuhk03_cmc5_seed0": SINGLE_SHOT,
    "torchreid_cy_cuhk03_cmc5_seed0": SINGLE_SHOT,
    "fastreid_py_cuhk03_cmc5_seed0": SINGLE_SHOT,
    "fastreid_roc_scores_sorted": "the kept distances in order: input, stored for one set only",
    "fastreid_TPR@FPR=1e-04": "verification with the roles of genuine and impostor pairs exchanged",
    "fastreid_TPR@FPR=1e-03": "as above",
    "fastreid_TPR@FPR=1e-02": "as above",
    "fastreid_TPR@FPR=1e-01": "as above",
    "conventional_TPR@FPR=1e-04": "verification: thresholds over pairs, no ranking metric",
    "conventional_TPR@FPR=1e-03": "as above",
    "conventional_TPR@FPR=1e-02": "as above",
    "conventional_TPR@FPR=1e-01": "as above",
    "note_argsort": "the order in which an unstable sort happened to leave equal distances",
}


def golden_input(name: str):
    """Scores, query and gallery of a golden set; the pid 0 of its galleries stands for distractors."""
    query = labels(GOLDEN[f"{name}/q_pid"].tolist(), GOLDEN[f"{name}/q_cam"].tolist())
    pid_G = GOLDEN[f"{name}/g_pid"]
    roles = ["distractor" if pid == 0 and name != "ties" else "person" for pid in pid_G]
    return -GOLDEN[f"{name}/dist"], query, labels(pid_G.tolist(), GOLDEN[f"{name}/g_cam"].tolist(), roles)


def golden_ranking(name: str) -> Ranking:
    return rank_matches(*golden_input(name))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("code", CMC_CODES)
def test_golden_cmc(name, code):
    found = retrieval_metrics(golden_ranking(name)).cmc_K
    np.testing.assert_allclose(found, GOLDEN[f"{name}/{code}_cmc"], rtol=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_golden_map(name):
    found = retrieval_metrics(golden_ranking(name)).mAP
    for code in MAP_CODES:
        assert found == pytest.approx(float(GOLDEN[f"{name}/{code}_mAP"]), rel=1e-12)
    for code in MAP_CODES_FLOAT32:
        assert found == pytest.approx(float(GOLDEN[f"{name}/{code}_mAP"]), rel=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_golden_ap_and_inp_of_every_query(name):
    found = retrieval_metrics(golden_ranking(name))
    np.testing.assert_allclose(found.ap_N, GOLDEN[f"{name}/fastreid_py_AP"], rtol=1e-12)
    np.testing.assert_allclose(found.inp_N, GOLDEN[f"{name}/fastreid_py_INP"], rtol=1e-12)
    np.testing.assert_allclose(found.ap_N, GOLDEN[f"{name}/fastreid_cy_AP"], rtol=1e-6)
    np.testing.assert_allclose(found.inp_N, GOLDEN[f"{name}/fastreid_cy_INP"], rtol=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_golden_number_of_pairs(name):
    ranking = golden_ranking(name)
    genuine = sum(map(len, ranking.rank_Q))
    impostor = int(ranking.num_kept_Q.sum()) - genuine
    assert [genuine, impostor] == GOLDEN[f"{name}/fastreid_roc_n_pos_neg"].tolist()


@pytest.mark.parametrize("name", SETS)
def test_golden_all_shots_cmc(name):
    """That curve gives match j of M the weight 1/M at the number of wrong images ahead of it."""
    ranks = [rank_M for rank_M in golden_ranking(name).rank_Q if len(rank_M)]
    curve = np.zeros(MAX_RANK)
    for rank_M in ranks:
        wrong_M = rank_M - np.arange(1, len(rank_M) + 1)
        np.add.at(curve, wrong_M[wrong_M < MAX_RANK], 1 / len(rank_M))
    np.testing.assert_allclose(curve.cumsum() / len(ranks), GOLDEN[f"{name}/openreid_allshots_cmc"], rtol=1e-12)


@pytest.mark.parametrize("name", SETS)
def test_golden_cmc_without_any_image_of_the_query_camera(name):
    score_QG, query, gallery = golden_input(name)
    first = []
    for idx in range(len(query)):
        other_N = np.flatnonzero(gallery.camid_N != query.camid_N[idx])
        one = labels(query.pid_N[[idx]].tolist(), query.camid_N[[idx]].tolist())
        rest = labels(gallery.pid_N[other_N].tolist(), gallery.camid_N[other_N].tolist())
        ranks = rank_matches(score_QG[idx : idx + 1, other_N], one, rest).rank_Q[0]
        first += ranks[:1].tolist()
    curve = [np.mean(np.array(first) <= k) for k in range(1, MAX_RANK + 1)]
    np.testing.assert_allclose(curve, GOLDEN[f"{name}/openreid_sepcam_cmc"], rtol=1e-12)


def test_golden_ties_depend_on_the_sort():
    """Equal distances leave the order to the code that sorts; ours keeps gallery order, as the reference does."""
    score_QG, query, gallery = golden_input("ties")
    found = retrieval_metrics(rank_matches(score_QG, query, gallery))
    query_images, gallery_images = as_images(query), as_images(gallery)
    hits = [
        reference.ranked_hits(row, image, gallery_images)
        for row, image in zip(score_QG.tolist(), query_images, strict=True)
    ]
    assert found.mAP == pytest.approx(
        np.mean([reference.average_precision(row) for row in hits if any(row)]), rel=1e-12
    )
    np.testing.assert_allclose(found.cmc_K, reference.cmc(hits, MAX_RANK), rtol=1e-12)
    assert abs(float(GOLDEN["ties/openreid_mAP"]) - float(GOLDEN["ties/torchreid_py_mAP"])) > 0.03
    assert 0.0 < abs(found.mAP - float(GOLDEN["ties/torchreid_py_mAP"])) < 0.05
    for code in ("openreid_market1501", "torchreid_py"):
        assert np.abs(found.cmc_K - GOLDEN[f"ties/{code}_cmc"]).max() < 0.3


def as_images(of):
    roles = ["person", "distractor", "junk"]
    return [
        reference.Image(int(pid), int(cam), roles[role])
        for pid, cam, role in zip(of.pid_N, of.camid_N, of.role_N, strict=True)
    ]


def test_every_golden_array_is_compared_or_left_out_for_a_reason():
    inputs = {"dist", "q_pid", "g_pid", "q_cam", "g_cam"}
    assert {key.split("/")[1] for key in GOLDEN.files} == inputs | COMPARED | set(LEFT_OUT)


def test_average_precision_by_hand():
    assert average_precision(np.array([1, 3])) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(np.array([2, 4, 5])) == pytest.approx((1 / 2 + 2 / 4 + 3 / 5) / 3)


def test_trapezoid_by_hand():
    assert average_precision_trapezoid(np.array([1])) == 1.0
    assert average_precision_trapezoid(np.array([1, 3])) == pytest.approx(((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert average_precision_trapezoid(np.array([2])) == pytest.approx((0 + 1 / 2) / 2)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_all_metrics_equal_the_slow_reference(seed):
    rng = np.random.default_rng(seed)
    query, gallery = drawn_images(rng, 6), drawn_images(rng, int(rng.integers(8, 90)))
    score_QG = rng.standard_normal((6, len(gallery)))
    hits = [reference.ranked_hits(row, image, gallery) for row, image in zip(score_QG.tolist(), query, strict=True)]
    counted = [row for row in hits if any(row)]
    ranking = rank_matches(score_QG, labels_of(query), labels_of(gallery))
    if not counted:
        with pytest.raises(ProtocolError, match="found none among 6"):
            retrieval_metrics(ranking)
        return
    found = retrieval_metrics(ranking)
    np.testing.assert_allclose(found.cmc_K, reference.cmc(hits, MAX_RANK), rtol=1e-12)
    np.testing.assert_allclose(found.ap_N, [reference.average_precision(row) for row in counted], rtol=1e-12)
    trapezoids = [reference.average_precision_trapezoid(row) for row in counted]
    np.testing.assert_allclose(found.ap_trapezoid_N, trapezoids, rtol=1e-12)
    np.testing.assert_allclose(found.inp_N, [reference.inverse_negative_penalty(row) for row in counted], rtol=1e-12)
    assert found.query_idx_N.tolist() == [idx for idx, row in enumerate(hits) if any(row)]
    assert found.mAP_trapezoid <= found.mAP + 1e-12
    assert found.rank(1) <= found.rank(5) <= found.rank(MAX_RANK) <= 1


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_average_precision_equals_scikit_learn_without_ties(seed):
    rng = np.random.default_rng(seed)
    hit_N = rng.random(50) < 0.2
    hit_N[rng.integers(50)] = True
    score_N = rng.permutation(50)
    rank_M = np.flatnonzero(hit_N[np.argsort(-score_N)]) + 1
    assert average_precision(rank_M) == pytest.approx(average_precision_score(hit_N, score_N), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), num=st.integers(1, 20))
def test_more_distractors_never_help(seed, num):
    rng = np.random.default_rng(seed)
    query, gallery = labels([1, 2], [0, 0]), ([1, 2, 1, 3], [1, 1, 1, 1])
    score_QG = rng.standard_normal((2, 4 + num))
    before = retrieval_metrics(rank_matches(score_QG[:, :4], query, labels(*gallery)))
    crowd = labels(gallery[0] + [-1] * num, gallery[1] + [0] * num, ["person"] * 4 + ["distractor"] * num)
    after = retrieval_metrics(rank_matches(score_QG, query, crowd))
    assert (after.ap_N <= before.ap_N).all()
    assert (after.cmc_K <= before.cmc_K).all()
    assert (after.inp_N <= before.inp_N).all()


def test_a_gallery_smaller_than_the_curve():
    found = retrieval_metrics(rank_matches(np.array([[0.0, 1.0]]), labels([1], [0]), labels([1, 2], [1, 1])))
    assert found.cmc_K.tolist() == [0.0] + [1.0] * (MAX_RANK - 1)


def test_no_match_at_all_says_why_and_what_to_do():
    ranking = rank_matches(np.zeros((3, 2)), labels([1, 1, 9], [0, 0, 0]), labels([1, 1], [0, 0]))
    with pytest.raises(
        ProtocolError, match=r"1 x no gallery image.*2 x only gallery images of the same camera.*rule off"
    ):
        retrieval_metrics(ranking)


def test_bootstrap_of_a_constant_difference_has_no_width():
    a_N = np.random.default_rng(0).random(30)
    found = paired_bootstrap(a_N, a_N - 0.25, np.random.default_rng(1), samples=50)
    assert (found.difference, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_bootstrap_interval_is_that_of_a_mean_of_many_values():
    """For many values the interval is mean +- 1.96 standard errors."""
    rng = np.random.default_rng(0)
    a_N, b_N = rng.random(2000), rng.random(2000)
    error = (a_N - b_N).std(ddof=1) / np.sqrt(2000)
    found = paired_bootstrap(a_N, b_N, np.random.default_rng(1), samples=4000)
    assert found.difference == pytest.approx((a_N - b_N).mean())
    assert found.low == pytest.approx(found.difference - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.difference + 1.96 * error, abs=0.15 * error)
    assert found.level == 0.95


def test_bootstrap_is_repeatable_and_takes_hits():
    a_N, b_N = np.array([True, True, False, True]), np.array([False, True, False, False])
    first, second = (paired_bootstrap(a_N, b_N, np.random.default_rng(3), samples=500) for _ in range(2))
    assert first == second
    assert first.difference == pytest.approx(0.5)
    assert first.low >= 0.0
    assert first.high <= 1.0


def test_bootstrap_refuses_other_queries():
    with pytest.raises(ShapeError, match="same target"):
        paired_bootstrap(np.zeros(3), np.zeros(4), np.random.default_rng(0))
    with pytest.raises(ShapeError, match="one value a query"):
        paired_bootstrap(np.zeros(0), np.zeros(0), np.random.default_rng(0))
