"""What they are made of: trunk, arms and legs, each part a swept ellipsoid with its place on a texture."""

from __future__ import annotations

import numpy as np

from reid.datasets.synthped.attire import add_bags, add_hair, add_head, add_headwear
from reid.datasets.synthped.parts import DOWN, Builder, Charts, Number, along
from reid.datasets.synthped.people import Body, Floats
from reid.datasets.synthped.pose import HIP, SHOULDER, Limb, Skeleton
from reid.datasets.synthped.raycast import Primitives

TOP_RANGE = (SHOULDER + 0.03, SHOULDER - 0.43)
"""Heights (shares of the person's) of the first and the last row of the top garment's texture."""
BOTTOM_RANGE = (0.64, 0.20)
"""The same of the lower garment's."""


def build(body: Body, bones: Skeleton) -> tuple[Primitives, Charts]:
    """Dress skeletons.

    Args:
        body: of F figures.
        bones: their joints.

    Returns:
        P = len(PARTS) primitives and their places on the textures.
    """
    builder = Builder(len(body.height))
    _trunk(builder, body, bones)
    add_head(builder, body, bones)
    add_headwear(builder, body, bones)
    add_hair(builder, body, bones)
    add_bags(builder, body, bones)
    for side, arm, leg in (("left", bones.left_arm, bones.left_leg), ("right", bones.right_arm, bones.right_leg)):
        _arm(builder, body, arm, bones.chest_front, side)
        _leg(builder, body, leg, bones.front, side)
    return builder.stacked()


def rows_of(start: Number, end: Number, span: tuple[float, float]) -> tuple[Number, Number]:
    """Texture rows of two heights (shares of the person's) on a texture that covers ``span``."""
    top, bottom = span
    return (top - start) / (top - bottom), (top - end) / (top - bottom)


def _trunk(builder: Builder, body: Body, bones: Skeleton) -> None:
    height, build, loose = (body.height, body.build, body.loose_top)
    slim = 0.55 + 0.45 * build

    def at(share: float) -> Floats:
        return bones.hip + along(bones.up, (share - HIP) * height)

    hip_r, waist_r = (0.096 * height * body.hips, 0.09 * height * slim)
    chest_r = 0.107 * height * body.shoulders * (0.75 + 0.25 * build)
    seat = at(HIP) - along(bones.front, 0.01 * height)
    trousers = (1.0, 0.75, 0.72 + 0.5 * body.belly)
    builder.add(
        "pelvis",
        (seat, at(0.58)),
        bones.front,
        (hip_r, waist_r * 1.02),
        ("bottom", *rows_of(0.46, 0.64, BOTTOM_RANGE)),
        scale=trousers,
    )
    paunch = at(0.6) + along(bones.front, 0.05 * body.belly * height)
    deep = (1.0, 0.8, 0.74 + 0.9 * body.belly)
    shirt = 0.97 + 0.25 * (loose - 1)
    builder.add(
        "belly",
        (paunch, at(0.67)),
        bones.front,
        (waist_r * 1.02 * shirt, waist_r * 1.05 * shirt),
        ("top", *rows_of(0.54, 0.74, TOP_RANGE)),
        scale=deep,
    )
    broad = (1.0, 0.4, 0.66 + 0.4 * body.bust)
    builder.add(
        "chest",
        (at(0.655), at(0.775)),
        bones.chest_front,
        (waist_r * 1.04 * shirt, chest_r * (0.9 + 0.1 * loose)),
        ("top", *rows_of(0.615, 0.83, TOP_RANGE)),
        scale=broad,
    )
    _hems(builder, body, bones, waist_r, hip_r)


def _hems(builder: Builder, body: Body, bones: Skeleton, waist_r: Floats, hip_r: Floats) -> None:
    """The parts of top garment, dress and skirt that hang below the waist: open cones."""
    height = body.height
    waist = bones.waist - along(bones.up, 0.005 * height)
    step = body.stride * 0.28
    for part, length, slot, span in (
        ("tail", body.tail, "top", TOP_RANGE),
        ("skirt", body.skirt, "bottom", BOTTOM_RANGE),
    ):
        hem = waist + along(DOWN, length * height)
        widen = np.clip(length / 0.12, 0, 1)
        narrow = np.maximum(waist_r, 0.085 * height) * (0.97 + 0.15 * (body.loose_top - 1))
        wide = np.maximum(hip_r * (1.0 + 0.1 * widen), narrow) * (
            1 + (body.flare - 1) * np.clip(length / 0.35, 0.15, 1)
        )
        builder.add(
            part,
            (waist, hem),
            bones.front,
            (narrow, wide),
            (slot, *rows_of(0.685, 0.635 - length, span)),
            scale=(1.0, 0.5, 0.78 + 0.5 * body.belly + step * np.clip((length - 0.12) / 0.2, 0, 1)),
            cut=(-9.0, 1.0),
            active=length,
        )


def _arm(builder: Builder, body: Body, arm: Limb, front: Floats, side: str) -> None:
    height, thick = (body.height, 0.35 + 0.65 * body.build)
    bare = (0.031 * height * thick, 0.0255 * height * thick, 0.0175 * height)
    cloth = [radius * body.loose_top + 0.002 * height for radius in bare]
    upper, lower = (np.clip(body.sleeve / 0.55, 0, 1), np.clip((body.sleeve - 0.55) / 0.4, 0, 1))
    builder.add(f"{side}_upper_arm", (arm.start, arm.middle), front, bare[:2], ("skin", 0.0, 1.0), active=upper < 1)
    builder.add(f"{side}_forearm", (arm.middle, arm.end), front, bare[1:], ("skin", 0.0, 1.0), active=lower < 1)
    builder.add(
        f"{side}_hand",
        (arm.end, arm.tip),
        front,
        (0.017 * height, 0.021 * height),
        ("skin", 0.0, 1.0),
        scale=(0.7, 1.0, 1.0),
    )
    elbow = arm.start + (arm.middle - arm.start) * upper[:, None]
    wrist = arm.middle + (arm.end - arm.middle) * lower[:, None]
    end = cloth[0] + (cloth[1] - cloth[0]) * upper + 0.004 * height * (upper < 1)
    open_at = np.where(upper < 1, 1.0, 9.0)
    builder.add(
        f"{side}_upper_sleeve",
        (arm.start, elbow),
        front,
        (cloth[0] * 1.02, end),
        ("sleeve", 0.0, 0.5 * upper),
        cut=(-9.0, open_at),
        active=body.sleeve,
    )
    builder.add(
        f"{side}_lower_sleeve",
        (arm.middle, wrist),
        front,
        (cloth[1], cloth[2]),
        ("sleeve", 0.5, 0.5 + 0.5 * lower),
        cut=(-9.0, 1.0),
        active=lower,
    )


def _leg(builder: Builder, body: Body, leg: Limb, front: Floats, side: str) -> None:
    height, thick = (body.height, 0.3 + 0.7 * body.build)
    bare = (0.054 * height * thick, 0.036 * height * thick, 0.023 * height)
    calf = (0.037 * height * thick, 0.0215 * height)
    cloth = (bare[0] * (0.75 + 0.25 * body.loose_leg) + 0.003 * height, bare[1] * body.loose_leg + 0.003 * height)
    hem = (0.027 + 0.022 * np.maximum(body.loose_leg - 1.05, 0)) * height
    upper, lower = (np.clip(body.trouser / 0.5, 0, 1), np.clip((body.trouser - 0.5) / 0.45, 0, 1))
    builder.add(f"{side}_thigh", (leg.start, leg.middle), front, bare[:2], ("skin", 0.0, 1.0), active=upper < 1)
    builder.add(f"{side}_shank", (leg.middle, leg.end), front, calf, ("skin", 0.0, 1.0), active=lower < 1)
    sole = leg.end + (leg.tip - leg.end) * 0.1
    heel = sole + along(DOWN, 0.018 * height)
    builder.add(
        f"{side}_shoe",
        (heel, leg.tip + along(DOWN, 0.003 * height)),
        -DOWN,
        (0.027 * height * body.shoe, 0.02 * height * body.shoe),
        ("shoe", 0.0, 1.0),
        scale=(0.85, 1.0, 0.95),
    )
    knee = leg.start + (leg.middle - leg.start) * upper[:, None]
    ankle = leg.middle + (leg.end - leg.middle) * lower[:, None] * 1.04
    end = cloth[0] + (cloth[1] - cloth[0]) * upper + 0.006 * height * (upper < 1)
    open_at = np.where(upper < 1, 1.0, 9.0)
    builder.add(
        f"{side}_upper_trouser",
        (leg.start, knee),
        front,
        (cloth[0], end),
        ("leg", 0.0, 0.5 * upper),
        cut=(-9.0, open_at),
        active=body.trouser,
    )
    builder.add(
        f"{side}_lower_trouser",
        (leg.middle, ankle),
        front,
        (cloth[1], np.maximum(hem, cloth[1] * 0.6)),
        ("leg", 0.5, 0.5 + 0.5 * lower),
        cut=(-9.0, 1.0),
        active=lower,
    )
