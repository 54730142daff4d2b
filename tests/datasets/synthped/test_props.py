import numpy as np
import pytest

from reid.datasets.synthped.props import DRAWS, shade, sprite, tint


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_every_thing_can_be_drawn_alone(name):
    picture = sprite(np.random.default_rng(3), name, 32.0)
    assert picture.ndim == 3
    assert picture.shape[2] == 4
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert (picture[..., :3] <= picture[..., 3:] + 1e-6).all()
    assert picture[..., 3].mean() > 0.05


def test_colours_are_near_what_was_asked_for():
    rng = np.random.default_rng(0)
    assert np.mean([tint(rng, 0.5) for _ in range(300)]) == pytest.approx(127, abs=8)
    assert np.mean([shade(rng, [(0.2, 0.2, 0.2)]) for _ in range(300)]) == pytest.approx(51, abs=5)
