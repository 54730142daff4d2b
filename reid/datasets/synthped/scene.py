"""What a camera looks at: one large still picture a camera, painted once from a seed.

The ground is a plane; a person whose feet are at row y of the picture is ``(y - horizon) * zoom`` pixels a metre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reid.datasets.synthped.patterns import noise
from reid.datasets.synthped.people import Colour, Floats
from reid.datasets.synthped.props import DRAWS, Pixel, foliage, shade, sprite, tint

WIDTH, HEIGHT = 640, 400
SPRITE_UNIT = 64.0
Wall = Literal["building", "brick", "shops", "hedge", "plain", "backdrop"]


@dataclass(frozen=True, slots=True)
class Scene:
    """A camera's view without people.

    Attributes:
        picture: [HEIGHT, WIDTH, 3] float32, 0..1. sunlight: how bright each place is, about 1, [HEIGHT, WIDTH].
        horizon: row at which the ground would vanish; may lie above the picture. zoom: pixels a metre per row below.
        near, far: rows between which people's feet are.
        sprites: things in front of people, as :func:`reid.datasets.synthped.props.sprite` gives them.
    """

    picture: Floats
    sunlight: Floats
    horizon: float
    zoom: float
    near: float
    far: float
    sprites: tuple[Floats, ...]


def paint_scene(
    rng: np.random.Generator,
    elevation: float,
    walls: tuple[Wall, ...],
    colours: tuple[tuple[Colour, ...], tuple[Colour, ...]],
    things: tuple[str, ...],
) -> Scene:
    """Paint what a camera sees.

    Args:
        rng: draws everything.
        elevation: of the camera, radians; a higher camera sees more ground.
        walls: kinds to choose the back wall from.
        colours: to choose the colour of the wall and of the ground from.
        things: names of :data:`reid.datasets.synthped.props.DRAWS` that stand about here.

    Returns:
        The scene.
    """
    horizon = HEIGHT * (0.34 - 0.9 * elevation)
    near, foot = HEIGHT * 0.89, HEIGHT * rng.uniform(0.32, 0.58)
    far = foot + HEIGHT * rng.uniform(0.06, 0.18)
    zoom = rng.uniform(150, 190) / (near - horizon)
    sheet = Image.new("RGB", (WIDTH, HEIGHT), tint(rng, 0.5))
    pen = ImageDraw.Draw(sheet)
    _wall(pen, rng, walls, colours[0], foot)
    _ground(pen, rng, shade(rng, colours[1]), foot, horizon)
    for _ in range(int(rng.integers(5, 14)) if things else 0):
        place = rng.uniform(foot + 4, far)
        DRAWS[str(rng.choice(things))](pen, rng, rng.uniform(0, WIDTH), place, (place - horizon) * zoom)
    picture = np.asarray(sheet.filter(ImageFilter.GaussianBlur(0.6)), np.float32) / 255
    sunlight = _sunlight(rng)
    picture = np.clip(picture * sunlight[..., None], 0.01, 1)
    picked = [sprite(rng, str(rng.choice(things)), SPRITE_UNIT) for _ in range(4)] if things else []
    return Scene(picture.astype(np.float32), sunlight, horizon, zoom, near, far, tuple(picked))


def _sunlight(rng: np.random.Generator) -> Floats:
    """Sunny and shady places, [HEIGHT, WIDTH], about 0.5..1.4."""
    soft = np.clip(noise(rng, 256, int(rng.integers(4, 8)), rng.uniform(0.15, 0.35)), 0.5, 1.4)
    grain = noise(rng, 256, 100, rng.uniform(0.01, 0.05))
    sheet = Image.fromarray(soft * grain).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(sheet, np.float32)


def _wall(
    pen: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    kinds: tuple[Wall, ...],
    colours: tuple[Colour, ...],
    foot: float,
) -> None:
    """A row of fronts of different kind and colour."""
    left = 0.0
    while left < WIDTH:
        right = left + rng.uniform(50, 260)
        _front(pen, rng, str(rng.choice(kinds)), shade(rng, colours), (left, right, foot))
        left = right


def _front(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, colour: Pixel, place: tuple[float, float, float]
) -> None:
    left, right, foot = place
    pen.rectangle((left, 0, right, foot), fill=colour)
    if kind == "brick":
        step, darker = int(rng.integers(6, 13)), rng.uniform(0.5, 0.9)
        for row in range(0, int(foot), step):
            for x in np.arange(left - (row // step % 2) * step, right, 2 * step):
                fill = tuple(int(c * darker * rng.uniform(0.8, 1.0)) for c in colour)
                pen.rectangle((max(x, left), row, min(x + 2 * step - 2, right), row + step - 2), fill=fill)
    elif kind == "hedge":
        middle, half = ((left + right) / 2, foot / 2), ((right - left) / 2, foot / 2)
        foliage(pen, rng, middle, half, int(7 * (right - left)))
    elif kind in ("building", "shops"):
        _openings(pen, rng, kind, place)
    elif kind == "backdrop":
        for band in range(int(foot)):
            pen.line((left, band, right, band), fill=tuple(int(c * (0.75 + 0.25 * band / foot)) for c in colour))


def _openings(pen: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, place: tuple[float, float, float]) -> None:
    """Windows, doors and pillars, or lit shop fronts."""
    x, end, foot = place
    while x < end - 8:
        wide, gap = min(rng.uniform(25, 110), end - x), rng.uniform(6, 50)
        dark = kind == "building" or rng.random() < 0.3
        fill = tint(rng, rng.uniform(0.05, 0.3), 0.04) if dark else tint(rng, rng.uniform(0.5, 0.95), 0.15)
        top, low = rng.uniform(0, 0.25) * foot, foot * rng.uniform(0.75, 1.0)
        pen.rectangle((x, top, x + wide, low), fill=fill, outline=tint(rng, 0.35), width=2)
        for _ in range(int(rng.integers(0, 9))):
            left, high = rng.uniform(x, x + wide * 0.8), rng.uniform(top, low)
            pen.rectangle(
                (left, high, left + rng.uniform(0.05, 0.25) * wide, min(high + rng.uniform(3, 30), low)),
                fill=tint(rng, rng.uniform(0.1, 0.8), 0.2),
            )
        x += wide + gap


def _ground(pen: ImageDraw.ImageDraw, rng: np.random.Generator, colour: Pixel, foot: float, horizon: float) -> None:
    pen.rectangle((0, foot, WIDTH, HEIGHT), fill=colour)
    joint = tuple(int(c * rng.uniform(0.72, 1.12)) for c in colour)
    joint = tuple(min(c, 255) for c in joint)
    kind = rng.integers(4)
    if kind < 3:
        depths = 1 / np.linspace(1 / (HEIGHT - horizon), 1 / max(foot - horizon, 6), int(rng.integers(10, 30)))
        rows = horizon + depths
        for row in rows:
            pen.line((0, row, WIDTH, row), fill=joint, width=1 + int(kind == 2))
        if kind < 2:
            vanish = rng.uniform(0.2, 0.8) * WIDTH
            for bottom in np.arange(-3 * WIDTH, 4 * WIDTH, rng.uniform(30, 90)):
                pen.line((vanish, horizon, bottom, HEIGHT), fill=joint)
    for _ in range(int(rng.integers(0, 6))):
        x, y, wide = rng.uniform(0, WIDTH), rng.uniform(foot, HEIGHT), rng.uniform(20, 160)
        pen.ellipse(
            (x - wide, y - wide * 0.1, x + wide, y + wide * 0.1),
            fill=tuple(int(c * rng.uniform(0.75, 1.0)) for c in colour),
        )
    if rng.random() < 0.4:
        y = rng.uniform(foot, HEIGHT)
        pen.line((0, y, WIDTH, y + rng.uniform(-80, 80)), fill=tint(rng, 0.85, 0.05), width=int(rng.integers(2, 7)))
