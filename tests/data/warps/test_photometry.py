import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid.data.warps import _photometry
from reid.data.warps._photometry import _coarsened, _compressed, _grained, retake


def picture(height=128, width=64):
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 5) + np.cos(y / (7 + k)) + np.sin((x + y) / (11 - k)) for k in range(3)]
    return np.uint8(np.stack(waves, -1) * 42 + 127)


def test_no_strength_changes_nothing():
    for seed in range(20):
        np.testing.assert_array_equal(retake(picture(), 0.0, np.random.default_rng(seed)), picture())


@given(st.integers(0, 10_000), st.floats(0.1, 1), st.sampled_from([(128, 64), (384, 128), (9, 5)]))
@settings(max_examples=40, deadline=None)
def test_size_and_type_stay(seed, strength, size):
    image = picture(*size)
    taken = retake(image, strength, np.random.default_rng(seed))
    assert taken.shape == image.shape
    assert taken.dtype == np.uint8


def test_more_strength_changes_more():
    changes = [
        np.mean(
            [np.abs(retake(picture(), s, np.random.default_rng(k)) - picture().astype(float)).mean() for k in range(30)]
        )
        for s in (0.2, 0.5, 1.0)
    ]
    assert 0.5 < changes[0] < changes[1] < changes[2] < 70


def test_noise_is_as_strong_as_asked():
    flat = Image.new("RGB", (64, 128), (128, 128, 128))
    taken = np.asarray(_grained(flat, 7.0, np.random.default_rng(0))).astype(float)
    assert taken.mean() == pytest.approx(128, abs=0.2)
    assert taken.std() == pytest.approx(7, rel=0.02)


def test_fewer_pixels_show_less_detail():
    """Stripes two pixels wide are lost, those of 16 stay."""
    stripes = [np.uint8(np.indices((128, 64, 3))[1] // wide % 2 * 200) for wide in (2, 16)]
    fine, coarse = (np.asarray(_coarsened(Image.fromarray(image), 4.0)).std() / image.std() for image in stripes)
    assert fine < 0.3
    assert coarse > 0.8


def test_compression_loses_little_and_more_at_low_quality():
    losses = [np.abs(_compressed(Image.fromarray(picture()), q) - picture().astype(float)).mean() for q in (95, 30)]
    assert 0 < losses[0] < losses[1] < 6


def test_each_change_is_made_about_half_the_time(monkeypatch):
    seen = []
    for name in ("_coarsened", "_grained", "_compressed"):
        true = getattr(_photometry, name)
        monkeypatch.setattr(_photometry, name, lambda *args, n=name, f=true: seen.append(n) or f(*args))
    for seed in range(100):
        retake(picture(16, 8), 1.0, np.random.default_rng(seed))
    assert all(30 < seen.count(name) < 70 for name in ("_coarsened", "_grained", "_compressed"))


@pytest.mark.parametrize("seed", range(12))
def test_no_pixel_moves(seed):
    """A bright square keeps its centre of gravity, whatever a camera does to it."""
    image = np.full((128, 64, 3), 60, np.uint8)
    image[40:60, 20:44] = 200
    taken = retake(image, 1.0, np.random.default_rng(seed)).astype(float).mean(2)
    weight = np.clip(taken - np.median(taken), (taken.max() - np.median(taken)) / 4, None)
    weight -= weight.min()
    y, x = np.mgrid[0:128, 0:64] + 0.5
    assert (weight * x).sum() / weight.sum() == pytest.approx(32, abs=0.25)
    assert (weight * y).sum() / weight.sum() == pytest.approx(50, abs=0.25)


def test_the_picture_given_is_unchanged_and_the_generator_decides():
    image = picture()
    first, second = (retake(image, 1.0, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(image, picture())
    np.testing.assert_array_equal(first, second)
    assert (retake(image, 1.0, np.random.default_rng(6)) != first).any()
