import numpy as np
import pytest

from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.scene import HEIGHT, WIDTH, paint_scene


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_scenes_are_in_range_and_leave_room_for_people(name):
    domain = DOMAINS[name]
    scene = paint_scene(np.random.default_rng(1), 0.3, domain.walls, domain.colours, domain.things)
    assert scene.picture.shape == (HEIGHT, WIDTH, 3)
    assert scene.sunlight.shape == (HEIGHT, WIDTH)
    assert 0 < scene.picture.min() <= scene.picture.max() <= 1
    assert scene.horizon < scene.far < scene.near < HEIGHT
    assert (
        60 < 1.7 * (scene.far - scene.horizon) * scene.zoom <= 1.7 * (scene.near - scene.horizon) * scene.zoom < HEIGHT
    )
    assert len(scene.sprites) == 4


def test_a_scene_comes_from_its_generator():
    domain = DOMAINS["street"]
    first, again, other = (
        paint_scene(np.random.default_rng(seed), 0.2, domain.walls, domain.colours, domain.things) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.picture, again.picture)
    assert (first.picture != other.picture).any()
