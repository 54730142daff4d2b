import dataclasses

import numpy as np
import pytest

from reid.datasets.synthped.parts import SLOTS
from reid.datasets.synthped.texture import SIZE, paint
from reid.datasets.synthped.wardrobe import Wardrobe, sample_person

OUTFIT = sample_person(np.random.default_rng(5), Wardrobe(tops={"red": 1.0}, bottoms={"navy": 1.0})).outfit
OUTFIT = dataclasses.replace(OUTFIT, top_pattern="plain", bottom_pattern="plain", open_front=False, straps="")


def test_textures_have_their_form_and_depend_on_the_outfit_alone():
    first = paint(OUTFIT)
    assert first.shape == (len(SLOTS), SIZE, SIZE, 5)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, paint(OUTFIT))
    assert (first != paint(dataclasses.replace(OUTFIT, seed=OUTFIT.seed + 1))).any()


def test_the_trunk_wears_the_colour_of_the_top_at_front_and_back():
    top = paint(dataclasses.replace(OUTFIT, has_print=False))[SLOTS.index("top")]
    for column in (SIZE // 2 + 4, 2):
        assert top[SIZE // 2 : -4, column, :3].mean(axis=0) == pytest.approx(OUTFIT.top, abs=0.1)


def test_backpack_straps_are_at_the_front_only():
    plain = dataclasses.replace(OUTFIT, has_print=False)
    worn = paint(dataclasses.replace(plain, straps="pack"))[SLOTS.index("top")]
    changed = (worn != paint(plain)[SLOTS.index("top")]).any(axis=2).any(axis=0)
    assert changed[SIZE // 4 : 3 * SIZE // 4].any()
    assert not changed[: SIZE // 4].any()
    assert not changed[3 * SIZE // 4 :].any()


def test_the_face_has_hair_at_the_back_and_skin_in_front():
    head = paint(dataclasses.replace(OUTFIT, beard=False))[SLOTS.index("head")]
    assert head[SIZE // 2, 1, :3] == pytest.approx(OUTFIT.hair)
    cheek = head[int(0.4 * SIZE), SIZE // 2 + 5, :3]
    assert np.abs(cheek - OUTFIT.skin).max() < 0.15
