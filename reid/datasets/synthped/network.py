"""The cameras of a domain: each draws its place, its light and its habits once, from the domain's limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid.datasets.synthped.domains import Domain, Range
from reid.datasets.synthped.people import Floats
from reid.datasets.synthped.scene import Scene, paint_scene


@dataclass(frozen=True, slots=True)
class Look:
    """Light and colour of a camera or of one image; see :class:`reid.datasets.synthped.domains.Domain`."""

    sun: float
    exposure: float
    warmth: float
    gains: Floats
    gamma: float
    saturation: float
    haze: float
    sun_direction: Floats


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera.

    Attributes:
        scene: what it sees. elevation: radians. lanes: directions in which people walk, radians, 0 towards the camera.
        look: its light and colour. native: height in pixels of the nearest people; defocus: pixels; noise, sharpen,
            quality: as in the domain.
    """

    scene: Scene
    elevation: float
    lanes: tuple[float, ...]
    look: Look
    native: float
    defocus: float
    noise: float
    sharpen: float
    quality: int


def between(rng: np.random.Generator, limits: Range) -> float:
    """A value drawn evenly between two limits."""
    return float(rng.uniform(*limits))


def install(rng: np.random.Generator, domain: Domain) -> Camera:
    """Draw a camera of a domain."""
    elevation = between(rng, domain.elevation)
    main = rng.uniform(-np.pi, np.pi)
    lanes = (main, main, main + np.pi + rng.normal(0, 0.3), rng.uniform(-np.pi, np.pi))
    return Camera(
        scene=paint_scene(rng, elevation, domain.walls, domain.colours, domain.things),
        elevation=elevation,
        lanes=lanes,
        look=draw_look(rng, domain),
        native=between(rng, domain.native),
        defocus=between(rng, domain.defocus),
        noise=between(rng, domain.noise),
        sharpen=between(rng, domain.sharpen),
        quality=int(between(rng, domain.quality)),
    )


def draw_look(rng: np.random.Generator, domain: Domain) -> Look:
    """Draw a light and a colour between a domain's limits."""
    azimuth, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.3)
    direction = [np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]
    return Look(
        sun=between(rng, domain.sun),
        exposure=between(rng, domain.exposure),
        warmth=between(rng, domain.warmth),
        gains=np.exp(rng.normal(0, domain.tint, 3)).astype(np.float32),
        gamma=between(rng, domain.gamma),
        saturation=between(rng, domain.saturation),
        haze=between(rng, domain.haze),
        sun_direction=np.asarray(direction, np.float32),
    )


def mixed(camera: Look, moment: Look, share: float) -> Look:
    """``camera``'s look with ``share`` (0..1) of ``moment``'s in it."""

    def mix(first: float, second: float) -> float:
        return first + (second - first) * share

    return Look(
        sun=mix(camera.sun, moment.sun),
        exposure=mix(camera.exposure, moment.exposure),
        warmth=mix(camera.warmth, moment.warmth),
        gains=camera.gains ** (1 - share) * moment.gains**share,
        gamma=mix(camera.gamma, moment.gamma),
        saturation=mix(camera.saturation, moment.saturation),
        haze=mix(camera.haze, moment.haze),
        sun_direction=moment.sun_direction if share > 0.5 else camera.sun_direction,
    )


def light_colour(warmth: float) -> Floats:
    """Colour of the light, mean about 1."""
    return np.array([1 + 0.16 * warmth, 1.0, 1 - 0.24 * warmth], np.float32)
