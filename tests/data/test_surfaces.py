import numpy as np
import pytest
import torch

from reid.data.surfaces import surface_warps
from reid.datasets.synthped import PARTS, Config, render
from reid.errors import ShapeError

PLAN = Config(domain="studio", num_train_pids=3, num_test_pids=2, num_cameras=3, images_per_camera=2)


NEARBY = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


@pytest.fixture(scope="module")
def photos():
    """Somebody seen from three sides, twice by each camera, none of them opposite to another."""
    return render(PLAN, 4)


def cylinder(turn, size=(80, 64), radius=24.0, part="chest", top=0.0):
    """An upright cylinder turned about its axis, noted where the renderer notes it: a quarter into each pixel."""
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.25
    across = (x - size[1] / 2) / radius
    on = np.abs(across) < 1
    u = np.where(on, (np.arcsin(np.clip(across, -1, 1)) / (2 * np.pi) + turn + 0.5) % 1, 0)
    v = np.where(on, 0.1 + 0.8 * (y - top) / size[0], 0)
    number = np.where(on, PARTS.index(part), -1).astype(np.int8)
    return number, np.stack([u, v], -1).astype(np.float32)


def turned(x, turn, radius=24.0, middle=32.0):
    """Where column x of the cylinder goes when it turns back by ``turn``; NaN beyond its edge."""
    angle = np.arcsin((x - middle) / radius) - 2 * np.pi * turn
    return np.where(np.abs(angle) < np.pi / 2, middle + radius * np.sin(angle), np.nan)


def warps_of(photos, first, second):
    return surface_warps(photos.part[first], photos.uv[first], photos.part[second], photos.uv[second])


def centres(size):
    y, x = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    return np.stack([x, y], -1)


@pytest.mark.parametrize("turn", [0.0, 0.08, -0.15, 0.3])
def test_a_cylinder_that_turns(turn):
    """Also over the seam at the back, where u begins again."""
    to = surface_warps(*cylinder(0.5), *cylinder(0.5 + turn)).to_gallery
    known, visible = to.known_NHW[0].numpy(), to.visible_NHW[0].numpy()
    assert not known[cylinder(0.0)[0] < 0].any()
    column = np.arange(64) + 0.5
    inner = np.abs(column - 32) < 22.5  # nearer to the edge a pixel covers too much of the surface to tell
    wanted = np.full(64, np.nan)
    wanted[inner] = turned(column[inner], turn)
    seen = np.abs(wanted - 32) < 22.5
    assert visible[:, seen].mean() > 0.98
    assert not visible[:, inner & np.isnan(wanted)].any()
    error = to.position_NHW2[0].numpy() - np.stack(np.broadcast_arrays(wanted, centres((80, 64))[..., 1]), -1)
    sure = visible & seen
    assert np.abs(error[sure]).max() < 0.35
    assert np.abs(error[sure]).mean() < 0.05


def test_the_back_of_a_cylinder_has_no_partner_on_its_front():
    to = surface_warps(*cylinder(0.0), *cylinder(0.5)).to_gallery
    assert to.known_NHW[0, :, 12:52].all()
    assert not to.visible_NHW[0, :, 12:52].any()


def test_between_seen_and_hidden_nothing_is_known():
    """At most a narrow strip: where the edge of what the other image shows runs."""
    to = surface_warps(*cylinder(0.0), *cylinder(0.15)).to_gallery
    inner = np.abs(np.arange(64) + 0.5 - 32) < 22.5
    unknown = ~to.known_NHW[0].numpy()[:, inner]
    assert unknown.any(1).all()
    assert unknown.sum(1).max() <= 4


def test_a_shift_is_found_between_pixels():
    to = surface_warps(*cylinder(0.0), *cylinder(0.0, top=0.4)).to_gallery
    moved = (to.position_NHW2[0].numpy() - centres((80, 64)))[to.visible_NHW[0].numpy()]
    np.testing.assert_allclose(np.median(moved, axis=0), [0, 0.4], atol=0.02)


def test_other_parts_never_match():
    to = surface_warps(*cylinder(0.0), *cylinder(0.0, part="belly")).to_gallery
    assert to.known_NHW.any()
    assert not to.visible_NHW.any()


@pytest.mark.parametrize("sides", ["query", "gallery", "both"])
def test_no_body_no_match(sides):
    empty = np.full((80, 64), -1, np.int8), np.zeros((80, 64, 2), np.float32)
    query = empty if sides != "gallery" else cylinder(0.0)
    gallery = empty if sides != "query" else cylinder(0.0)
    warps = surface_warps(*query, *gallery)
    for to in (warps.to_gallery, warps.to_query):
        assert not to.visible_NHW.any()
        assert to.position_NHW2.isfinite().all()
    assert warps.to_gallery.known_NHW.any() == (sides == "gallery")


def test_images_may_differ_in_size():
    warps = surface_warps(*cylinder(0.0), *cylinder(0.0, (160, 128), 48.0))
    assert warps.to_gallery.visible_NHW.shape == (1, 80, 64)
    assert warps.to_query.visible_NHW.shape == (1, 160, 128)
    to = warps.to_gallery
    moved = (to.position_NHW2[0].numpy() - 2 * centres((80, 64)))[to.visible_NHW[0].numpy()]
    assert np.abs(np.median(moved, axis=0)).max() < 0.15


def test_the_same_rendering_is_the_identity(photos):
    for index in range(3):
        to = warps_of(photos, index, index).to_gallery
        body = photos.part[index] >= 0
        visible, known = to.visible_NHW[0].numpy(), to.known_NHW[0].numpy()
        np.testing.assert_array_equal(known, visible)
        assert not (known & ~body).any()
        assert visible[body].mean() > 0.97
        error = np.abs(to.position_NHW2[0].numpy() - centres(body.shape))[visible]
        assert error.max() < 0.51
        assert np.median(error) < 1e-3


def test_swapped_images_swap_the_warps(photos):
    one, other = warps_of(photos, 0, 3), warps_of(photos, 3, 0)
    for to, back in ((one.to_gallery, other.to_query), (one.to_query, other.to_gallery)):
        assert torch.equal(to.position_NHW2, back.position_NHW2)
        assert torch.equal(to.visible_NHW, back.visible_NHW)
        assert torch.equal(to.known_NHW, back.known_NHW)


def test_partners_have_the_same_colour(photos):
    """The texture, before light and camera, tells what no geometry was asked: partners show the same spot."""
    agree, aligned, num = [], [], len(photos.part)
    for first in range(num):
        second = (first + 2) % num  # another camera
        to = warps_of(photos, first, second).to_gallery
        visible = to.visible_NHW[0].numpy()
        x, y = to.position_NHW2[0].numpy()[visible].astype(int).T
        here = photos.albedo[first][visible]
        agree.append(np.abs(here - photos.albedo[second][y, x]).max(1) < 0.06)
        aligned.append(np.abs(here - photos.albedo[second][visible]).max(1) < 0.06)
    agree, aligned = np.concatenate(agree), np.concatenate(aligned)
    assert len(agree) > 2000
    assert agree.mean() > 0.7  # patterns change within a pixel
    assert aligned.mean() < agree.mean() - 0.3


def test_positions_lie_in_the_other_image_on_the_same_part(photos):
    for first, second in ((0, 2), (2, 5), (5, 1)):
        warps = warps_of(photos, first, second)
        for to, own, there in ((warps.to_gallery, first, second), (warps.to_query, second, first)):
            visible = to.visible_NHW[0].numpy()
            position = to.position_NHW2[0].numpy()[visible]
            assert (position >= 0).all()
            assert (position < (64, 128)).all()
            x, y = position.astype(int).T
            nearby = np.stack([np.roll(photos.part[there], shift, (0, 1))[y, x] for shift in NEARBY])
            assert (nearby == photos.part[own][visible]).any(0).all()
            assert not (visible & ~to.known_NHW[0].numpy()).any()


def test_parts_and_places_must_fit():
    part, uv = cylinder(0.0)
    with pytest.raises(ShapeError, match="gallery parts"):
        surface_warps(part, uv, part[None], uv)
    with pytest.raises(ShapeError, match="query parts"):
        surface_warps(part, uv[:-1], part, uv)
