"""From people and views to pixels: geometry, textures and light, with the true surface point of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.body import build
from reid.datasets.synthped.parts import PARTS, Charts
from reid.datasets.synthped.people import Floats, Person, stack
from reid.datasets.synthped.pose import Pose, skeleton
from reid.datasets.synthped.raycast import Hits, LocalRays, Primitives, Views, cast, local_rays
from reid.datasets.synthped.texture import SIZE, paint

OVERSAMPLING = 2
_TURN = np.float32(1 / (2 * np.pi))


@dataclass(frozen=True, slots=True)
class Light:
    """Light of N images; colours RGB, linear, [N, 3].

    Attributes:
        ambient: from everywhere, less from below. sun: directed light. direction: towards the sun, in view
            coordinates (x right, y up, z to the viewer), unit length, [N, 3].
    """

    ambient: Floats
    sun: Floats
    direction: Floats


@dataclass(frozen=True, slots=True)
class Layers:
    """Figures of N images before background and camera.

    Attributes:
        colour: linear RGB times coverage, [N, H, W, 3]. alpha: coverage 0..1, [N, H, W].
        albedo: texture colour of the first figure before light, at the pixel's first sample, [N, H, W, 3].
        part: index into PARTS of the first figure of the image, -1 elsewhere, int8 [N, H, W].
        uv: surface coordinates in [0, 1), 0 where part is -1, [N, H, W, 2].
    """

    colour: Floats
    alpha: Floats
    albedo: Floats
    part: NDArray[np.int8]
    uv: Floats


@dataclass(frozen=True, slots=True)
class Cast:
    """Who stands where: F figures, each a person in a pose and a view.

    ``person``: index into ``people``, [F]. The first figure of each image is the one whose buffers are kept.
    """

    people: Sequence[Person]
    person: NDArray[np.int32]
    pose: Pose
    views: Views


def draw(cast_: Cast, light: Light, shape: tuple[int, int, int]) -> Layers:
    """Draw figures.

    Args:
        cast_: the figures.
        light: of the N images.
        shape: (N, H, W) of the result.

    Returns:
        The figures' layers, antialiased, with buffers.
    """
    num, height, width = shape
    body = stack([cast_.people[index].body for index in cast_.person.tolist()])
    primitives, charts = build(body, skeleton(body, cast_.pose))
    views = _finer(cast_.views)
    rays = local_rays(primitives, views)
    fine = (num, height * OVERSAMPLING, width * OVERSAMPLING)
    hits = cast(primitives, views, rays, fine)
    pixels = np.nonzero(hits.owner.reshape(-1) >= 0)[0]
    surface = _surface(primitives, rays, hits, pixels)
    textures = np.stack([paint(person.outfit) for person in cast_.people])
    texel = _texel(textures, charts, cast_.person, surface)
    image = pixels // (fine[1] * fine[2])
    light_K = _shade(light, image, surface, texel)
    planes = np.zeros((4, num * fine[1] * fine[2]), np.float32)
    for channel in range(3):
        planes[channel, pixels] = texel[:, channel] * light_K[channel]
    planes[3, pixels] = 1.0
    coarse = np.moveaxis(_halved(planes.reshape(4, *fine)), 0, 3)
    return _layers(coarse, cast_.views, (pixels, surface, texel), fine)


def _finer(views: Views) -> Views:
    return Views(
        views.image,
        views.rotation,
        views.scale * OVERSAMPLING,
        views.foot_px * OVERSAMPLING,
        views.depth_px * OVERSAMPLING,
    )


def _halved(planes: Floats) -> Floats:
    """Mean of every 2 x 2 samples of [..., H, W]."""
    rows = planes[..., 0::2, :] + planes[..., 1::2, :]
    return np.asarray((rows[..., 0::2] + rows[..., 1::2]) * np.float32(0.25))


@dataclass(frozen=True, slots=True)
class _Surface:
    """What K visible samples see: figure and part [K], uv [K, 2]; unit vectors in view coordinates, [3, K] each."""

    figure: NDArray[np.int32]
    part: NDArray[np.int32]
    uv: Floats
    normal: Floats
    around: Floats
    down: Floats


def _surface(primitives: Primitives, rays: LocalRays, hits: Hits, pixels: NDArray[np.intp]) -> _Surface:
    height, width = hits.depth.shape[1:]
    owner = hits.owner.reshape(-1)[pixels]
    place = pixels % (height * width)
    y = (place // width).astype(np.float32) + np.float32(0.5)
    x = (place % width).astype(np.float32) + np.float32(0.5)
    matrix = np.take(np.ascontiguousarray(rays.to_local.reshape(-1, 12).T), owner, axis=1).reshape(3, 4, -1)
    local = matrix[:, 0] * x + matrix[:, 1] * y + matrix[:, 2] * hits.depth.reshape(-1)[pixels] + matrix[:, 3]
    sizes = np.stack([primitives.start_radius, primitives.end_radius, rays.length]).reshape(3, -1)
    first, last, length = np.take(sizes, owner, axis=1)
    azimuth = np.arctan2(local[0], local[2]) * _TURN + np.float32(0.5)
    along = (local[1] + first) / (length + first + last)
    uv = np.clip(np.stack([azimuth, along], axis=1), 0, np.float32(1 - 2**-20))
    local[1] -= hits.along.reshape(-1)[pixels] * length
    up = np.array([1, -1, 1], np.float32)[:, None]
    normal = _unit((matrix[0, :3] * local[0] + matrix[1, :3] * local[1] + matrix[2, :3] * local[2]) * up)
    down = _unit(matrix[1, :3] * up)
    around = np.stack([normal[i - 2] * down[i - 1] - normal[i - 1] * down[i - 2] for i in range(3)])
    return _Surface(owner // len(PARTS), owner % len(PARTS), uv, normal, _unit(around), down)


def _unit(vectors: Floats) -> Floats:
    """Vectors [3, K] of length 1."""
    length = np.sqrt(vectors[0] ** 2 + vectors[1] ** 2 + vectors[2] ** 2)
    return np.asarray(vectors / np.maximum(length, np.float32(1e-9)))


def _texel(textures: Floats, charts: Charts, person: NDArray[np.int32], surface: _Surface) -> Floats:
    """Texture values of the samples, [K, 5]: a function of person, part and uv alone."""
    at = surface.figure, surface.part
    column = np.where(charts.mirror[at], 1 - surface.uv[:, 0], surface.uv[:, 0])
    row = charts.offset[at] + charts.extent[at] * surface.uv[:, 1]
    x = np.clip((column * SIZE).astype(np.int32), 0, SIZE - 1)
    y = np.clip((row * SIZE).astype(np.int32), 0, SIZE - 1)
    index = ((person[surface.figure] * textures.shape[1] + charts.slot[at]) * SIZE + y) * SIZE + x
    return np.asarray(np.take(textures.reshape(-1, textures.shape[-1]), index, axis=0))


def _shade(light: Light, image: NDArray[np.intp], surface: _Surface, texel: Floats) -> Floats:
    """Light that the samples send on, [3, K]: sky and ground, and a soft-edged sun."""
    normal = _unit(surface.normal + texel[:, 3] * surface.around + texel[:, 4] * surface.down)
    toward = np.take(light.direction.T, image, axis=1)
    toward = normal[0] * toward[0] + normal[1] * toward[1] + normal[2] * toward[2]
    sun = np.maximum(0, (toward + np.float32(0.25)) * np.float32(0.8))
    sky = np.float32(0.68) + np.float32(0.32) * normal[1]
    return np.asarray(np.take(light.ambient.T, image, axis=1) * sky + np.take(light.sun.T, image, axis=1) * sun)


def _layers(
    coarse: Floats, views: Views, seen: tuple[NDArray[np.intp], _Surface, Floats], fine: tuple[int, int, int]
) -> Layers:
    """Gather the buffers of each image's first figure at the first sample of every pixel."""
    pixels, surface, texel = seen
    num, height, width, _ = coarse.shape
    main = np.zeros(len(views.image), bool)
    main[np.unique(views.image, return_index=True)[1]] = True
    row, column = pixels // fine[2] % fine[1], pixels % fine[2]
    kept = np.nonzero((row % OVERSAMPLING == 0) & (column % OVERSAMPLING == 0) & main[surface.figure])[0]
    at = pixels[kept] // (fine[1] * fine[2]), row[kept] // OVERSAMPLING, column[kept] // OVERSAMPLING
    part = np.full((num, height, width), -1, np.int8)
    uv, albedo = np.zeros((num, height, width, 2), np.float32), np.zeros((num, height, width, 3), np.float32)
    part[at], uv[at], albedo[at] = surface.part[kept], surface.uv[kept], texel[kept, :3]
    return Layers(coarse[..., :3], coarse[..., 3], albedo, part, uv)
