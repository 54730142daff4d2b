import dataclasses

import numpy as np
import pytest

from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.network import draw_look, install, light_colour, mixed


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_cameras_stay_between_the_limits_of_their_domain(name):
    domain = DOMAINS[name]
    camera = install(np.random.default_rng(2), domain)
    pairs = [(camera.elevation, domain.elevation), (camera.look.exposure, domain.exposure)]
    pairs += [(camera.native, domain.native), (camera.noise, domain.noise), (camera.look.gamma, domain.gamma)]
    for value, (low, high) in pairs:
        assert low <= value <= high
    assert np.linalg.norm(camera.look.sun_direction) == pytest.approx(1, abs=1e-6)


def test_mixed_goes_from_one_look_to_the_other():
    first, second = (draw_look(np.random.default_rng(seed), DOMAINS["studio"]) for seed in (1, 2))
    for share, wanted in ((0.0, first), (1.0, second)):
        for field in dataclasses.fields(first):
            np.testing.assert_allclose(
                getattr(mixed(first, second, share), field.name), getattr(wanted, field.name), rtol=1e-5
            )


def test_warm_light_is_red_and_cold_light_is_blue():
    assert light_colour(0.0).tolist() == [1, 1, 1]
    assert light_colour(1.0)[0] > light_colour(1.0)[2]
    assert light_colour(-1.0)[0] < light_colour(-1.0)[2]
