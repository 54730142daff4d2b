import dataclasses

import numpy as np
import pytest

from reid.datasets.synthped.body import build
from reid.datasets.synthped.parts import PARTS, SLOTS
from reid.datasets.synthped.people import stack
from reid.datasets.synthped.pose import Pose, skeleton
from reid.datasets.synthped.wardrobe import Wardrobe, sample_person

PLAIN = Wardrobe(tops={"white": 1.0}, bottoms={"black": 1.0})


def dressed(**changes):
    body = stack([sample_person(np.random.default_rng(0), PLAIN).body])
    body = dataclasses.replace(body, **{name: np.array([value], np.float32) for name, value in changes.items()})
    zero = np.zeros(1, np.float32)
    return (body, *build(body, skeleton(body, Pose(zero, zero, zero, zero, zero, zero))))


def has(primitives, part):
    return bool(primitives.active[0, PARTS.index(part)])


def test_a_standing_person_is_as_tall_as_it_should_be():
    body, primitives, _ = dressed(hat=0, lean=0, head=1, hair_volume=0, bun=0)
    head = PARTS.index("head")
    tip = primitives.origin[0, head] + primitives.frame[0, head][:, 1] * primitives.length[0, head]
    top = tip[1] + primitives.end_radius[0, head]
    assert top == pytest.approx(body.height[0], rel=0.03)
    arms = [PARTS.index(f"{side}_hand") for side in ("left", "right")]
    assert primitives.origin[0, arms[0], 0] > 0 > primitives.origin[0, arms[1], 0]


def test_clothes_hide_skin_and_bags_are_worn_only_where_they_are():
    _, short, _ = dressed(sleeve=0.3, trouser=0.3, backpack=0)
    _, long, _ = dressed(sleeve=1.0, trouser=1.0, backpack=1)
    assert has(short, "left_forearm")
    assert has(short, "left_shank")
    assert not has(long, "left_forearm")
    assert not has(long, "left_shank")
    assert has(long, "right_lower_sleeve")
    assert not has(short, "right_lower_sleeve")
    assert has(long, "backpack")
    assert not has(short, "backpack")


def test_the_backpack_is_behind_the_chest():
    _, primitives, charts = dressed(backpack=1, lean=0)
    pack, chest = PARTS.index("backpack"), PARTS.index("chest")
    assert primitives.origin[0, pack, 2] < primitives.origin[0, chest, 2] - 0.08
    assert SLOTS[charts.slot[0, pack]] == "bag"
