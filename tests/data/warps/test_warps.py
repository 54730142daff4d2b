"""Whole pairs: the truth about the pixels, what is visible, and that all of it comes from the generator."""

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid.config import parse
from reid.data import warps
from reid.data.warps import Level, WarpConfig, held_out_pairs, warped_pair
from reid.errors import ConfigError, ImageError
from tests.reference import warps as reference

PLAIN = {"photometry": 0, "occluder": 0}
KINDS = ("homography", "spline", "piecewise")
SIZE = (128, 64)


def photo(height=128, width=64, seed=0, scale=1.0):
    """A smooth picture that differs from place to place; nowhere black."""
    y, x = np.mgrid[0:height, 0:width] / scale
    waves = [np.sin(x / 9 + seed) + np.cos(y / (13 + k)) + np.sin((x + y) / (19 - k)) for k in range(3)]
    return Image.fromarray(np.uint8(np.stack(waves, -1) * 38 + 127))


def only(kind, **table):
    return WarpConfig(**dict.fromkeys(KINDS, 0.0) | {kind: 1.0} | table)


def pair(config, seed, image=None, size=SIZE):
    return warped_pair(image or photo(), config, size, np.random.default_rng(seed))


def ways(one):
    """(image, warp, other image), both ways."""
    return (one.query, one.warps.to_gallery, one.gallery), (one.gallery, one.warps.to_query, one.query)


def values_at(way):
    """(own colours, the other image's at the partners), of visible pixels, [K, 3] each, by loops.

    Partners beside the black border are left out: between pixels, their colour is mixed with it.
    """
    own, to, other = way
    clear = -torch.nn.functional.max_pool2d((other.amax(0, keepdim=True) == 0).float(), 3, 1, 1)[0] + 1
    x, y = to.position_NHW2[0].long().unbind(2)
    chosen = to.visible_NHW[0] & (clear[y, x] > 0)
    pixels = other.permute(1, 2, 0).numpy().astype(float)
    there = [reference.bilinear(pixels, x, y) for x, y in to.position_NHW2[0][chosen].tolist()]
    return own.permute(1, 2, 0)[chosen].numpy().astype(float), np.array(there)


@pytest.mark.parametrize(("kind", "level"), list(product(KINDS, get_args(Level))))
def test_partners_show_the_same(kind, level):
    one = pair(only(kind, difficulty=level, **PLAIN), seed=3)
    for way in ways(one):
        own, there = values_at(way)
        assert len(own) > 1500
        error = np.abs(own - there).max(1)
        assert np.median(error) < 1  # rounding, and twice bilinear
        assert (error < 4).mean() > 0.99
        moved = way[1].position_NHW2[0][way[1].visible_NHW[0]] - grid()[way[1].visible_NHW[0]]
        assert moved.norm(dim=1).mean() > 1  # or the identity would have passed


def grid(size=SIZE):
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return torch.stack([x, y], -1)


@given(st.integers(0, 100_000), st.sampled_from(["mild", "mid", "hard", "mixed"]))
@settings(max_examples=12, deadline=None)
def test_both_ways_meet(seed, level):
    """The position of the partner's nearest pixel is near, and as both are exact, what is left is the warp's slope."""
    one = pair(WarpConfig(difficulty=level), seed)
    for (_, to, _), (_, back, _) in (ways(one), ways(one)[::-1]):
        visible = to.visible_NHW[0]
        partner = to.position_NHW2[0][visible]
        x, y = partner.long().T
        both = back.visible_NHW[0, y, x]
        returned = back.position_NHW2[0, y, x] - grid()[visible]
        assert both.float().mean() > 0.9
        assert returned[both].norm(dim=1).max() < 4


@given(st.integers(0, 100_000), st.sampled_from([(128, 64), (192, 64), (48, 40)]))
@settings(max_examples=12, deadline=None)
def test_form_and_what_is_never_claimed(seed, size):
    one = pair(WarpConfig(difficulty="mixed"), seed, size=size)
    for image, to, _ in ways(one):
        assert image.shape == (3, *size)
        assert image.dtype == torch.uint8
        assert to.position_NHW2.shape == (1, *size, 2)
        assert to.position_NHW2.dtype == torch.float32
        assert to.visible_NHW.dtype == to.known_NHW.dtype == torch.bool
        assert to.known_NHW.all()
        assert to.position_NHW2.isfinite().all()
        x, y = to.position_NHW2[to.visible_NHW].T
        assert x.min() >= 0
        assert y.min() >= 0
        assert x.max() < size[1]
        assert y.max() < size[0]


@pytest.mark.parametrize("seed", range(10))
def test_black_borders_are_not_visible_either_way(seed):
    """A crop with no black in it: all black comes from outside."""
    one = pair(WarpConfig(difficulty="hard", **PLAIN), seed)
    for image, to, other in ways(one):
        assert not (to.visible_NHW[0] & (image.amax(0) == 0)).any()
        x, y = to.position_NHW2[to.visible_NHW].long().T
        assert (other[:, y, x].amax(0) > 0).all()


@pytest.mark.parametrize("seed", range(10))
def test_what_is_occluded_is_not_visible_either_way(seed, monkeypatch):
    """A thing of one colour, found by the colour."""
    colour = np.array([255, 0, 255], np.uint8)
    true = warps.occluded

    def painted(view, source, generator):
        shown, hidden = true(view, source, generator)
        return np.where(hidden[..., None], colour, shown), hidden

    monkeypatch.setattr(warps, "occluded", painted)
    one = pair(WarpConfig(occluder=1, photometry=0), seed)
    pink = [(image == torch.from_numpy(colour)[:, None, None]).all(0) for image in (one.query, one.gallery)]
    assert sum(mask.any().item() for mask in pink) == 1
    for (_, to, _), own, there in ((ways(one)[0], *pink), (ways(one)[1], *pink[::-1])):
        assert to.known_NHW.all()
        assert not (to.visible_NHW[0] & own).any()
        x, y = to.position_NHW2[to.visible_NHW].long().T
        assert not there[y, x].any()


def test_occluders_hide_and_nothing_else_changes():
    """With the same motion, an occluder takes visible pixels away and gives none."""
    for seed in range(8):
        plain, hidden = (pair(only("homography", photometry=0, occluder=share), seed) for share in (1e-12, 1.0))
        seen = [sum(int(to.visible_NHW.sum()) for _, to, _ in ways(one)) for one in (plain, hidden)]
        assert seen[1] < seen[0]


def test_one_view_is_the_crop_and_which_one_is_drawn():
    image = photo(32, 16)
    crop = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())
    first, second = 0, 0
    for seed in range(60):
        one = pair(only("homography", **PLAIN), seed, image, (32, 16))
        first, second = first + torch.equal(one.query, crop), second + torch.equal(one.gallery, crop)
    assert first + second == 60
    assert 15 < first < 45


def test_images_of_any_size_are_brought_to_size():
    small, big = photo(64, 32, scale=0.5), photo(256, 128, scale=2.0)
    one, other = (pair(only("homography", difficulty="mid", **PLAIN), 4, image) for image in (small, big))
    torch.testing.assert_close(one.warps.to_gallery.position_NHW2, other.warps.to_gallery.position_NHW2)
    assert (one.query.float() - other.query.float()).abs().median() < 3


def test_harder_moves_farther():
    moved, size = [], (64, 32)
    for level in get_args(Level):
        config = WarpConfig(difficulty=level, **PLAIN)
        found = [pair(config, seed, size=size).warps.to_gallery for seed in range(30)]
        moves = [(to.position_NHW2[0] - grid(size))[to.visible_NHW[0]].norm(dim=1).mean() for to in found]
        moved.append(float(sum(moves)))
    assert moved[0] * 1.4 < moved[1] < moved[2] / 1.3


def test_mixed_draws_all_levels(monkeypatch):
    seen = []
    true = warps.draw_motion
    monkeypatch.setattr(
        warps, "draw_motion", lambda kind, strength, *rest: seen.append((kind, strength)) or true(kind, strength, *rest)
    )
    for seed in range(120):
        pair(WarpConfig(difficulty="mixed", spline=2.0, homography=0.0), seed, size=(32, 16))
    kinds = [kind for kind, _ in seen]
    assert 65 < kinds.count("spline") < 95
    assert "homography" not in kinds
    assert len({strength for _, strength in seen}) == 3


def test_same_generator_same_pair():
    config = WarpConfig(difficulty="mixed", occluder=1.0)
    first, second, other = (pair(config, seed) for seed in (1, 1, 2))
    assert torch.equal(first.query, second.query)
    assert torch.equal(first.gallery, second.gallery)
    for (_, to, _), (_, same, _) in zip(ways(first), ways(second), strict=True):
        assert torch.equal(to.position_NHW2, same.position_NHW2)
        assert torch.equal(to.visible_NHW, same.visible_NHW)
    assert not torch.equal(first.query, other.query)


def test_held_out_pairs_depend_on_seed_level_and_number_alone(tmp_path):
    photo(seed=1).save(tmp_path / "b.png")
    images = [photo(seed=0), tmp_path / "b.png", photo(seed=2)]
    whole = list(held_out_pairs(images, "mid", SIZE, seed=5))
    torch.randn(3)
    again = list(held_out_pairs([photo(seed=7), photo(seed=1)], "mid", SIZE, seed=5))
    assert len(whole) == 3
    assert torch.equal(whole[1].query, again[1].query)  # the same number and picture, whatever came before
    assert torch.equal(whole[0].warps.to_query.position_NHW2, again[0].warps.to_query.position_NHW2)
    for change in ({"level": "hard"}, {"seed": 6}):
        other = next(held_out_pairs(images, **{"level": "mid", "image_size": SIZE, "seed": 5} | change))
        assert not torch.equal(other.warps.to_gallery.position_NHW2, whole[0].warps.to_gallery.position_NHW2)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png"):
        list(held_out_pairs([tmp_path / "none.png"], "mild", SIZE))


@pytest.mark.parametrize(
    ("table", "part"),
    [
        (dict.fromkeys(KINDS, 0), "share above 0"),
        ({"spline": -1}, "spline"),
        ({"occluder": 1.5}, "occluder"),
        ({"difficulty": "easy"}, "difficulty"),
        ({"oclusion": 0.5}, "oclusion"),
    ],
)
def test_unusable_table(table, part):
    with pytest.raises(ConfigError, match=r"x\.toml \[warps\]") as caught:
        parse(WarpConfig, table, "x.toml [warps]")
    assert part in str(caught.value)
