from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.data.warps._draws import (
    STRENGTHS,
    Level,
    MotionKind,
    Strength,
    draw_homography,
    draw_joints,
    draw_motion,
    draw_spline,
)
from reid.data.warps._motions import Deformation

SIZES = [(128, 64), (384, 128)]
NOTHING = Strength(0, 0, 0, 0, 0)


def centres(size):
    """[2, N]."""
    return np.mgrid[0 : size[1], 0 : size[0]].reshape(2, -1) + 0.5


def inside(xy, size):
    return ((xy.T >= 0) & (size[::-1] > xy.T)).all(1)


@pytest.mark.parametrize("kind", get_args(MotionKind))
@given(st.integers(0, 100_000), st.sampled_from(get_args(Level)), st.sampled_from(SIZES))
@settings(max_examples=25, deadline=None)
def test_there_and_back_again(kind, seed, level, size):
    """Both ways round, wherever the other image shows it; nothing fails to converge there."""
    motion = draw_motion(kind, STRENGTHS[level], size, np.random.default_rng(seed))
    xy = centres(size)[:, :: 7 if size[0] == 128 else 29]
    for there, back in ((motion.forward, motion.inverse), (motion.inverse, motion.forward)):
        partner = there(xy)
        seen = inside(partner, size)
        assert seen.mean() > 0.2
        assert np.abs(back(partner[:, seen]) - xy[:, seen]).max() < 0.01


@pytest.mark.parametrize("kind", get_args(MotionKind))
def test_no_strength_moves_nothing(kind):
    motion = draw_motion(kind, NOTHING, (128, 64), np.random.default_rng(0))
    xy = centres((128, 64))
    np.testing.assert_allclose(motion.forward(xy), xy, atol=1e-9)
    np.testing.assert_allclose(motion.inverse(xy), xy, atol=1e-9)


@pytest.mark.parametrize("level", get_args(Level))
def test_homographies_keep_to_their_strength(level):
    """Numbers read off the matrix: where the centre goes, how it turns and grows there, and how depth changes."""
    strength, size = STRENGTHS[level], np.array([64.0, 128.0])
    turns, scales, shifts, depths = [], [], [], []
    for seed in range(300):
        matrix = draw_homography(strength, (128, 64), np.random.default_rng(seed)).matrix_33
        x, y, w = matrix @ (32, 64, 1)
        linear = matrix[:2, :2] - np.outer([32, 64], matrix[2, :2])
        turns.append(np.rad2deg(np.arctan2(linear[1, 0], linear[0, 0])))
        scales.append(np.log(np.hypot(linear[0, 0], linear[1, 0])))
        shifts.append((np.array([x, y]) / w - (32, 64)) / size)
        depths.append(matrix[2, :2] * size)
        assert w == pytest.approx(1)
    for values, limit in (
        (turns, strength.rotation_deg),
        (scales, strength.log_scale),
        (shifts, strength.shift),
        (depths, strength.perspective),
    ):
        assert 0.9 * limit < np.abs(values).max() <= limit * (1 + 1e-9)
        assert abs(np.mean(values)) < 0.15 * limit


def test_spline_shifts_by_a_share_of_the_width():
    corners = np.array([[0.0, 64, 32, 64], [0, 0, 25.6, 128]])  # control points among others
    strength = STRENGTHS["mid"]
    shifts = [draw_spline(strength, (128, 64), np.random.default_rng(seed)).shift(corners) for seed in range(200)]
    assert np.std(shifts) == pytest.approx(0.06 * 64, rel=0.08)
    assert np.std(draw_spline(strength, (384, 128), np.random.default_rng(0)).shift(centres((384, 128)))) > 3


def test_joints_move_bands_apart():
    field = draw_joints(STRENGTHS["hard"], (128, 64), np.random.default_rng(1))
    slopes = field.derive(np.array([[32.0, 32, 32], [5, 42, 115]]))[1]
    assert (np.abs(np.diff(slopes, axis=2)).max((0, 1)) > 0.02).all()


@pytest.mark.parametrize("kind", ["spline", "piecewise"])
def test_nothing_folds(kind):
    for seed in range(60):
        motion = draw_motion(kind, STRENGTHS["hard"], (128, 64), np.random.default_rng(seed))
        assert isinstance(motion.second, Deformation)
        assert motion.second.least_stretch(centres((128, 64))) > 0.1


def test_same_generator_same_motion():
    xy = centres((128, 64))
    first, second, other = (
        draw_motion("spline", STRENGTHS["mid"], (128, 64), np.random.default_rng(seed)).forward(xy)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - other).max() > 0.5
