"""Who is seen when, where and how: the plan of every image, before any of it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from reid.datasets.synthped.domains import Domain
from reid.datasets.synthped.network import Camera, Look, draw_look, mixed
from reid.datasets.synthped.people import Person
from reid.datasets.synthped.wardrobe import sample_person

FRAMES_PER_S = 25
PHASE_PER_S = 2 * np.pi * 0.95
SHOT_SPAN_S = 5400.0


@dataclass(frozen=True, slots=True)
class Stand:
    """One figure in an image: the person, where it stands and how.

    ``foot``: (x, y) pixels of the image. ``unit``: pixels per metre. ``yaw``: radians, 0 faces the camera.
    ``stretch``: width over height of its pixels, for boxes are brought to one shape.
    ``nearer``: metres in front of the main figure. ``pose``: values of Pose in order.
    """

    person: Person
    foot: tuple[float, float]
    unit: float
    yaw: float
    stretch: float
    nearer: float
    pose: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Shot:
    """The plan of one image.

    Attributes:
        camid: camera. frame: on the cameras' common clock. box: number of the detection in its frame.
        stands: the figures, the main one first; empty for a detection of nothing.
        area: (left, top, right, bottom) of the image in the camera's picture.
        look: light and colour. sunlight: brightness of the place where the person stands. native: pixels of the
            camera along the image's height.
        blur: factor on the camera's defocus, and motion blur across in pixels. vignette: brightness gained towards the
            lower and the right edge. seed: of the noise.
        cover: (index of a sprite, x, y of its foot in pixels of the image, factor) or None.
    """

    camid: int
    frame: int
    box: int
    stands: tuple[Stand, ...]
    area: tuple[float, float, float, float]
    look: Look
    sunlight: float
    native: float
    blur: tuple[float, float]
    vignette: tuple[float, float]
    seed: int
    cover: tuple[int, float, float, float] | None


@dataclass(frozen=True, slots=True)
class _Walk:
    """A person on the way past a camera."""

    foot_x: float
    foot_y: float
    yaw: float
    phase: float
    pace: float
    arms: tuple[float, float]
    speed: float
    stretch: float


def tracklet(
    rng: np.random.Generator,
    person: Person,
    place: tuple[Domain, Camera, int],
    span: tuple[int, int],
    size: tuple[int, int],
    *,
    spoil: float = 1.0,
) -> list[Shot]:
    """Plan the images of one person passing one camera.

    Args:
        rng: draws everything.
        person: who.
        place: domain, camera and camera index.
        span: first frame, and how many images.
        size: (height, width) of an image in pixels.
        spoil: factor on the misplacement of the box.

    Returns:
        Plans in the order of time, the frames rising strictly.
    """
    camera = place[1]
    walk = _enter(rng, camera)
    shots, frame = [], span[0]
    for _ in range(span[1]):
        seconds = (frame - span[0]) / FRAMES_PER_S
        seen = _later(walk, camera, seconds)
        shots.append(_shot(rng, person, place, seen, frame=frame, size=size, spoil=spoil))
        frame += int(rng.integers(8, 45))
    return shots


def empty_shot(rng: np.random.Generator, place: tuple[Domain, Camera, int], frame: int, size: tuple[int, int]) -> Shot:
    """Plan a detection of no person: a piece of the scene, perhaps with a thing in it."""
    domain, camera, camid = place
    walk = _enter(rng, camera)
    high = 1.9 * (walk.foot_y - camera.scene.horizon) * camera.scene.zoom * rng.uniform(0.4, 1.3)
    wide, foot = high * size[1] / size[0], walk.foot_y + rng.normal(0, 0.2 * high)
    area = (walk.foot_x - wide / 2, foot - high, walk.foot_x + wide / 2, foot)
    look = _look(rng, domain, camera)
    thing = _cover(rng, camera, size, 0.7)
    native, seed = _native(camera, walk.foot_y), int(rng.integers(2**31))
    return Shot(camid, frame, 1, (), area, look, 1.0, native, (1.0, 0.0), (0.0, 0.0), seed, thing)


def _look(rng: np.random.Generator, domain: Domain, camera: Camera) -> Look:
    look = mixed(camera.look, draw_look(rng, domain), domain.per_image)
    return replace(look, exposure=look.exposure * float(np.exp(rng.normal(0, 0.04))))


def _enter(rng: np.random.Generator, camera: Camera) -> _Walk:
    width = camera.scene.picture.shape[1]
    busy = rng.random(2) < (0.14, 0.10)
    return _Walk(
        foot_x=rng.uniform(0.17, 0.83) * width,
        foot_y=rng.uniform(camera.scene.far, camera.scene.near),
        yaw=float(rng.choice(camera.lanes)) + rng.normal(0, 0.35),
        phase=rng.uniform(0, 2 * np.pi),
        pace=0.1 if rng.random() < 0.08 else rng.uniform(0.7, 1.15),
        arms=(rng.uniform(0.05, 1.0) * busy[0], rng.uniform(0.05, 1.0) * busy[1]),
        speed=rng.uniform(0.9, 1.5),
        stretch=float(np.exp(rng.normal(0.2, 0.08))),
    )


def _later(walk: _Walk, camera: Camera, seconds: float) -> _Walk:
    unit = (walk.foot_y - camera.scene.horizon) * camera.scene.zoom
    way = walk.speed * seconds * walk.pace * unit
    width = camera.scene.picture.shape[1]
    return replace(
        walk,
        foot_x=float(np.clip(walk.foot_x + way * np.sin(walk.yaw), 0.14 * width, 0.86 * width)),
        foot_y=float(np.clip(walk.foot_y + 0.35 * way * np.cos(walk.yaw), camera.scene.far, camera.scene.near)),
        phase=walk.phase + PHASE_PER_S * seconds,
    )


def _sunlight(camera: Camera, walk: _Walk) -> float:
    return float(camera.scene.sunlight[int(walk.foot_y), int(walk.foot_x)])


def _native(camera: Camera, foot_y: float) -> float:
    scene = camera.scene
    return camera.native * (foot_y - scene.horizon) / (scene.near - scene.horizon)


def _shot(
    rng: np.random.Generator,
    person: Person,
    place: tuple[Domain, Camera, int],
    walk: _Walk,
    *,
    frame: int,
    size: tuple[int, int],
    spoil: float,
) -> Shot:
    domain, camera, camid = place
    tall = float(person.body.height) * np.cos(camera.elevation) + 0.35 * np.sin(camera.elevation)
    wobble = rng.normal(0, domain.jitter, 4) * spoil
    metres = tall * (1.04 + abs(wobble[0]) + wobble[1])
    unit = size[0] / metres
    foot = (size[1] * (0.5 + 1.2 * wobble[2]), size[0] * (1 - 0.05) + wobble[3] * size[0])
    stretch = walk.stretch * float(np.exp(rng.normal(0, 0.035)))
    stands = [_stand(rng, person, walk, foot, unit, stretch)]
    if rng.random() < domain.company:
        stands.append(_companion(rng, domain, walk, stands[0]))
    ratio = (walk.foot_y - camera.scene.horizon) * camera.scene.zoom / unit
    wide = ratio / stretch
    left, top = walk.foot_x - foot[0] * wide, walk.foot_y - foot[1] * ratio
    return Shot(
        camid=camid,
        frame=frame,
        box=int(rng.integers(1, 9)),
        stands=tuple(stands),
        area=(left, top, left + size[1] * wide, top + size[0] * ratio),
        look=_look(rng, domain, camera),
        sunlight=_sunlight(camera, walk),
        native=_native(camera, walk.foot_y),
        blur=(rng.uniform(0.7, 1.3), abs(rng.normal(0, 0.5)) * (1 + 2 * (rng.random() < 0.06))),
        vignette=(rng.normal(0, 0.05), rng.normal(0, 0.05)),
        seed=int(rng.integers(2**31)),
        cover=_cover(rng, camera, size, domain.occlusion * min(spoil, 2)),
    )


def _stand(
    rng: np.random.Generator, person: Person, walk: _Walk, foot: tuple[float, float], unit: float, stretch: float
) -> Stand:
    pose = (walk.phase, walk.pace, *walk.arms, rng.normal(0, 0.3), rng.normal(0.08, 0.12))
    return Stand(person, foot, unit, walk.yaw + rng.normal(0, 0.08), stretch, 0.0, pose)


def _companion(rng: np.random.Generator, domain: Domain, walk: _Walk, main: Stand) -> Stand:
    other = sample_person(rng, domain.wardrobe)
    yaw = walk.yaw + (rng.normal(0, 0.25) if rng.random() < 0.5 else rng.uniform(-np.pi, np.pi))
    nearer = float(rng.uniform(-3.0, 0.7))
    aside = rng.choice([-1.0, 1.0]) * rng.uniform(0.42, 0.95) * (1.25 if nearer > 0 else 1.0)
    unit = main.unit * (1 + 0.07 * nearer)
    foot = (main.foot[0] + aside * unit * main.stretch, main.foot[1] + 0.11 * nearer * unit)
    pose = (rng.uniform(0, 6.3), rng.uniform(0.1, 1.1), 0.0, 0.0, rng.normal(0, 0.3), 0.05)
    return Stand(other, foot, unit, yaw, main.stretch, nearer, pose)


def _cover(
    rng: np.random.Generator, camera: Camera, size: tuple[int, int], chance: float
) -> tuple[int, float, float, float] | None:
    draws = rng.random(4)
    if draws[0] >= chance or not camera.scene.sprites:
        return None
    index = int(draws[1] * len(camera.scene.sprites))
    place = (0.0 if draws[2] < 0.5 else 1.0) * size[1] + rng.normal(0, 0.28) * size[1]
    return index, place, size[0] * rng.uniform(1.0, 1.25), rng.uniform(0.85, 1.3)
