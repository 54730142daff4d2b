import numpy as np
import pytest

from reid.datasets.synthped.patterns import ellipse, noise, pattern, slopes
from reid.datasets.synthped.wardrobe import PATTERNS

DARK, LIGHT = (0.1, 0.1, 0.3), (0.9, 0.8, 0.7)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_mix_their_two_colours(name):
    cloth = pattern(np.random.default_rng(1), name, DARK, LIGHT, 64)
    assert cloth.shape == (64, 64, 3)
    assert cloth.dtype == np.float32
    bright = cloth.mean(axis=2)
    if name == "plain":
        assert bright.max() - bright.min() < 0.1
    else:
        assert bright.max() - bright.min() > 0.25


def test_stripes_run_around_and_pinstripes_run_down():
    stripes = pattern(np.random.default_rng(1), "stripes", DARK, LIGHT, 64).mean(axis=2)
    pinstripes = pattern(np.random.default_rng(1), "pinstripes", DARK, LIGHT, 64).mean(axis=2)
    assert stripes.mean(axis=1).std() > 5 * stripes.mean(axis=0).std()
    assert pinstripes.mean(axis=0).std() > 5 * pinstripes.mean(axis=1).std()


def test_like_colours_are_told_apart_all_the_same():
    cloth = pattern(np.random.default_rng(1), "stripes", DARK, DARK, 64).mean(axis=2)
    assert cloth.max() - cloth.min() > 0.25


def test_noise_is_smooth_periodic_and_around_one():
    field = noise(np.random.default_rng(2), 64, 8, 0.2)
    assert field.mean() == pytest.approx(1, abs=0.08)
    seam = np.abs(field[:, 0] - field[:, -1]).max()
    assert seam <= np.abs(np.diff(field, axis=1)).max() * 1.01


def test_slopes_of_a_periodic_relief_sum_to_zero():
    relief = slopes(np.random.default_rng(2), 64, 0.5)
    assert relief.shape == (64, 64, 2)
    np.testing.assert_allclose(relief[..., 0].sum(axis=1), 0, atol=1e-3)


def test_ellipse_has_its_area():
    steps = (np.arange(200) + 0.5) / 100 - 1
    assert ellipse(steps[None], steps[:, None], 0.8, 0.4).mean() * 4 == pytest.approx(np.pi * 0.8 * 0.4, rel=0.01)
