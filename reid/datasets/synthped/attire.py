"""What is on top of the body: the head, its hair, hats and scarves, and bags."""

from __future__ import annotations

import numpy as np

from reid.datasets.synthped.parts import DOWN, Builder, along
from reid.datasets.synthped.people import Body, Floats
from reid.datasets.synthped.pose import CHIN, SHOULDER, Skeleton


def add_head(builder: Builder, body: Body, bones: Skeleton) -> None:
    """Neck, head and nose."""
    height, unit, front = body.height, body.height * body.head, bones.head_front
    collar = bones.neck - along(bones.up, 0.037 * height)
    throat = (0.058 * height * body.build**0.5, 0.029 * height)
    place = ("skin", 0.0, 1.0)
    builder.add("neck", (collar, _chin(body, bones)), bones.chest_front, throat, place, scale=(1.0, 0.6, 0.8))

    def at(up: float, forward: float) -> Floats:
        return _on_head(body, bones, up, forward)

    builder.add(
        "head",
        (at(0.02, 0.018), at(0.073, 0.008)),
        front,
        (0.034 * unit, 0.046 * unit),
        ("head", 0.0, 1.0),
        scale=(0.95, 1.0, 1.22),
    )
    builder.add("nose", (at(0.052, 0.062), at(0.038, 0.07)), front, (0.004 * unit, 0.008 * unit), ("skin", 0.0, 1.0))


def _chin(body: Body, bones: Skeleton) -> Floats:
    lift = 0.005 * body.height
    return bones.neck + along(bones.up, lift) + along(bones.head_up, (CHIN - SHOULDER - 0.004) * body.height)


def _on_head(body: Body, bones: Skeleton, up: float, forward: float) -> Floats:
    """A point above and in front of the chin; shares of the person's height, [F, 3]."""
    unit = body.height * body.head
    return _chin(body, bones) + along(bones.head_up, up * unit) + along(bones.head_front, forward * unit)


def add_headwear(builder: Builder, body: Body, bones: Skeleton) -> None:
    """Hat, brim and scarf."""
    height, unit, front = body.height, body.height * body.head, bones.head_front

    def at(up: float, forward: float) -> Floats:
        return _on_head(body, bones, up, forward)

    hat_r = 0.052 * unit * np.maximum(body.hat, 0.1)
    builder.add(
        "hat",
        (at(0.082, 0.004), at(0.098, 0.002)),
        front,
        (hat_r, hat_r * 0.95),
        ("accessory", 0.5, 0.0),
        scale=(0.98, 0.9, 1.15),
        cut=(-0.1, 9.0),
        active=body.hat,
    )
    brim = np.maximum(body.brim, 0.1)
    wide = body.brim > 1.2
    rim = at(0.083, 0.0) + along(front, np.where(wide, 0.0, 0.035) * unit)
    rim_r = 0.054 * unit * np.where(wide, brim, 1.0)
    builder.add(
        "brim",
        (rim, rim + bones.head_up * 0.001),
        front,
        (rim_r, rim_r),
        ("accessory", 0.9, 0.6),
        scale=(0.9, 0.14, 1.0),
        active=body.brim * body.hat,
    )
    collar = bones.neck + along(bones.up, 0.02 * height)
    builder.add(
        "scarf",
        (collar - along(bones.up, 0.012 * height), collar + along(bones.up, 0.02 * height)),
        bones.chest_front,
        (0.062 * height * np.maximum(body.scarf, 0.1), 0.05 * height * np.maximum(body.scarf, 0.1)),
        ("accessory", 0.0, 1.0),
        scale=(1.0, 0.6, 0.95),
        active=body.scarf,
    )


def add_hair(builder: Builder, body: Body, bones: Skeleton) -> None:
    """Hair on the skull, long hair, a ponytail, a bun."""
    unit, front = body.height * body.head, bones.head_front
    crown = np.where(body.hat > 0, 1.0, body.hair_volume)
    root = _on_head(body, bones, 0.07, 0.0)
    tilt = _on_head(body, bones, 0.073, 0.002) + (bones.head_up * 0.8 - front * 0.6) * (0.02 * unit)[:, None]
    builder.add(
        "hair",
        (root, tilt),
        front,
        (0.0485 * unit * crown, 0.049 * unit * crown),
        ("hair", 0.0, 1.0),
        scale=(0.98, 1.0, 1.2),
        cut=(0.0, 9.0),
        active=body.hair_volume,
    )
    skull = bones.neck + along(bones.head_up, 0.135 * body.height)
    behind = skull - along(front, 0.022 * unit)
    tips = (
        bones.neck - along(bones.chest_front, 0.05 * body.height) + along(DOWN, (body.hair_back - 0.08) * body.height)
    )
    builder.add(
        "hair_back",
        (behind, tips),
        -front,
        (0.046 * unit, 0.048 * unit),
        ("hair", 0.0, 1.0),
        scale=(1.05, 0.6, 0.62),
        active=body.hair_back,
    )
    tie = skull - along(front, 0.062 * unit) + along(bones.head_up, 0.01 * unit)
    length = body.ponytail * 0.11 * body.height
    builder.add(
        "ponytail",
        (tie, tie + along(DOWN, length) - along(front, 0.25 * length)),
        -front,
        (0.02 * unit, 0.014 * unit),
        ("hair", 0.0, 1.0),
        active=body.ponytail,
    )
    knot = skull - along(front, 0.045 * unit) + along(bones.head_up, 0.04 * unit)
    builder.add(
        "bun",
        (knot, knot + bones.head_up * 0.001),
        front,
        (0.026 * unit, 0.026 * unit),
        ("hair", 0.0, 1.0),
        active=body.bun,
    )


def add_bags(builder: Builder, body: Body, bones: Skeleton) -> None:
    """Backpack, shoulder bag and hand bag."""
    height = body.height
    lateral = np.cross(bones.up, bones.chest_front)
    pack = body.backpack * height
    spine = bones.neck - along(bones.chest_front, 0.075 * height + 0.045 * pack) - along(bones.up, 0.045 * height)
    builder.add(
        "backpack",
        (spine, spine - along(bones.up, 0.12 * pack)),
        -bones.chest_front,
        (0.078 * pack, 0.088 * pack),
        ("bag", 0.0, 1.0),
        scale=(1.0, 0.75, 0.62),
        active=body.backpack,
    )
    hip = bones.hip + along(lateral, body.bag_side * (0.125 * height)) + along(bones.up, 0.01 * height)
    size = body.side_bag * height
    forward = along(bones.front, 0.045 * size)
    builder.add(
        "side_bag",
        (hip - forward, hip + forward),
        lateral,
        (0.062 * size, 0.062 * size),
        ("bag", 0.0, 1.0),
        scale=(0.95, 0.6, 0.42),
        active=body.side_bag,
    )
    left = body.bag_side[:, None] > 0
    hand = np.where(left, bones.left_arm.tip, bones.right_arm.tip) + along(DOWN, 0.055 * height)
    carried = body.hand_bag * height
    stretch = along(bones.front, 0.035 * carried)
    builder.add(
        "hand_bag",
        (hand - stretch, hand + stretch),
        -DOWN,
        (0.052 * carried, 0.052 * carried),
        ("bag", 0.0, 1.0),
        scale=(0.35, 0.6, 1.0),
        active=body.hand_bag,
    )
