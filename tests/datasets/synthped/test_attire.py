import dataclasses

import numpy as np
import pytest

from reid.datasets.synthped.body import build
from reid.datasets.synthped.parts import PARTS
from reid.datasets.synthped.people import stack
from reid.datasets.synthped.pose import Pose, skeleton
from reid.datasets.synthped.wardrobe import Wardrobe, sample_person

PLAIN = Wardrobe(tops={"white": 1.0}, bottoms={"black": 1.0})


def place(part, turn=0.0, **changes):
    body = stack([sample_person(np.random.default_rng(0), PLAIN).body])
    changes = {"lean": 0.0} | changes
    body = dataclasses.replace(body, **{name: np.array([value], np.float32) for name, value in changes.items()})
    zero = np.zeros(1, np.float32)
    pose = Pose(zero, zero, zero, zero, zero + np.float32(turn), zero)
    primitives, _ = build(body, skeleton(body, pose))
    index = PARTS.index(part)
    return primitives.origin[0, index], bool(primitives.active[0, index])


def test_the_nose_is_in_front_and_turns_with_the_head():
    nose, head = place("nose")[0], place("head")[0]
    assert nose[2] > head[2] + 0.05
    assert place("nose", turn=np.pi / 2)[0][0] > nose[0] + 0.05


@pytest.mark.parametrize("part", ["hat", "scarf", "bun", "ponytail", "hair_back", "side_bag", "hand_bag"])
def test_a_thing_exists_where_it_is_worn(part):
    assert place(part, **{part: 1.0})[1]
    assert not place(part, **{part: 0.0})[1]


def test_the_bag_hangs_on_its_side():
    assert place("side_bag", side_bag=1.0, bag_side=1.0)[0][0] > 0.1
    assert place("side_bag", side_bag=1.0, bag_side=-1.0)[0][0] < -0.1
