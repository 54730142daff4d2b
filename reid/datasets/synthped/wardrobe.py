"""What people tend to look like and to wear, and drawing one of them from a generator."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from reid.datasets.synthped.people import Body, Colour, Outfit, Person

COLOURS: dict[str, Colour] = {
    "black": (0.06, 0.06, 0.07),
    "charcoal": (0.17, 0.17, 0.19),
    "grey": (0.42, 0.42, 0.43),
    "silver": (0.66, 0.66, 0.67),
    "white": (0.90, 0.90, 0.89),
    "navy": (0.10, 0.13, 0.27),
    "denim": (0.24, 0.33, 0.48),
    "blue": (0.17, 0.32, 0.66),
    "sky": (0.58, 0.72, 0.86),
    "khaki": (0.60, 0.53, 0.40),
    "beige": (0.78, 0.71, 0.60),
    "brown": (0.33, 0.22, 0.15),
    "olive": (0.31, 0.33, 0.20),
    "green": (0.15, 0.44, 0.24),
    "teal": (0.12, 0.42, 0.44),
    "red": (0.66, 0.12, 0.14),
    "wine": (0.38, 0.09, 0.15),
    "pink": (0.85, 0.55, 0.62),
    "orange": (0.86, 0.45, 0.15),
    "yellow": (0.88, 0.76, 0.25),
    "purple": (0.40, 0.24, 0.50),
}
SKIN: tuple[Colour, ...] = (
    (0.87, 0.68, 0.56),
    (0.80, 0.59, 0.46),
    (0.72, 0.51, 0.38),
    (0.52, 0.35, 0.25),
    (0.34, 0.22, 0.16),
)
HAIR: tuple[Colour, ...] = (
    (0.05, 0.045, 0.045),
    (0.11, 0.08, 0.06),
    (0.22, 0.15, 0.10),
    (0.42, 0.31, 0.18),
    (0.5, 0.5, 0.5),
)
PATTERNS = ("plain", "stripes", "pinstripes", "checks", "dots", "camouflage", "blocks", "gradient", "blotches")


@dataclass(frozen=True, slots=True)
class Wardrobe:
    """What people of one domain tend to wear: probabilities in 0..1, and weights of colours and patterns.

    Attributes:
        tops, bottoms: colour name -> weight; a name that is missing is never worn.
        patterns: one weight per name of :data:`PATTERNS`.
        prints: a print on the chest. warm: jackets, long sleeves and long trousers. skirts: of those dressed so.
        backpacks, side_bags, hand_bags, hats, scarves: who carries or wears one.
    """

    tops: dict[str, float]
    bottoms: dict[str, float]
    patterns: tuple[float, ...] = (0.5, 0.11, 0.05, 0.1, 0.05, 0.03, 0.07, 0.05, 0.04)
    prints: float = 0.35
    warm: float = 0.3
    skirts: float = 0.45
    backpacks: float = 0.22
    side_bags: float = 0.2
    hand_bags: float = 0.2
    hats: float = 0.1
    scarves: float = 0.05


def sample_person(rng: np.random.Generator, wardrobe: Wardrobe) -> Person:
    """Draw a person.

    Args:
        rng: consumed; the same state gives the same person.
        wardrobe: what people of the domain wear.

    Returns:
        The person; its body's fields are scalars (shape []).
    """
    female = rng.random() < 0.48
    shape = _shape(rng, female)
    clothes, (skirt, dress) = _clothes(rng, wardrobe, female)
    extras, straps = _extras(rng, wardrobe, female)
    values = shape | clothes | extras
    body = Body(**{f.name: np.float32(values[f.name]) for f in fields(Body)})  # type: ignore[arg-type]
    return Person(body, _outfit(rng, wardrobe, female, dress=dress, leggings=skirt, straps=straps))


def _shape(rng: np.random.Generator, female: bool) -> dict[str, float]:
    age = rng.random()
    build = float(np.clip(rng.normal(0.97 if female else 1.03, 0.13), 0.78, 1.45))
    height = rng.normal(1.62, 0.06) if female else rng.normal(1.74, 0.065)
    if age < 0.04:
        height *= rng.uniform(0.72, 0.85)
    return {
        "height": float(np.clip(height, 1.15, 1.98)),
        "build": build,
        "shoulders": rng.normal(0.93 if female else 1.05, 0.04),
        "hips": rng.normal(1.06 if female else 0.97, 0.05) * (0.6 + 0.4 * build),
        "belly": max(0.0, rng.normal(0.35 * (build - 0.95), 0.05)),
        "bust": max(0.0, rng.normal(0.12, 0.06)) if female else 0.0,
        "head": rng.normal(1.08, 0.04),
        "stride": float(np.clip(rng.normal(0.40 - 0.12 * (age > 0.8), 0.07), 0.15, 0.6)),
        "swing": abs(rng.normal(0.38, 0.16)),
        "elbow": rng.uniform(0.1, 0.65),
        "lean": rng.normal(0.05 + 0.1 * (age > 0.85), 0.04),
        "stance": rng.normal(1.0, 0.15),
        "hair_volume": rng.uniform(1.0, 1.12) if female or age < 0.93 else 0.0,
        "shoe": rng.uniform(0.95, 1.12) * (0.92 if female else 1.0),
    }


def _clothes(rng: np.random.Generator, wardrobe: Wardrobe, female: bool) -> tuple[dict[str, float], tuple[bool, bool]]:
    warm = rng.random() < wardrobe.warm
    dressed = female and rng.random() < wardrobe.skirts
    dress = dressed and rng.random() < 0.45
    trouser = 1.0 if warm or rng.random() < 0.5 else float(rng.choice([0.24, 0.34, 0.45, 0.52, 0.75]))
    sleeve = rng.uniform(0.93, 1.0) if warm or rng.random() < 0.15 else rng.choice([0.06, 0.24, 0.3, 0.36, 0.42, 0.7])
    coat = warm and rng.random() < 0.35
    tail = rng.uniform(0.26, 0.44) if dress else rng.uniform(0.2, 0.34) if coat else rng.uniform(0.05, 0.11)
    tucked = not dress and not coat and rng.random() < 0.25
    return {
        "trouser": (0.0 if rng.random() < 0.7 else 1.0) if dressed else trouser,
        "sleeve": float(sleeve),
        "skirt": rng.uniform(0.16, 0.40) if dressed and not dress else 0.0,
        "tail": 0.0 if tucked else tail,
        "flare": rng.uniform(1.05, 1.9) if dressed else rng.uniform(1.0, 1.25),
        "loose_top": rng.uniform(1.12, 1.4) if warm else rng.uniform(1.04, 1.22),
        "loose_leg": rng.uniform(1.02, 1.15) if female else rng.uniform(1.08, 1.4),
    }, (dressed, dress)


def _extras(rng: np.random.Generator, wardrobe: Wardrobe, female: bool) -> tuple[dict[str, float], str]:
    backpack = rng.random() < wardrobe.backpacks
    side_bag = not backpack and rng.random() < wardrobe.side_bags
    style = rng.random()
    hat = rng.random() < wardrobe.hats
    values = {
        "hair_back": rng.uniform(0.10, 0.24) if female and style < 0.5 else 0.0,
        "ponytail": rng.uniform(0.7, 1.3) if female and 0.5 <= style < 0.72 else 0.0,
        "bun": rng.uniform(0.8, 1.2) if female and 0.72 <= style < 0.82 else 0.0,
        "hat": rng.uniform(0.98, 1.08) if hat else 0.0,
        "brim": float(rng.choice([0.0, 0.75, 1.0, 1.5])) if hat else 0.0,
        "scarf": rng.uniform(0.9, 1.2) if rng.random() < wardrobe.scarves else 0.0,
        "backpack": rng.uniform(0.8, 1.25) if backpack else 0.0,
        "side_bag": rng.uniform(0.75, 1.3) if side_bag else 0.0,
        "hand_bag": rng.uniform(0.7, 1.25) if rng.random() < wardrobe.hand_bags else 0.0,
        "bag_side": float(rng.choice([-1.0, 1.0])),
    }
    cross = "cross" if rng.random() < 0.6 else "shoulder"
    return values, "pack" if backpack else cross if side_bag else ""


def _outfit(
    rng: np.random.Generator, wardrobe: Wardrobe, female: bool, *, dress: bool, leggings: bool, straps: str
) -> Outfit:
    top, second = _pick(rng, wardrobe.tops), _pick(rng, wardrobe.tops)
    bottom = top if dress else _pick(rng, wardrobe.bottoms)
    weights = np.asarray(wardrobe.patterns) / sum(wardrobe.patterns)
    skin = SKIN[rng.choice(len(SKIN), p=[0.36, 0.32, 0.18, 0.08, 0.06])]
    shoes = {
        "black": 4.0,
        "charcoal": 2,
        "white": 3,
        "grey": 1,
        "brown": 2,
        "navy": 1,
        "red": 0.5,
        "blue": 0.5,
        "pink": 0.3,
    }
    return Outfit(
        seed=int(rng.integers(2**31)),
        skin=_vary(rng, skin, 0.03),
        hair=_vary(rng, HAIR[rng.choice(len(HAIR), p=[0.5, 0.24, 0.13, 0.07, 0.06])], 0.01),
        top=top,
        top_second=second,
        sleeve=second if rng.random() < 0.14 else top,
        inner=_pick(rng, {"white": 3, "grey": 1, "black": 1, "sky": 1, "red": 0.4}),
        bottom=bottom,
        bottom_second=_pick(rng, wardrobe.bottoms),
        leg=_pick(rng, {"black": 4, "charcoal": 1, "navy": 1}) if leggings else bottom,
        shoe=_pick(rng, shoes),
        sole=_pick(rng, {"white": 2, "black": 2, "brown": 1}),
        bag=_pick(
            rng,
            {
                "black": 6,
                "charcoal": 2,
                "navy": 2,
                "brown": 2,
                "red": 1,
                "beige": 1,
                "pink": 0.6,
                "green": 0.6,
                "blue": 1,
            },
        ),
        accessory=_pick(rng, wardrobe.tops),
        top_pattern=str(rng.choice(PATTERNS, p=weights)),
        bottom_pattern=str(rng.choice(PATTERNS, p=weights)) if rng.random() < 0.3 else "plain",
        has_print=bool(rng.random() < wardrobe.prints),
        open_front=bool(rng.random() < 0.25 and not dress),
        side_stripe=bool(rng.random() < 0.12),
        straps=straps,
        beard=bool(not female and rng.random() < 0.12),
        fringe=float(rng.uniform(0.0, 1.0)),
        dress=dress,
        leggings=leggings,
    )


def _pick(rng: np.random.Generator, weights: dict[str, float]) -> Colour:
    total = np.asarray(list(weights.values()), float)
    name = str(rng.choice(list(weights), p=total / total.sum()))
    return _vary(rng, COLOURS[name], 0.03)


def _vary(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    value = np.asarray(colour) * rng.uniform(0.85, 1.12) + rng.normal(0.0, spread, 3) * (0.3 + np.asarray(colour))
    red, green, blue = np.clip(value, 0.03, 0.95)
    return float(red), float(green), float(blue)
