from dataclasses import fields

import numpy as np

from reid.datasets.synthped.people import Body, stack
from reid.datasets.synthped.wardrobe import Wardrobe, sample_person

PLAIN = Wardrobe(tops={"white": 1.0}, bottoms={"black": 1.0})


def test_stack_gives_every_field_a_leading_dimension():
    bodies = [sample_person(np.random.default_rng(i), PLAIN).body for i in range(3)]
    stacked = stack(bodies)
    for field in fields(Body):
        column = getattr(stacked, field.name)
        assert column.shape == (3,)
        assert column.dtype == np.float32
        assert column[1] == getattr(bodies[1], field.name)
