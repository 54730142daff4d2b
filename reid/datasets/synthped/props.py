"""Things that stand about: drawn with a pen into a scene, or on a clear sheet as something that hides people."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from reid.datasets.synthped.people import Colour, Floats

Pen = ImageDraw.ImageDraw
Pixel = tuple[int, int, int]
Draw = Callable[[Pen, np.random.Generator, float, float, float], None]
"""(pen, rng, x, foot y, pixels per metre): draws one thing standing at (x, y)."""


def tint(rng: np.random.Generator, level: float, spread: float = 0.06) -> Pixel:
    """A dull random colour of about this brightness (0..1) as 8-bit RGB."""
    red, green, blue = np.clip(level * (1 + rng.normal(0, spread, 3)) + rng.normal(0, 0.06), 0.02, 0.98) * 255
    return int(red), int(green), int(blue)


def shade(rng: np.random.Generator, colours: Sequence[Colour]) -> Pixel:
    """One of ``colours`` (0..1), a little lighter or darker, as 8-bit RGB."""
    value = (
        np.asarray(colours[int(rng.integers(len(colours)))]) * rng.uniform(0.88, 1.12) * (1 + rng.normal(0, 0.015, 3))
    )
    red, green, blue = np.clip(value, 0.02, 0.98) * 255
    return int(red), int(green), int(blue)


def foliage(
    pen: Pen, rng: np.random.Generator, centre: tuple[float, float], half: tuple[float, float], leaves: int
) -> None:
    """Leaves within ``half`` a width and height of ``centre``, pixels; the later ones are the brighter."""
    base = np.array([0.19, 0.27, 0.13]) * rng.uniform(0.6, 1.3)
    for number in range(leaves):
        x, y = centre[0] + half[0] * rng.uniform(-1, 1), centre[1] + half[1] * rng.uniform(-1, 1)
        size = rng.uniform(0.8, 3.2)
        fill = tuple(int(c) for c in np.clip(base * (0.35 + number / leaves) * rng.uniform(0.6, 1.5), 0, 1) * 255)
        pen.ellipse((x - size * 1.3, y - size, x + size * 1.3, y + size), fill=fill)


def pole(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A post or lamp."""
    wide, high = rng.uniform(0.05, 0.16) * unit, rng.uniform(1.1, 4.0) * unit
    colour = tint(rng, rng.uniform(0.15, 0.7))
    pen.rectangle((x - wide, y - high, x + wide, y), fill=colour)
    pen.rectangle((x - wide, y - high, x - wide * 0.3, y), fill=tuple(int(c * 0.7) for c in colour))


def bin_(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A litter bin or a box."""
    wide, high = rng.uniform(0.2, 0.45) * unit, rng.uniform(0.5, 1.1) * unit
    colour = tint(rng, rng.uniform(0.15, 0.6), 0.2)
    pen.rectangle((x - wide, y - high, x + wide, y), fill=colour)
    pen.rectangle(
        (x - wide * 1.05, y - high, x + wide * 1.05, y - high * 0.88), fill=tuple(int(c * 0.6) for c in colour)
    )


def bench(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A bench or a table."""
    wide, high = rng.uniform(0.6, 1.2) * unit, rng.uniform(0.4, 0.75) * unit
    colour = tint(rng, rng.uniform(0.25, 0.6))
    for leg in (-0.85, 0.75):
        pen.rectangle((x + leg * wide, y - high, x + (leg + 0.1) * wide, y), fill=tint(rng, 0.15))
    pen.rectangle((x - wide, y - high, x + wide, y - high * 0.8), fill=colour)
    if rng.random() < 0.5:
        pen.rectangle((x - wide, y - high * 1.9, x + wide, y - high * 1.45), fill=colour)


def bicycle(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A parked bicycle seen from the side."""
    radius, half = 0.32 * unit, 0.52 * unit * rng.uniform(0.5, 1.0)
    line = max(1, int(0.05 * unit))
    colour, dark = tint(rng, rng.uniform(0.2, 0.6), 0.25), tint(rng, 0.12, 0.03)
    for hub in (x - half, x + half):
        squeeze = radius * min(1.0, half / (0.52 * unit))
        pen.ellipse((hub - squeeze, y - 2 * radius, hub + squeeze, y), outline=dark, width=line)
    seat, bar = (x - half * 0.4, y - 2.4 * radius), (x + half * 0.7, y - 2.7 * radius)
    pen.line(
        [(x - half, y - radius), seat, (x, y - radius), (x + half * 0.7, y - 2.2 * radius), seat],
        fill=colour,
        width=line,
    )
    pen.line([(x + half, y - radius), bar], fill=colour, width=line)
    pen.line([(seat[0] - 0.12 * unit, seat[1]), (seat[0] + 0.12 * unit, seat[1])], fill=dark, width=line + 1)
    pen.rectangle((bar[0] - 0.1 * unit, bar[1] - 0.15 * unit, bar[0] + 0.1 * unit, bar[1]), fill=tint(rng, 0.4))


def car(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A parked car seen from the side."""
    half, high = 2.0 * unit, 1.4 * unit
    colour = tint(rng, rng.choice([0.1, 0.3, 0.6, 0.85]), 0.12)
    pen.rounded_rectangle((x - half, y - 0.65 * high, x + half, y - 0.15 * high), int(0.2 * unit) + 1, fill=colour)
    pen.polygon(
        [
            (x - 0.65 * half, y - 0.6 * high),
            (x - 0.4 * half, y - high),
            (x + 0.35 * half, y - high),
            (x + 0.7 * half, y - 0.6 * high),
        ],
        fill=colour,
    )
    pen.polygon(
        [
            (x - 0.55 * half, y - 0.62 * high),
            (x - 0.36 * half, y - 0.94 * high),
            (x + 0.3 * half, y - 0.94 * high),
            (x + 0.58 * half, y - 0.62 * high),
        ],
        fill=tint(rng, 0.2, 0.04),
    )
    for wheel in (x - 0.6 * half, x + 0.6 * half):
        pen.ellipse((wheel - 0.33 * unit, y - 0.66 * unit, wheel + 0.33 * unit, y), fill=(25, 25, 27))
        pen.ellipse((wheel - 0.17 * unit, y - 0.5 * unit, wheel + 0.17 * unit, y - 0.16 * unit), fill=tint(rng, 0.5))


def bush(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A bush, a hedge or a potted plant."""
    wide, high = rng.uniform(0.3, 1.2) * unit, rng.uniform(0.5, 1.5) * unit
    pen.ellipse((x - wide, y - high, x + wide, y), fill=(22, 30, 18))
    for _ in range(5):
        middle = (x + rng.uniform(-0.5, 0.5) * wide, y - high * rng.uniform(0.25, 0.75))
        foliage(pen, rng, middle, (wide * 0.5, high * 0.3), 70)


def rack(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A shelf of coloured goods."""
    wide, high = rng.uniform(0.4, 0.9) * unit, rng.uniform(1.0, 1.9) * unit
    pen.rectangle((x - wide, y - high, x + wide, y), fill=tint(rng, 0.25))
    for level in np.arange(0.05, 0.95, 0.2):
        place = -wide
        while place < wide * 0.9:
            step = rng.uniform(0.06, 0.2) * unit
            edge = min(place + step, wide)
            pen.rectangle(
                (x + place, y - high * (level + rng.uniform(0.1, 0.17)), x + edge, y - high * level),
                fill=tint(rng, rng.uniform(0.15, 0.6), 0.14),
            )
            place += step


def board(pen: Pen, rng: np.random.Generator, x: float, y: float, unit: float) -> None:
    """A standing sign."""
    wide, high = rng.uniform(0.25, 0.45) * unit, rng.uniform(0.9, 1.5) * unit
    pen.rectangle((x - wide, y - high, x + wide, y - 0.1 * unit), fill=tint(rng, rng.uniform(0.4, 0.9), 0.25))
    for line in range(4):
        top = y - high * (0.9 - 0.17 * line)
        pen.rectangle(
            (x - wide * 0.8, top, x + wide * rng.uniform(0, 0.8), top + high * 0.06), fill=tint(rng, 0.3, 0.2)
        )


DRAWS: dict[str, Draw] = {
    "pole": pole,
    "bin": bin_,
    "bench": bench,
    "bicycle": bicycle,
    "car": car,
    "bush": bush,
    "rack": rack,
    "board": board,
}


def sprite(rng: np.random.Generator, name: str, unit: float) -> Floats:
    """One thing alone, for the foreground.

    Args:
        rng: draws its form.
        name: a key of :data:`DRAWS`.
        unit: pixels per metre.

    Returns:
        [H, W, 4] float32 in 0..1: RGB times coverage, and coverage; its foot is at the middle of the lower edge.
    """
    sheet = Image.new("RGBA", (int(4.4 * unit), int(2.4 * unit)))
    DRAWS[name](ImageDraw.Draw(sheet), rng, sheet.width / 2, sheet.height - 1.0, unit)
    box = sheet.getbbox() or (0, 0, 1, 1)
    pixels = np.asarray(sheet.crop(box), np.float32) / 255
    return np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], axis=2)
