"""Who walks there: the numbers of a body, and the colours of an outfit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
"""float32 unless said otherwise."""
Colour = tuple[float, float, float]
"""RGB in 0..1."""


@dataclass(frozen=True, slots=True)
class Body:
    """The geometry of people; every field is float32, [F] for F figures. Lengths are shares of the height unless said.

    Attributes:
        height: metres. build: thickness of limbs and trunk, 1 is average. shoulders, hips: width factors.
        belly: extra depth of the trunk. bust: extra depth of the chest. head: size factor.
        sleeve, trouser: covered share of arm and leg, 0..1. skirt, tail: length below the waist of a skirt and of
            the top garment, 0 for none. flare: hem width over waist width. loose_top, loose_leg: cloth over limb
            thickness.
        hair_volume, hair_back, ponytail, bun: hair geometry, 0 for none. hat, brim, scarf: 0 or size factor.
        backpack, side_bag, hand_bag: 0 or size factor; bag_side: -1 right, 1 left. shoe: size factor.
        stride: step angle in radians. swing: arm swing in radians.
        elbow: bend in radians. lean: of the trunk in radians. stance: distance of the feet.
    """

    height: Floats
    build: Floats
    shoulders: Floats
    hips: Floats
    belly: Floats
    bust: Floats
    head: Floats
    sleeve: Floats
    trouser: Floats
    skirt: Floats
    tail: Floats
    flare: Floats
    loose_top: Floats
    loose_leg: Floats
    hair_volume: Floats
    hair_back: Floats
    ponytail: Floats
    bun: Floats
    hat: Floats
    brim: Floats
    scarf: Floats
    backpack: Floats
    side_bag: Floats
    hand_bag: Floats
    bag_side: Floats
    shoe: Floats
    stride: Floats
    swing: Floats
    elbow: Floats
    lean: Floats
    stance: Floats


@dataclass(frozen=True, slots=True)
class Outfit:
    """Colours (RGB in 0..1) and patterns of one person; ``seed`` draws everything finer."""

    seed: int
    skin: Colour
    hair: Colour
    top: Colour
    top_second: Colour
    sleeve: Colour
    inner: Colour
    bottom: Colour
    bottom_second: Colour
    leg: Colour
    shoe: Colour
    sole: Colour
    bag: Colour
    accessory: Colour
    top_pattern: str
    bottom_pattern: str
    has_print: bool
    open_front: bool
    side_stripe: bool
    straps: str
    beard: bool
    fringe: float
    dress: bool
    leggings: bool


@dataclass(frozen=True, slots=True)
class Person:
    """One person: a :class:`Body` of scalars and an :class:`Outfit`."""

    body: Body
    outfit: Outfit


def stack(bodies: Sequence[Body]) -> Body:
    """Bodies as one Body whose fields have a leading dimension [F]."""
    return Body(**{f.name: np.stack([getattr(body, f.name) for body in bodies]) for f in fields(Body)})
