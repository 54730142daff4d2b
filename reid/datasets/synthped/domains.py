"""The three places: what people wear there, and between what limits their cameras differ."""

from __future__ import annotations

from dataclasses import dataclass

from reid.datasets.synthped.people import Colour
from reid.datasets.synthped.scene import Wall
from reid.datasets.synthped.wardrobe import Wardrobe

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Domain:
    """A place. Every range is (from, to); a camera draws its own value between them once.

    Attributes:
        key: a number that seeds the domain; never change it.
        wardrobe: what people wear.
        walls, colours, things: what cameras see behind people, the colours of walls and of the
            ground, and what stands about.
        elevation: radians. sun: share of the light that comes from one direction. exposure: brightness of a white wall.
        warmth: of the light, 0 white, 1 lamp light, below 0 blue. tint: spread of the cameras' colour gains.
        gamma, saturation, haze, noise, sharpen: see :class:`reid.datasets.synthped.camera.Exposure`.
        native: height in pixels of the nearest people. defocus: blur in pixels of the camera. quality: of the JPEG.
        jitter: of the detector's boxes, share of the height. occlusion: probability of something in front.
        company: probability of another person in view.
        per_image: 0..1, how much of the light and colour changes from image to image instead of camera to camera.
    """

    key: int
    wardrobe: Wardrobe
    walls: tuple[Wall, ...]
    colours: tuple[tuple[Colour, ...], tuple[Colour, ...]]
    things: tuple[str, ...]
    elevation: Range
    sun: Range
    exposure: Range
    warmth: Range
    tint: float
    gamma: Range
    saturation: Range
    haze: Range
    noise: Range
    sharpen: Range
    native: Range
    defocus: Range
    quality: Range
    jitter: float
    occlusion: float
    company: float
    per_image: float


_DARK = {"black": 20.0, "charcoal": 9, "grey": 9, "navy": 8, "denim": 4, "brown": 3, "wine": 2, "olive": 2}
_LIGHT = {"white": 18.0, "silver": 5, "sky": 5, "beige": 4, "khaki": 3, "pink": 4, "yellow": 2}
_BRIGHT = {"red": 6.0, "blue": 7, "green": 4, "teal": 2, "purple": 2, "orange": 2}
_LEGS = {
    "black": 26.0,
    "charcoal": 10,
    "grey": 8,
    "navy": 10,
    "denim": 18,
    "khaki": 8,
    "white": 4,
    "beige": 4,
    "brown": 3,
    "olive": 3,
}

DOMAINS: dict[str, Domain] = {
    "studio": Domain(
        key=1,
        wardrobe=Wardrobe(
            tops={name: weight**0.7 for name, weight in (_DARK | _LIGHT | _BRIGHT).items()},
            bottoms={
                name: weight**0.7
                for name, weight in (_LEGS | {"red": 2, "blue": 4, "green": 1.5, "pink": 2, "sky": 2}).items()
            },
            patterns=(0.42, 0.12, 0.06, 0.12, 0.06, 0.04, 0.09, 0.05, 0.04),
            warm=0.3,
        ),
        walls=("backdrop", "plain", "building", "brick", "shops", "hedge"),
        colours=(
            (
                (0.85, 0.85, 0.86),
                (0.3, 0.3, 0.32),
                (0.6, 0.55, 0.48),
                (0.45, 0.3, 0.26),
                (0.5, 0.58, 0.62),
                (0.12, 0.12, 0.13),
            ),
            (
                (0.75, 0.75, 0.74),
                (0.5, 0.5, 0.5),
                (0.32, 0.32, 0.33),
                (0.6, 0.53, 0.46),
                (0.47, 0.5, 0.42),
                (0.55, 0.42, 0.38),
            ),
        ),
        things=("pole", "bin", "bench", "bicycle", "car", "bush", "rack", "board"),
        elevation=(0.02, 0.5),
        sun=(0.1, 0.55),
        exposure=(0.8, 1.2),
        warmth=(-0.4, 0.5),
        tint=0.05,
        gamma=(0.7, 1.0),
        saturation=(0.7, 1.25),
        haze=(0.0, 0.16),
        noise=(0.003, 0.022),
        sharpen=(0.0, 1.0),
        native=(60, 220),
        defocus=(0.1, 1.2),
        quality=(55, 95),
        jitter=0.04,
        occlusion=0.14,
        company=0.22,
        per_image=0.6,
    ),
    "street": Domain(
        key=2,
        wardrobe=Wardrobe(tops=_DARK | _LIGHT | _BRIGHT, bottoms=_LEGS, warm=0.12, skirts=0.5, backpacks=0.3),
        walls=("building", "brick", "hedge", "building"),
        colours=(((0.16, 0.16, 0.17), (0.42, 0.41, 0.40), (0.58, 0.55, 0.5)), ((0.56, 0.55, 0.53), (0.5, 0.5, 0.5))),
        things=("pole", "bin", "bicycle", "bicycle", "car", "bush", "board"),
        elevation=(0.55, 0.95),
        sun=(0.15, 0.65),
        exposure=(0.85, 1.15),
        warmth=(-0.2, 0.15),
        tint=0.10,
        gamma=(0.65, 1.25),
        saturation=(0.4, 1.5),
        haze=(0.04, 0.3),
        noise=(0.004, 0.016),
        sharpen=(0.3, 1.3),
        native=(40, 130),
        defocus=(0.2, 1.3),
        quality=(65, 90),
        jitter=0.04,
        occlusion=0.16,
        company=0.28,
        per_image=0.1,
    ),
    "mall": Domain(
        key=3,
        wardrobe=Wardrobe(
            tops=_DARK
            | {"white": 9.0, "silver": 4, "beige": 5, "khaki": 4, "red": 4, "blue": 4, "pink": 3, "green": 2},
            bottoms=_LEGS,
            warm=0.75,
            skirts=0.3,
            backpacks=0.2,
            side_bags=0.3,
            hand_bags=0.35,
            hats=0.12,
            scarves=0.16,
            prints=0.2,
        ),
        walls=("shops", "plain", "plain", "building"),
        colours=(((0.72, 0.7, 0.66), (0.5, 0.47, 0.43), (0.3, 0.28, 0.27)), ((0.66, 0.62, 0.56), (0.58, 0.54, 0.5))),
        things=("pole", "bin", "bench", "rack", "board", "bush"),
        elevation=(0.25, 0.7),
        sun=(0.05, 0.4),
        exposure=(0.4, 0.75),
        warmth=(0.1, 0.8),
        tint=0.09,
        gamma=(0.75, 1.25),
        saturation=(0.3, 1.1),
        haze=(0.0, 0.08),
        noise=(0.015, 0.045),
        sharpen=(0.0, 0.8),
        native=(36, 120),
        defocus=(0.3, 1.5),
        quality=(55, 85),
        jitter=0.033,
        occlusion=0.18,
        company=0.3,
        per_image=0.1,
    ),
}
