"""From plans to pictures: figures, shadows, background and things in front, seen by their cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.camera import Exposure, noise_planes, resample, take_pictures
from reid.datasets.synthped.figures import figures
from reid.datasets.synthped.network import Camera, light_colour
from reid.datasets.synthped.people import Floats, Person
from reid.datasets.synthped.render import Cast, Layers, Light, draw
from reid.datasets.synthped.scene import SPRITE_UNIT
from reid.datasets.synthped.views import Shot

_MOST_HIDDEN = 0.5
"""Share of a person that a thing in front may hide; one that would hide more is not there."""


@dataclass(frozen=True, slots=True)
class Photographs:
    """Images with their true surface points.

    Attributes:
        image: [N, H, W, 3] uint8.
        part: index into :data:`reid.datasets.synthped.parts.PARTS` of the main figure, -1 where anything else is
            seen, [N, H, W] int8.
        uv: surface coordinates in [0, 1), 0 where part is -1, [N, H, W, 2] float32. The same part and uv on the same
            person in another image is the same surface point.
        albedo: the surface's colour before light and camera, 0 where part is -1, [N, H, W, 3] float32.
    """

    image: NDArray[np.uint8]
    part: NDArray[np.int8]
    uv: Floats
    albedo: Floats


def photograph(shots: Sequence[Shot], cameras: Sequence[Camera], size: tuple[int, int]) -> Photographs:
    """Take the planned pictures.

    Args:
        shots: plans of N images.
        cameras: by camera index.
        size: (height, width) in pixels the plans were made for.

    Returns:
        The pictures and their buffers.
    """
    shape = (len(shots), *size)
    light = _lights(shots)
    layers = _figures(shots, cameras, light, shape)
    level = _level(shots)
    scene = np.stack([resample(cameras[shot.camid].scene.picture, shot.area, size) for shot in shots])
    scene = scene * level[:, None, None] * _shadows(shots, cameras, layers.alpha)[..., None]
    scene = layers.colour + scene * (1 - layers.alpha[..., None])
    part, uv, albedo = layers.part, layers.uv, layers.albedo
    for index, shot in enumerate(shots):
        thing = _thing(shot, cameras, size)
        if thing is None:
            continue
        hidden = thing[..., 3] > 0.5
        if _hides(hidden, part[index] >= 0):
            continue
        scene[index] = thing[..., :3] * level[index] + scene[index] * (1 - thing[..., 3:])
        part[index][hidden], uv[index][hidden], albedo[index][hidden] = -1, 0, 0
    noise = noise_planes([shot.seed for shot in shots], size)
    return Photographs(take_pictures(scene, _exposure(shots, cameras, size), noise), part, uv, albedo)


def _lights(shots: Sequence[Shot]) -> Light:
    colour = np.stack([light_colour(shot.look.warmth) for shot in shots])
    bright = np.array([shot.look.exposure * shot.sunlight for shot in shots], np.float32)[:, None]
    share = np.array([shot.look.sun for shot in shots], np.float32)[:, None]
    return Light(
        1.45 * bright * (1 - share) * colour,
        1.9 * bright * share * colour,
        np.stack([shot.look.sun_direction for shot in shots]),
    )


def _level(shots: Sequence[Shot]) -> Floats:
    """Brightness and colour of the scene, [N, 3]."""
    return np.stack([(1.05 * shot.look.exposure) * light_colour(shot.look.warmth) for shot in shots])


def _figures(shots: Sequence[Shot], cameras: Sequence[Camera], light: Light, shape: tuple[int, int, int]) -> Layers:
    if not any(shot.stands for shot in shots):
        empty = np.zeros((*shape, 3), np.float32)
        return Layers(
            empty, empty[..., 0], empty.copy(), np.full(shape, -1, np.int8), np.zeros((*shape, 2), np.float32)
        )
    persons, pose, views = figures(shots, cameras)
    people: list[Person] = []
    number: dict[int, int] = {}
    for person in persons:
        if id(person) not in number:
            number[id(person)] = len(people)
            people.append(person)
    index = np.array([number[id(person)] for person in persons], np.int32)
    return draw(Cast(people, index, pose, views), light, shape)


def _thing(shot: Shot, cameras: Sequence[Camera], size: tuple[int, int]) -> Floats | None:
    if shot.cover is None:
        return None
    index, x, y, factor = shot.cover
    sprite = cameras[shot.camid].scene.sprites[index]
    unit = (shot.stands[0].unit if shot.stands else size[0] / 1.9) * factor
    ratio = SPRITE_UNIT / unit
    left, top = sprite.shape[1] / 2 - x * ratio, sprite.shape[0] - y * ratio
    return resample(sprite, (left, top, left + size[1] * ratio, top + size[0] * ratio), size)


def _hides(hidden: NDArray[np.bool_], person: NDArray[np.bool_]) -> bool:
    """Whether so much of the person is hidden that no detector would have found one."""
    return int((hidden & person).sum()) > _MOST_HIDDEN * int(person.sum())


def _shadows(shots: Sequence[Shot], cameras: Sequence[Camera], alpha: Floats) -> Floats:
    """How much light reaches the ground, [N, H, W]: the silhouettes thrown onto it, and dark under the feet."""
    height, width = alpha.shape[1:]
    y, x = (np.arange(height, dtype=np.float32) + 0.5)[:, None], (np.arange(width, dtype=np.float32) + 0.5)[None]
    reach = np.ones_like(alpha)
    for index, shot in enumerate(shots):
        if not shot.stands:
            continue
        foot, unit = shot.stands[0].foot, shot.stands[0].unit
        near = ((x - foot[0]) / (0.30 * unit)) ** 2 + ((y - foot[1]) / (0.10 * unit)) ** 2
        reach[index] *= 1 - 0.45 * np.exp(-near)
        right, up, toward = (float(value) for value in shot.look.sun_direction)
        tilt = cameras[shot.camid].elevation
        fall = -toward / up * np.sin(tilt)
        fall = fall if abs(fall) > 0.08 else 0.08
        tall = (y - foot[1]) / fall
        source_x = np.clip(x + tall * right / up, 0, width - 1).astype(np.int32)
        source_y = np.clip(foot[1] - tall * np.cos(tilt) + 0 * x, 0, height - 1).astype(np.int32)
        dark = np.where(
            (tall > 0) & (source_y > 0) & (source_x > 0) & (source_x < width - 1), alpha[index, source_y, source_x], 0
        )
        reach[index] *= 1 - 0.8 * shot.look.sun * dark
    return reach


def _exposure(shots: Sequence[Shot], cameras: Sequence[Camera], size: tuple[int, int]) -> Exposure:
    def values(of: list[float]) -> Floats:
        return np.array(of, np.float32)

    owners = [cameras[shot.camid] for shot in shots]
    coarse = values([size[0] / shot.native for shot in shots])
    detail = size[0] / 128
    soft = values([cameras[shot.camid].defocus * shot.blur[0] * detail for shot in shots])
    blur = np.sqrt(soft**2 + (0.45 * np.maximum(coarse - 0.6, 0)) ** 2)
    return Exposure(
        blur_y=blur,
        blur_x=np.sqrt(blur**2 + values([shot.blur[1] * detail for shot in shots]) ** 2),
        sharpen=values([camera.sharpen for camera in owners]),
        gain=np.stack([shot.look.gains for shot in shots]),
        gamma=values([shot.look.gamma for shot in shots]),
        saturation=values([shot.look.saturation for shot in shots]),
        haze=values([shot.look.haze for shot in shots]),
        noise=values([camera.noise for camera in owners]),
        grain=0.45 * np.maximum(coarse, 0.6),
        vignette=np.array([shot.vignette for shot in shots], np.float32),
    )
