import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.data.warps._fields import Joints, Spline
from tests.reference import warps as reference


def positions(num=40, seed=0):
    """[2, N]."""
    return np.random.default_rng(seed).uniform((-10, -10), (74, 138), (num, 2)).T


def spline(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform((0, 0), (64, 128), (9, 2)).T, rng.normal(0, 4, (2, 9))


def joints(seed):
    rng = np.random.default_rng(seed)
    return (
        (25.0, 66.0),
        8.0,
        rng.uniform((20, 0), (44, 128), (3, 2)),
        rng.uniform(-0.3, 0.3, 3),
        rng.uniform(0.7, 1.4, 3),
        rng.normal(0, 4, (3, 2)),
    )


def numeric_slope(field, xy, step=1e-5):
    """[2, 2, N] by central differences of the shift."""
    axes = step * np.eye(2)[..., None]
    return np.stack([(field.shift(xy + axis) - field.shift(xy - axis)) / (2 * step) for axis in axes], axis=1)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_spline_equals_the_slow_one(seed):
    control, shift = spline(seed)
    xy = positions(seed=seed)
    wanted = reference.spline(control.T, shift.T, xy.T).T
    np.testing.assert_allclose(Spline(control, shift).shift(xy), wanted, atol=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_spline_shifts_control_points_as_asked(seed):
    control, shift = spline(seed)
    np.testing.assert_allclose(Spline(control, shift).shift(control), shift, atol=1e-7)


def test_spline_of_an_affine_shift_bends_nothing():
    control, _ = spline(1)
    matrix, offset = np.array([[0.1, -0.05], [0.2, 0.3]]), np.array([[3.0], [-2.0]])
    xy = positions()
    np.testing.assert_allclose(Spline(control, matrix @ control + offset).shift(xy), matrix @ xy + offset, atol=1e-8)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_joints_equal_the_slow_ones(seed):
    values = joints(seed)
    xy = positions(seed=seed)
    np.testing.assert_allclose(xy + Joints(*values).shift(xy), reference.joints(*values, xy.T).T, atol=1e-9)


def test_far_from_joints_a_band_moves_as_one():
    """Legs grow by 2 about the hip; the head keeps its place."""
    same, none = np.zeros(2), np.zeros(3)
    field = Joints((25.0, 66.0), 2.0, np.array([same, same, [32, 66]]), none, np.array([1.0, 1, 2]), np.zeros((3, 2)))
    np.testing.assert_allclose(field.shift(np.array([[10.0, 10], [5, 120]])), [[0, -22], [0, 54]], atol=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_derivatives_are_those_of_the_shift(seed):
    xy = positions(seed=seed)
    for field in (Spline(*spline(seed)), Joints(*joints(seed))):
        shift, slope = field.derive(xy)
        np.testing.assert_allclose(shift, field.shift(xy), atol=1e-12)
        np.testing.assert_allclose(slope, numeric_slope(field, xy), atol=1e-6)


def test_derivative_at_a_control_point_is_finite():
    control, shift = spline(0)
    field = Spline(control, shift)
    np.testing.assert_allclose(field.derive(control)[1], numeric_slope(field, control), atol=1e-4)
