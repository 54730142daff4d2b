import numpy as np
import pytest

from reid.datasets.synthped.camera import Exposure, noise_planes, resample, take_pictures


def exposure(num=1, **changes):
    names = ("blur_y", "blur_x", "sharpen", "haze", "noise")
    values = dict.fromkeys(names, 0.0) | {"gamma": 1.0, "saturation": 1.0, "grain": 0.2} | changes
    fields = {name: np.full(num, value, np.float32) for name, value in values.items() if name != "gain"}
    gain = np.tile(np.asarray(changes.get("gain", (1, 1, 1)), np.float32), (num, 1))
    return Exposure(**fields, gain=gain, vignette=np.zeros((num, 2), np.float32))


def shoot(linear, **changes):
    noise = noise_planes(range(len(linear)), linear.shape[1:3])
    return take_pictures(linear, exposure(len(linear), **changes), noise)


def test_a_perfect_camera_changes_nothing():
    linear = np.random.default_rng(0).uniform(0, 0.7, (2, 16, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(shoot(linear), linear * 255, atol=0.51)


def test_gains_multiply_and_blur_keeps_the_mean():
    flat = np.full((1, 16, 8, 3), 0.5, np.float32)
    assert shoot(flat, gain=(0.8, 1.0, 1.2))[0, 3, 3] == pytest.approx((102, 127.5, 153), abs=0.6)
    spot = np.zeros((1, 33, 33, 3), np.float32)
    spot[0, 16, 16] = 0.7
    blurred = shoot(spot * 1, blur_y=1.5, blur_x=1.0)[0, ..., 0].astype(float)
    share = blurred[16, 16] / (0.7 * 255)
    assert share == pytest.approx(1 / (2 * np.pi * 1.5 * 1.0), rel=0.15)


def test_noise_has_its_strength_and_comes_from_its_seed():
    flat = np.full((2, 64, 64, 3), 0.5, np.float32)
    taken = shoot(flat, noise=0.05, grain=1.0)
    assert taken[0].std() / 255 == pytest.approx(0.05 * np.sqrt(0.75**2 + 0.5**2 + 2 * 0.75 * 0.5 / 3), rel=0.15)
    assert (taken[0] != taken[1]).any()
    np.testing.assert_array_equal(taken, shoot(flat, noise=0.05, grain=1.0))


def test_resample_identity_average_and_outside():
    picture = np.random.default_rng(1).random((12, 10, 3)).astype(np.float32)
    np.testing.assert_allclose(resample(picture, (0, 0, 10, 12), (12, 10))[1:-1, 1:-1], picture[1:-1, 1:-1], atol=1e-6)
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[None, :, None], (40, 40, 1))
    np.testing.assert_allclose(resample(ramp, (10, 10, 26, 26), (4, 4))[0, :, 0], [11.5, 15.5, 19.5, 23.5], atol=1e-4)
    assert not resample(picture, (100, 100, 110, 112), (4, 4)).any()
    assert not resample(picture, (-50, -50, -30, -30), (4, 4)).any()


def test_resample_keeps_flat_areas_flat_at_any_zoom():
    flat = np.ones((40, 40, 1), np.float32)
    for width in (3.3, 7.7, 16.1):
        np.testing.assert_allclose(resample(flat, (12, 12, 12 + width, 12 + width), (8, 8)), 1, atol=1e-5)
