import numpy as np
import pytest

from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.wardrobe import COLOURS, Wardrobe, sample_person


def sample(num, wardrobe):
    return [sample_person(np.random.default_rng([7, i]), wardrobe) for i in range(num)]


def test_the_same_generator_gives_the_same_person():
    first, second = (sample_person(np.random.default_rng(3), DOMAINS["street"].wardrobe) for _ in range(2))
    assert first == second
    assert first != sample_person(np.random.default_rng(4), DOMAINS["street"].wardrobe)


def test_colours_follow_their_weights():
    wardrobe = Wardrobe(tops={"black": 3.0, "white": 1.0}, bottoms={"black": 1.0})
    dark = np.mean([np.mean(person.outfit.top) < 0.5 for person in sample(600, wardrobe)])
    assert dark == pytest.approx(0.75, abs=0.06)


def test_bodies_and_colours_are_plausible():
    for person in sample(200, DOMAINS["mall"].wardrobe):
        assert 1.1 < person.body.height < 2.0
        assert 0 <= person.body.sleeve <= 1
        assert 0 <= person.body.trouser <= 1
        for colour in (person.outfit.skin, person.outfit.top, person.outfit.bottom, person.outfit.bag):
            assert all(0 <= value <= 1 for value in colour)
        assert not (person.body.backpack > 0 and person.body.side_bag > 0)


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_wardrobes_name_known_colours(name):
    wardrobe = DOMAINS[name].wardrobe
    assert set(wardrobe.tops) | set(wardrobe.bottoms) <= set(COLOURS)
