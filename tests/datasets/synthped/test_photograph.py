from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from reid.datasets.synthped import Config, render
from reid.datasets.synthped.photograph import photograph
from reid.datasets.synthped.writer import install_cameras, jobs

CONFIG = Config(domain="street", num_train_pids=3, num_test_pids=0, num_distractors=2, num_junk=1, num_cameras=3)


def test_images_do_not_depend_on_their_batch():
    cameras = install_cameras(CONFIG)
    shots = [shot for job in jobs(CONFIG, cameras) for shot in job.shots]
    together = photograph(shots, cameras, (128, 64))
    for index in (0, 7, len(shots) - 1):
        alone = photograph([shots[index]], cameras, (128, 64))
        np.testing.assert_array_equal(alone.image[0], together.image[index])
        np.testing.assert_array_equal(alone.uv[0], together.uv[index])


def test_pictures_and_buffers_have_their_form():
    photos = render(CONFIG, 1)
    num = len(photos.image)
    assert photos.image.shape == (num, 128, 64, 3)
    assert photos.image.dtype == np.uint8
    assert photos.part.shape == (num, 128, 64)
    assert photos.part.dtype == np.int8
    assert photos.uv.shape == (num, 128, 64, 2)
    assert photos.uv.dtype == np.float32
    assert 0 <= photos.uv.min() <= photos.uv.max() < 1
    covered = (photos.part >= 0).mean(axis=(1, 2))
    assert 0.15 < np.median(covered) < 0.7
    assert photos.image.std(axis=(1, 2, 3)).min() > 5


def test_nothing_in_front_hides_most_of_a_person():
    config = CONFIG.model_copy(update={"num_train_pids": 20})
    cameras = install_cameras(config)
    shots = [shot for job in jobs(config, cameras) for shot in job.shots if shot.stands and shot.cover]
    seen, there = (
        (photograph(taken, cameras, (128, 64)).part >= 0).sum(axis=(1, 2))
        for taken in (shots, [replace(shot, cover=None) for shot in shots])
    )
    assert (2 * seen >= there).all()
    assert (seen < there).sum() > len(shots) // 3


def matches(photos, first, second):
    """Pixels of two images that see the same part at nearly the same uv: albedo of both, [K, 3] each."""
    here, there = (np.argwhere(photos.part[image] >= 0) for image in (first, second))
    keys = [
        np.column_stack([photos.part[image][tuple(at.T)] * 10.0, photos.uv[image][tuple(at.T)]])
        for image, at in ((first, here), (second, there))
    ]
    distance, nearest = cKDTree(keys[1]).query(keys[0])
    close = distance < 0.012
    return photos.albedo[first][tuple(here[close].T)], photos.albedo[second][tuple(there[nearest[close]].T)]


def test_the_same_surface_point_has_the_same_colour_in_two_views():
    photos = render(CONFIG, 0)
    num = len(photos.image)
    pairs = [matches(photos, first, second) for first in range(num) for second in range(first + 1, num)]
    here, there = (np.concatenate(side) for side in zip(*pairs, strict=True))
    assert len(here) > 1000
    agree = (np.abs(here - there).max(axis=1) < 0.06).mean()
    by_chance = (np.abs(here - np.roll(there, 777, axis=0)).max(axis=1) < 0.06).mean()
    assert agree > 0.85
    assert by_chance < 0.5


def test_other_sizes_show_the_same_scene():
    big = render(CONFIG.model_copy(update={"image_height": 256, "image_width": 128}), 0).part[0]
    small = render(CONFIG, 0).part[0]
    assert ((big[::2, ::2] >= 0) == (small >= 0)).mean() > 0.97
