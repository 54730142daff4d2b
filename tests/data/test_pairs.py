import numpy as np
import pytest
import torch
from PIL import Image

from reid.data.pairs import Views, ViewsConfig, pair_batches
from reid.data.surface_images import SurfaceImages
from reid.data.warps import WarpConfig
from reid.types import ImageRecord

SIZE = (32, 16)


@pytest.fixture
def records(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(path)
    return [ImageRecord(path, pid=n // 2) for n, path in enumerate(paths)]


def surfaces() -> SurfaceImages:
    """Two images of one person, of one colour each, all of them one part."""
    uv = np.stack(np.meshgrid(np.linspace(0, 0.9, 16), np.linspace(0, 0.9, 32)), 2).astype(np.float32)
    image = np.stack([np.full((*SIZE, 3), value, np.uint8) for value in (250, 251)])
    numbers = np.arange(2, dtype=np.intp)
    return SurfaceImages(image, np.zeros((2, *SIZE), np.int8), np.stack([uv, uv]), 0 * numbers, numbers)


def test_a_table_of_warps_changes_what_it_says_and_nothing_else():
    assert ViewsConfig(warps=WarpConfig(occluder=0.3)) == ViewsConfig()
    assert ViewsConfig().warps.difficulty == "mixed"


def load(records, views, num_workers=0):
    return list(pair_batches(records, [0, 0, 1, 1], [[0, 2], [2, 3]], views, num_workers=num_workers))


def test_a_batch_is_queries_then_gallery_images_with_their_warps(records):
    views = Views(ViewsConfig(warps=WarpConfig(photometry=0, occluder=0)), SIZE, None, seed=0, epoch=0)
    first, _ = load(records, views)
    assert first.inputs.shape == (4, 3, *SIZE)
    assert first.inputs.dtype == torch.uint8
    assert first.label_B.tolist() == [0, 1, 0, 1]
    assert len(first.warps) == 2
    warp = first.warps.to_gallery
    assert warp.position_NHW2.shape == (2, *SIZE, 2)
    assert 0.2 < warp.visible_NHW.float().mean() <= 1


def test_draws_depend_on_seed_epoch_and_place_alone(records):
    def images(num_workers=0, **changes):
        views = Views(ViewsConfig(), SIZE, None, **{"seed": 0, "epoch": 0, **changes})
        return torch.stack([batch.inputs for batch in load(records, views, num_workers)])

    first = images()
    assert torch.equal(first, images())
    assert torch.equal(first, images(num_workers=1))
    assert not torch.equal(first[0][1], first[1][0])  # the same file at another place
    assert not any(torch.equal(first, images(**change)) for change in ({"seed": 1}, {"epoch": 1}))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_renderings_take_the_place_of_files(records, share):
    views = Views(ViewsConfig(surface_share=share), SIZE, surfaces(), seed=0, epoch=0)
    drawn = torch.cat([batch.inputs for batch in load(records, views)])
    assert bool((drawn >= 250).all()) == (share == 1.0)


def test_renderings_may_show_two_persons(records):
    """Three people, of one colour each: the share of pairs of two colours is that of strangers."""
    one = surfaces()
    parts = one.part_NHW.repeat(3, 0), one.uv_NHW2.repeat(3, 0)
    image = np.arange(6, dtype=np.uint8)[:, None, None, None] // 2 * np.ones((6, *SIZE, 3), np.uint8)
    people = SurfaceImages(image, *parts, np.arange(6) // 2, np.arange(6) % 2)
    shares = []
    for strangers in (0.0, 0.5, 1.0):
        config = ViewsConfig(surface_share=1.0, strangers=strangers)
        drawn = [Views(config, SIZE, people, seed=0, epoch=0).draw(str(records[0].path), n)[:2] for n in range(60)]
        shares.append(np.mean([not torch.equal(*pair) for pair in drawn]))
    assert (shares[0], shares[2]) == (0.0, 1.0)
    assert 0.25 < shares[1] < 0.75


def test_strangers_are_a_share_of_renderings():
    with pytest.raises(ValueError, match="strangers: wanted a surface_share above 0"):
        ViewsConfig(strangers=0.5)
