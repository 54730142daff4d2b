"""From people and views to pixels: geometry, textures and light, with the true surface point of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.body import PARTS, Charts, build
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
    shaded = np.zeros((num * fine[1] * fine[2], 4), np.float32)
    shaded[pixels, :3] = texel[:, :3] * _shade(light, image, surface, texel[:, 3:])
    shaded[pixels, 3] = 1.0
    coarse = shaded.reshape(num, height, OVERSAMPLING, width, OVERSAMPLING, 4).mean(axis=(2, 4))
    return _layers(coarse, cast_.views, (pixels, surface, texel), fine)


def _finer(views: Views) -> Views:
    return Views(
        views.image,
        views.rotation,
        views.scale * OVERSAMPLING,
        views.foot_px * OVERSAMPLING,
        views.depth_px * OVERSAMPLING,
    )


@dataclass(frozen=True, slots=True)
class _Surface:
    """What K visible samples see: figure and part [K], uv [K, 2], normal in view coordinates [K, 3], tangents."""

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
    sample = np.stack([place % width + 0.5, place // width + 0.5, hits.depth.reshape(-1)[pixels]], axis=1).astype(
        np.float32
    )
    matrix = rays.to_local.reshape(-1, 3, 4)[owner]
    local = np.einsum("kij,kj->ki", matrix[:, :, :3], sample) + matrix[:, :, 3]
    first, length = primitives.start_radius.reshape(-1)[owner], rays.length.reshape(-1)[owner]
    last = primitives.end_radius.reshape(-1)[owner]
    round_ = np.arctan2(local[:, 0], local[:, 2]) * _TURN + np.float32(0.5)
    along = (local[:, 1] + first) / (length + first + last)
    uv = np.clip(np.stack([round_, along], axis=1), 0, np.float32(1 - 2**-20))
    outward = local.copy()
    outward[:, 1] -= hits.along.reshape(-1)[pixels] * length
    turn = np.array([1, -1, 1], np.float32)
    normal = _unit(np.einsum("kij,ki->kj", matrix[:, :, :3], outward) * turn)
    down = matrix[:, 1, :3] * turn
    around = np.cross(normal, down)
    return _Surface(owner // len(PARTS), owner % len(PARTS), uv.astype(np.float32), normal, _unit(around), _unit(down))


def _unit(vectors: Floats) -> Floats:
    length = np.sqrt(np.einsum("ki,ki->k", vectors, vectors))
    return np.asarray(vectors / np.maximum(length, 1e-9)[:, None], np.float32)


def _texel(textures: Floats, charts: Charts, person: NDArray[np.int32], surface: _Surface) -> Floats:
    """Texture values of the samples, [K, 5]: a function of person, part and uv alone."""
    at = surface.figure, surface.part
    column = np.where(charts.mirror[at], 1 - surface.uv[:, 0], surface.uv[:, 0])
    row = charts.offset[at] + charts.extent[at] * surface.uv[:, 1]
    x = np.clip((column * SIZE).astype(np.int32), 0, SIZE - 1)
    y = np.clip((row * SIZE).astype(np.int32), 0, SIZE - 1)
    index = ((person[surface.figure] * textures.shape[1] + charts.slot[at]) * SIZE + y) * SIZE + x
    return np.asarray(textures.reshape(-1, textures.shape[-1])[index], np.float32)


def _shade(light: Light, image: NDArray[np.intp], surface: _Surface, slope: Floats) -> Floats:
    """Light that the samples send on, [K, 3]: sky and ground, and a soft-edged sun."""
    normal = _unit(surface.normal + slope[:, :1] * surface.around + slope[:, 1:] * surface.down)
    toward = np.einsum("ki,ki->k", normal, light.direction[image])
    sun = np.maximum(0, (toward + 0.25) / 1.25)
    sky = 0.68 + 0.32 * normal[:, 1]
    return light.ambient[image] * sky[:, None] + light.sun[image] * sun[:, None]


def _layers(
    coarse: Floats, views: Views, seen: tuple[NDArray[np.intp], _Surface, Floats], fine: tuple[int, int, int]
) -> Layers:
    """Gather the buffers of each image's first figure at the first sample of every pixel."""
    pixels, surface, texel = seen
    num, height, width, _ = coarse.shape
    place = pixels % (fine[1] * fine[2])
    row, column = place // fine[2], place % fine[2]
    first = np.unique(views.image, return_index=True)[1]
    main = np.zeros(len(views.image), bool)
    main[first] = True
    kept = (row % OVERSAMPLING == 0) & (column % OVERSAMPLING == 0) & main[surface.figure]
    at = pixels[kept] // (fine[1] * fine[2]), row[kept] // OVERSAMPLING, column[kept] // OVERSAMPLING
    part = np.full((num, height, width), -1, np.int8)
    uv, albedo = np.zeros((num, height, width, 2), np.float32), np.zeros((num, height, width, 3), np.float32)
    part[at], uv[at], albedo[at] = surface.part[kept], surface.uv[kept], texel[kept, :3]
    return Layers(coarse[..., :3], coarse[..., 3], albedo, part, uv)
