"""Rendering one person by hand: silhouettes, buffers and light."""

import numpy as np
import pytest

from reid.datasets.synthped.figures import rotation
from reid.datasets.synthped.parts import PARTS
from reid.datasets.synthped.pose import Pose
from reid.datasets.synthped.raycast import Views
from reid.datasets.synthped.render import Cast, Light, draw
from reid.datasets.synthped.wardrobe import Wardrobe, sample_person

PERSON = sample_person(np.random.default_rng(8), Wardrobe(tops={"white": 1.0}, bottoms={"black": 1.0}))


def picture(yaws, phases=None, sun=(0.0, 0.0, 1.0), strength=(0.6, 0.4)):
    num = len(yaws)
    zero = np.zeros(num, np.float32)
    pose = Pose(np.asarray(zero if phases is None else phases, np.float32), zero + 1, zero, zero, zero, zero)
    views = Views(
        image=np.arange(num, dtype=np.int32),
        rotation=rotation(np.asarray(yaws, float), np.full(num, 0.1), np.ones(num)),
        scale=np.full(num, 66, np.float32),
        foot_px=np.tile(np.array([32, 122], np.float32), (num, 1)),
        depth_px=zero,
    )
    tile = lambda value: np.tile(np.asarray(value, np.float32), (num, 1))  # noqa: E731
    light = Light(tile([strength[0]] * 3), tile([strength[1]] * 3), tile(sun))
    return draw(Cast([PERSON], np.zeros(num, np.int32), pose, views), light, (num, 128, 64))


def test_buffers_have_their_form_and_ranges():
    layers = picture([0.0, 1.0, 3.0])
    assert layers.part.dtype == np.int8
    assert layers.uv.dtype == layers.colour.dtype == np.float32
    assert layers.part.shape == layers.alpha.shape == (3, 128, 64)
    assert -1 <= layers.part.min() <= layers.part.max() < len(PARTS)
    assert 0 <= layers.uv.min() <= layers.uv.max() < 1
    assert 0 <= layers.alpha.min() <= layers.alpha.max() == pytest.approx(1)
    assert (layers.alpha[layers.part >= 0] > 0).all()
    assert not layers.uv[layers.part < 0].any()
    assert not layers.albedo[layers.part < 0].any()


def test_the_person_stands_where_it_should():
    layers = picture([0.3])
    rows = np.nonzero(layers.part[0] >= 0)[0]
    tall = float(PERSON.body.height) * 66
    assert rows.max() == pytest.approx(122, abs=3)
    assert rows.max() - rows.min() == pytest.approx(tall, rel=0.08)


def test_front_and_back_show_different_columns_of_the_trunk():
    layers = picture([0.0, np.pi])
    chest = PARTS.index("chest")
    columns = [layers.uv[i][layers.part[i] == chest][:, 0] for i in range(2)]
    assert (np.abs(columns[0] - 0.5) < 0.27).mean() > 0.95
    assert (np.abs(columns[1] - 0.5) > 0.23).mean() > 0.9


def test_light_from_one_side_brightens_that_side():
    left = picture([0.0], sun=(-1.0, 0.0, 0.0), strength=(0.2, 0.8)).colour[0, 30:110].sum(axis=(0, 2))
    right = picture([0.0], sun=(1.0, 0.0, 0.0), strength=(0.2, 0.8)).colour[0, 30:110].sum(axis=(0, 2))
    assert left[:32].sum() > right[:32].sum() * 1.2
    assert right[32:].sum() > left[32:].sum() * 1.2
