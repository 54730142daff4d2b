import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.data.warps._fields import Joints, Spline
from reid.data.warps._motions import Chain, Deformation, Homography
from tests.reference import warps as reference


def positions(num=300, seed=0, size=(128, 64)):
    """[2, N]."""
    return np.random.default_rng(seed).uniform((0, 0), size[::-1], (num, 2)).T


class Shrinking:
    """A field that takes everything to one point: no way back."""

    def shift(self, xy):
        return -xy

    def derive(self, xy):
        return -xy, np.broadcast_to(-np.eye(2)[..., None], (2, 2, xy.shape[1]))


def spline(seed=0, sigma=3.0):
    control = np.mgrid[0:65:32, 0:129:32].reshape(2, -1).astype(float)
    return Spline(control, np.random.default_rng(seed).normal(0, sigma, control.shape))


@given(st.lists(st.floats(-0.004, 0.004), min_size=9, max_size=9))
@settings(max_examples=30, deadline=None)
def test_homography_equals_a_loop(values):
    matrix = np.eye(3) + np.reshape(values, (3, 3))
    xy = positions(60)
    np.testing.assert_allclose(Homography(matrix).forward(xy), reference.homography(matrix, xy.T).T, rtol=1e-10)


@given(st.lists(st.floats(-0.004, 0.004), min_size=9, max_size=9))
@settings(max_examples=30, deadline=None)
def test_homography_and_back(values):
    motion = Homography(np.eye(3) + np.reshape(values, (3, 3)))
    xy = positions()
    np.testing.assert_allclose(motion.inverse(motion.forward(xy)), xy, atol=1e-8)


def test_what_lies_behind_the_camera_goes_nowhere():
    motion = Homography(np.array([[1.0, 0, 0], [0, 1, 0], [-0.05, 0, 1]]))  # the horizon is at x = 20
    there = motion.forward(np.array([[10.0, 20, 30], [5, 5, 5]]))
    np.testing.assert_allclose(there[:, 0], [20, 10])
    assert np.isnan(there[:, 1:]).all()


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_deformation_and_back(seed):
    motion = Deformation(spline(seed, 2.5))
    xy = positions(seed=seed)
    if motion.least_stretch(np.mgrid[-30:100:4, -30:160:4].reshape(2, -1).astype(float)) > 0.1:
        np.testing.assert_allclose(motion.inverse(motion.forward(xy)), xy, atol=5e-3)
        np.testing.assert_allclose(motion.forward(motion.inverse(xy)), xy, atol=5e-3)


def test_strength_scales_the_shift():
    xy = positions()
    field = spline()
    np.testing.assert_allclose(Deformation(field, 0.25).forward(xy), xy + 0.25 * field.shift(xy))
    np.testing.assert_array_equal(Deformation(field, 0.0).inverse(xy), xy)


def test_no_way_back_is_nan():
    found = Deformation(Shrinking()).inverse(np.array([[3.0], [4.0]]))
    assert np.isnan(found).all()


def test_some_ways_back_do_not_spoil_others():
    """Beyond the fold of a strong spline there is no way back, or more than one; the rest stays exact."""
    motion = Deformation(spline(3, 12.0))
    xy = positions(5000)
    back = motion.inverse(xy)
    found = ~np.isnan(back).any(0)
    np.testing.assert_allclose(motion.forward(back[:, found]), xy[:, found], atol=5e-3)


@pytest.mark.parametrize(("strength", "wanted"), [(1.0, 0.5), (0.5, 0.75), (0.0, 1.0)])
def test_least_stretch_of_a_squeeze(strength, wanted):
    """A torso that shrinks to half its size, far from the joints."""
    same, none = np.zeros((3, 2)), np.zeros(3)
    field = Joints((-1e4, 1e4), 1.0, same, none, np.full(3, 0.5), same)
    assert Deformation(field, strength).least_stretch(positions()) == pytest.approx(wanted)


def test_least_stretch_of_a_turn_is_its_cosine():
    same, angle = np.zeros((3, 2)), np.full(3, 1.0)
    field = Joints((-1e4, 1e4), 1.0, same, angle, np.ones(3), same)
    assert Deformation(field).least_stretch(positions()) == pytest.approx(np.cos(1.0))


def test_chain_is_one_after_another():
    first, second = Homography(np.diag([2.0, 2.0, 1.0])), Deformation(spline())
    xy = positions()
    chain = Chain(first, second)
    np.testing.assert_allclose(chain.forward(xy), second.forward(2 * xy))
    np.testing.assert_allclose(chain.inverse(chain.forward(xy)), xy, atol=5e-3)
