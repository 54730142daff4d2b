from pathlib import Path

import numpy as np
import pytest

from reid.errors import ShapeError
from reid.evaluation.metrics import MAX_RANK
from reid.evaluation.single_shot import single_shot_cmc
from tests.evaluation.builders import labels

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "metrics.npz")
SETS = ("A", "B", "C_small_gallery")


def arrays(name: str):
    return (GOLDEN[f"{name}/{part}"] for part in ("dist", "q_pid", "q_cam", "g_pid", "g_cam"))


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("code", ["torchreid_py", "torchreid_cy", "fastreid_py"])
def test_golden_curve(name, code):
    """The golden draws treat the distractors' pid 0 as one more identity."""
    dist_QG, q_pid, q_cam, g_pid, g_cam = arrays(name)
    query, gallery = labels(q_pid.tolist(), q_cam.tolist()), labels(g_pid.tolist(), g_cam.tolist())
    found = single_shot_cmc(-dist_QG, query, gallery, np.random.RandomState(0))
    np.testing.assert_allclose(found[:5], GOLDEN[f"{name}/{code}_cuhk03_cmc5_seed0"], rtol=1e-6)


@pytest.mark.parametrize("name", SETS)
def test_golden_curve_without_any_image_of_the_query_camera(name):
    dist_QG, q_pid, q_cam, g_pid, g_cam = arrays(name)
    generator = np.random.RandomState(0)
    curves = []
    for idx in range(len(q_pid)):
        other_N = np.flatnonzero(g_cam != q_cam[idx])
        if q_pid[idx] not in g_pid[other_N]:
            continue
        gallery = labels(g_pid[other_N].tolist(), g_cam[other_N].tolist())
        query = labels([int(q_pid[idx])], [int(q_cam[idx])])
        curves.append(single_shot_cmc(-dist_QG[idx : idx + 1, other_N], query, gallery, generator))
    golden = GOLDEN[f"{name}/openreid_cuhk03_singleshot_sepcam_cmc_seed0"]
    np.testing.assert_allclose(np.mean(curves, axis=0), golden, rtol=1e-12)


def test_expectation_by_hand():
    """Two images of the right person at places 1 and 3, two others at 2 and 4: rank 1 or 2, each half the time."""
    score_QG = np.array([[4.0, 3.0, 2.0, 1.0]])
    query, gallery = labels([1], [0]), labels([1, 2, 1, 3], [1, 1, 1, 1])
    found = single_shot_cmc(score_QG, query, gallery, np.random.default_rng(0), repeats=2000)
    assert found[0] == pytest.approx(0.5, abs=0.05)
    assert found[1] == 1.0
    assert found.shape == (MAX_RANK,)


def test_every_distractor_stays():
    gallery = labels([-1, -1, 1], [0, 0, 1], ["distractor", "distractor", "person"])
    found = single_shot_cmc(np.array([[3.0, 2.0, 1.0]]), labels([1], [0]), gallery, np.random.default_rng(0))
    assert found[:3].tolist() == [0.0, 0.0, 1.0]


def test_nothing_to_find_and_scores_that_do_not_fit_are_errors():
    query, gallery = labels([1], [0]), labels([2], [1])
    with pytest.raises(ShapeError, match="found none"):
        single_shot_cmc(np.zeros((1, 1)), query, gallery, np.random.default_rng(0))
    with pytest.raises(ShapeError, match=r"wanted scores \[1, 1\]"):
        single_shot_cmc(np.zeros((1, 2)), query, gallery, np.random.default_rng(0))
