"""What their surfaces look like: one small picture for every piece of clothing, fixed to the body.

A texture is [T, T, 5] float32: red, green, blue (reflectance, 0..1) and the slope of the cloth's relief around the body
and down it. Column T/2 is the front of the part, columns 0 and T-1 meet at its back; row 0 is its upper end.
"""

from __future__ import annotations

import numpy as np

from reid.datasets.synthped.parts import SLOTS
from reid.datasets.synthped.patterns import ellipse, noise, pattern, slopes
from reid.datasets.synthped.people import Colour, Floats, Outfit

SIZE = 64


def paint(outfit: Outfit) -> Floats:
    """Paint all textures of a person.

    Args:
        outfit: colours and patterns; its seed draws the details.

    Returns:
        [S, T, T, 5] float32, S = len(SLOTS), T = :data:`SIZE`.
    """
    rng = np.random.default_rng(outfit.seed)
    top = pattern(rng, outfit.top_pattern, outfit.top, outfit.top_second, SIZE)
    sleeve = top.copy() if outfit.sleeve == outfit.top else pattern(rng, "plain", outfit.sleeve, outfit.sleeve, SIZE)
    bottom = (
        top.copy() if outfit.dress else pattern(rng, outfit.bottom_pattern, outfit.bottom, outfit.bottom_second, SIZE)
    )
    leg = pattern(rng, "plain", outfit.leg, outfit.leg, SIZE) if outfit.leggings else bottom.copy()
    pictures = {
        "top": _top(rng, top, outfit),
        "sleeve": _cuffs(rng, sleeve, outfit),
        "bottom": _bottom(rng, bottom, outfit),
        "leg": _leg(rng, leg, outfit),
        "head": _face(rng, outfit),
        "hair": _hair(rng, outfit.hair),
        "skin": _plain(outfit.skin) * noise(rng, SIZE, 4, 0.03)[..., None],
        "shoe": _shoe(outfit),
        "bag": _bag(rng, outfit.bag),
        "accessory": pattern(
            rng, str(rng.choice(["plain", "plain", "stripes", "checks"])), outfit.accessory, outfit.top_second, SIZE
        ),
    }
    folds = {"top": 0.5, "sleeve": 0.7, "bottom": 0.5, "leg": 0.6, "hair": 0.5, "bag": 0.4, "accessory": 0.4}
    made = [np.concatenate([pictures[slot], slopes(rng, SIZE, folds.get(slot, 0.05))], axis=2) for slot in SLOTS]
    return np.asarray(np.clip(np.stack(made), -1.0, 1.0), np.float32)


def _grid() -> tuple[Floats, Floats]:
    """Column -0.5..0.5 from the front, [1, T], and row 0..1, [T, 1]."""
    steps = ((np.arange(SIZE) + 0.5) / SIZE).astype(np.float32)
    return steps[None] - 0.5, steps[:, None]


def _plain(colour: Colour) -> Floats:
    return np.broadcast_to(np.asarray(colour, np.float32), (SIZE, SIZE, 3)).copy()


def _top(rng: np.random.Generator, cloth: Floats, outfit: Outfit) -> Floats:
    x, y = _grid()
    if outfit.open_front:
        gap = np.abs(x) < rng.uniform(0.02, 0.07) + 0.06 * y
        cloth[gap & (y < 2)] = outfit.inner
    elif outfit.has_print:
        _print(rng, cloth, outfit)
    elif rng.random() < 0.35:
        cloth[(np.abs(x) < 0.012) & (y > 0.1)] *= 0.7
    neck = np.abs(x) * rng.uniform(0.9, 2.0) + y < rng.uniform(0.13, 0.26)
    cloth[neck & (y < 2)] = outfit.skin if rng.random() < 0.7 else outfit.inner
    if rng.random() < 0.3:
        cloth[(y < 0.16) & ~neck] = cloth[(y < 0.16) & ~neck] * 0.3 + 0.7 * np.asarray(outfit.top_second, np.float32)
    _straps(cloth, outfit)
    return cloth


def _print(rng: np.random.Generator, cloth: Floats, outfit: Outfit) -> None:
    """A picture or a few letters on the chest, a small badge, or a big number on the back as well."""
    x, y = _grid()
    colour = np.asarray(outfit.inner, np.float32)
    if abs(float(colour.mean()) - float(np.mean(outfit.top))) < 0.25:
        colour = 1.0 - np.asarray(outfit.top, np.float32) * 0.8
    middle, wide, high = rng.uniform(0.3, 0.42), rng.uniform(0.05, 0.11), rng.uniform(0.04, 0.14)
    kind = rng.integers(5)
    if kind == 0:
        mark = ellipse(x, y - middle, wide, high)
    elif kind == 1:
        blocks = np.repeat(rng.random((1, 16)) < 0.6, SIZE // 16, axis=1)
        mark = (np.abs(x) < wide) & (np.abs(y - middle) < 0.035) & blocks
    elif kind == 2:
        mark = (np.abs(x) < wide) & (np.abs(y - middle) < high) & (noise(rng, SIZE, 12, 1.0) > 1.0)
    elif kind == 3:
        mark = (np.abs(x - 0.07) < 0.025) & (np.abs(y - 0.28) < 0.03)
    else:
        mark = (np.abs(y - middle) < high * 0.5) & (np.abs(x) < 0.5 * rng.uniform(0.4, 1.1))
    cloth[mark] = colour
    if rng.random() < 0.3:
        behind = (np.abs(np.abs(x) - 0.5) < wide * 0.8) & (np.abs(y - 0.35) < 0.07)
        cloth[behind & (y < 2)] = colour


def _straps(cloth: Floats, outfit: Outfit) -> None:
    x, y = _grid()
    if outfit.straps == "pack":
        band = (np.abs(np.abs(x) - 0.12) < 0.022) & (y < 0.5)
    elif outfit.straps == "cross":
        front = np.abs((x + 0.02) * 1.9 - (y - 0.35)) < 0.045
        back = np.abs((np.abs(x) - 0.5) * -1.9 * np.sign(x) - (0.35 - y)) < 0.045
        band = np.where(np.abs(x) < 0.25, front, back) & (y < 0.68)
    else:
        return
    cloth[band] = np.asarray(outfit.bag, np.float32) * 0.85


def _cuffs(rng: np.random.Generator, cloth: Floats, outfit: Outfit) -> Floats:
    _, y = _grid()
    if rng.random() < 0.2:
        start = rng.uniform(0.1, 0.8)
        ring = np.broadcast_to((y > start) & (y < start + 0.08), cloth.shape[:2])
        cloth[ring] = outfit.top_second
    return cloth


def _bottom(rng: np.random.Generator, cloth: Floats, outfit: Outfit) -> Floats:
    x, y = _grid()
    if not outfit.dress and rng.random() < 0.5:
        belt = np.broadcast_to(np.abs(y - 0.12) < 0.03, cloth.shape[:2])
        cloth[belt] = cloth[belt] * 0.2 + 0.8 * np.asarray(outfit.shoe, np.float32)
    pockets = (np.abs(np.abs(x) - 0.38) < 0.07) & (np.abs(y - 0.3) < 0.05)
    cloth[pockets] *= 0.85
    return cloth


def _leg(rng: np.random.Generator, cloth: Floats, outfit: Outfit) -> Floats:
    x, y = _grid()
    if outfit.side_stripe:
        cloth[(np.abs(x + 0.25) < 0.05) & (y < 2)] = outfit.inner
    fade = rng.uniform(0.0, 0.35) * np.exp(-((x / 0.12) ** 2)) * np.exp(-(((y - 0.3) / 0.2) ** 2))
    cloth += (0.75 - cloth) * (fade * (rng.random() < 0.4))[..., None]
    if rng.random() < 0.15:
        cloth[np.broadcast_to(y > 0.93, cloth.shape[:2])] *= 1.35
    return cloth


def _face(rng: np.random.Generator, outfit: Outfit) -> Floats:
    """Row 0 is the chin, row 1 the crown: eyes, brows, mouth, beard, hairline."""
    face = _plain(outfit.skin)
    x, y = _grid()
    for side in (-1, 1):
        face[ellipse(x - side * 0.085, y - 0.57, 0.03, 0.022)] = np.asarray(outfit.skin) * 0.3
        face[ellipse(x - side * 0.085, y - 0.635, 0.05, 0.012)] *= 0.55
    face[ellipse(x, y - 0.30, 0.055, 0.022)] = np.asarray(outfit.skin) * (0.8, 0.5, 0.5)
    shade = np.exp(-((x / 0.18) ** 2) - ((y - 0.58) / 0.06) ** 2) * 0.2
    face *= (1 - shade)[..., None]
    if outfit.beard:
        face[(y < 0.36) & (np.abs(x) < 0.27) & np.logical_not(ellipse(x, y - 0.30, 0.05, 0.025))] *= 0.55
    hairline = 0.76 - 0.08 * outfit.fringe + 0.1 * (rng.random() < 0.1) - 2.2 * np.clip(np.abs(x) - 0.2, 0, 1)
    covered = y > np.maximum(hairline, 0.12)
    face[covered] = outfit.hair
    return face


def _hair(rng: np.random.Generator, colour: Colour) -> Floats:
    strands = np.repeat(noise(rng, SIZE, 32, 0.22)[:1], SIZE, axis=0)
    return _plain(colour) * strands[..., None]


def _shoe(outfit: Outfit) -> Floats:
    """Column T/2 is the upper side of the shoe, the edges are its sole; row 0 is the heel."""
    shoe = _plain(outfit.shoe)
    x, y = _grid()
    shoe[(np.abs(x) > 0.33) & (y < 2)] = outfit.sole
    shoe[(np.abs(x) < 0.1) & (np.abs(y - 0.55) < 0.12)] = np.asarray(outfit.sole, np.float32) * 0.6 + 0.2
    return shoe


def _bag(rng: np.random.Generator, colour: Colour) -> Floats:
    bag = _plain(colour) * noise(rng, SIZE, 6, 0.06)[..., None]
    x, y = _grid()
    pocket = (np.abs(x) < 0.16) & (np.abs(y - 0.6) < 0.16)
    edge = pocket & ~((np.abs(x) < 0.14) & (np.abs(y - 0.6) < 0.14))
    bag[edge] *= 0.6
    if rng.random() < 0.4:
        bag[(np.abs(x) < 0.06) & (np.abs(y - rng.uniform(0.3, 0.6)) < 0.05)] = rng.uniform(0.1, 0.9, 3)
    bag[(np.abs(y - 0.33) < 0.012) & (np.abs(x) < 0.3)] *= 0.5
    return bag
