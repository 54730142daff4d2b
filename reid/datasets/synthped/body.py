"""What they are made of: a skeleton dressed in swept ellipsoids, each with its place on a texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.people import Body, Floats
from reid.datasets.synthped.pose import CHIN, HIP, SHOULDER, Limb, Skeleton
from reid.datasets.synthped.raycast import Primitives

SLOTS = ("top", "sleeve", "bottom", "leg", "head", "hair", "skin", "shoe", "bag", "accessory")
"""The textures of a person; every body part shows a piece of one of them."""

_SIDES = ("left", "right")
_LIMBS = (
    "upper_arm",
    "forearm",
    "hand",
    "upper_sleeve",
    "lower_sleeve",
    "thigh",
    "shank",
    "shoe",
    "upper_trouser",
    "lower_trouser",
)
PARTS: tuple[str, ...] = (
    *("pelvis", "belly", "chest", "tail", "skirt", "neck", "head", "nose", "hair", "hair_back", "ponytail", "bun"),
    *("hat", "brim", "scarf", "backpack", "side_bag", "hand_bag"),
    *(f"{side}_{limb}" for side in _SIDES for limb in _LIMBS),
)
"""Body parts; the index of a name is its number in the part buffer."""

TOP_RANGE = (SHOULDER + 0.03, SHOULDER - 0.43)
BOTTOM_RANGE = (0.64, 0.20)


@dataclass(frozen=True, slots=True)
class Charts:
    """Where the parts lie on the textures, [F, P] each.

    ``slot``: index into :data:`SLOTS`. ``offset``, ``extent``: texture row = offset + extent * v, in 0..1.
    ``mirror``: right limbs run the other way round, so both insides show the same column.
    """

    slot: NDArray[np.int32]
    offset: Floats
    extent: Floats
    mirror: NDArray[np.bool_]


@dataclass(slots=True)
class _Row:
    """One primitive of all figures, before they are stacked."""

    origin: Floats
    frame: Floats
    length: Floats
    radii: tuple[Floats, Floats]
    scale: Floats
    cut: tuple[Floats, Floats]
    active: NDArray[np.bool_]
    slot: str
    rows: tuple[Floats, Floats]
    mirror: bool


class _Builder:
    """Collects primitives by part name; numbers are broadcast to F figures."""

    def __init__(self, num: int) -> None:
        self.num = num
        self.made: dict[str, _Row] = {}

    def numbers(self, value: Floats | float) -> Floats:
        return np.broadcast_to(np.asarray(value, np.float32), (self.num,))

    def add(
        self,
        part: str,
        axis: tuple[Floats, Floats],
        front: Floats,
        radii: tuple[Floats | float, Floats | float],
        slot: str,
        *,
        scale: tuple[Floats | float, Floats | float, Floats | float] = (1.0, 1.0, 1.0),
        rows: tuple[Floats | float, Floats | float] = (0.0, 1.0),
        cut: tuple[Floats | float, Floats | float] = (-9.0, 9.0),
        active: Floats | float = 1.0,
    ) -> None:
        """``axis`` start and end [F, 3]; ``rows`` of the texture at the start and the end of the surface."""
        start, end = axis
        length = np.maximum(np.linalg.norm(end - start, axis=1), 1e-4).astype(np.float32)
        self.made[part] = _Row(
            origin=start,
            frame=_frame((end - start) / length[:, None], front),
            length=length,
            radii=(self.numbers(radii[0]), self.numbers(radii[1])),
            scale=np.stack([self.numbers(value) for value in scale], axis=1),
            cut=(self.numbers(cut[0]), self.numbers(cut[1])),
            active=self.numbers(active) > 0,
            slot=slot,
            rows=(self.numbers(rows[0]), self.numbers(rows[1])),
            mirror=part.startswith("right"),
        )

    def stacked(self) -> tuple[Primitives, Charts]:
        rows = [self.made[part] for part in PARTS]
        numbers = [[r.length, *r.radii, *r.cut, *r.rows] for r in rows]
        length, first, last, low, high, row0, row1 = np.stack([np.stack(values) for values in numbers]).transpose(
            1, 2, 0
        )
        primitives = Primitives(
            origin=np.stack([r.origin for r in rows], axis=1),
            frame=np.stack([r.frame for r in rows], axis=1),
            length=length,
            start_radius=first,
            end_radius=last,
            scale=np.stack([r.scale for r in rows], axis=1),
            low=low,
            high=high,
            active=np.stack([r.active for r in rows], axis=1),
        )
        slot = np.array([SLOTS.index(r.slot) for r in rows], np.int32)
        mirror = np.array([r.mirror for r in rows])
        whole = (self.num, len(rows))
        return primitives, Charts(np.broadcast_to(slot, whole), row0, row1 - row0, np.broadcast_to(mirror, whole))


def build(body: Body, bones: Skeleton) -> tuple[Primitives, Charts]:
    """Dress skeletons.

    Args:
        body: of F figures.
        bones: their joints.

    Returns:
        P = len(PARTS) primitives and their places on the textures.
    """
    builder = _Builder(len(body.height))
    _trunk(builder, body, bones)
    _head(builder, body, bones)
    _hair(builder, body, bones)
    _bags(builder, body, bones)
    for side, arm, leg in (("left", bones.left_arm, bones.left_leg), ("right", bones.right_arm, bones.right_leg)):
        _arm(builder, body, arm, bones.chest_front, side)
        _leg(builder, body, leg, bones.front, side)
    return builder.stacked()


def _frame(axis: Floats, front: Floats) -> Floats:
    front = front - (front * axis).sum(axis=1, keepdims=True) * axis
    front = front / np.maximum(np.linalg.norm(front, axis=1, keepdims=True), 1e-6)
    return np.stack([np.cross(axis, front), axis, front], axis=2).astype(np.float32)


def _rows(start: Floats | float, end: Floats | float, span: tuple[float, float]) -> tuple[Floats, Floats]:
    """Texture rows of two heights (shares of the person's height) on a texture that spans ``span``."""
    top, bottom = span
    return np.float32((top - np.asarray(start)) / (top - bottom)), np.float32((top - np.asarray(end)) / (top - bottom))


def _trunk(builder: _Builder, body: Body, bones: Skeleton) -> None:
    height, build, loose = body.height, body.build, body.loose_top
    slim = 0.55 + 0.45 * build

    def at(share: float) -> Floats:
        return bones.hip + bones.up * ((share - HIP) * height)[:, None]

    hip_r, waist_r = 0.096 * height * body.hips, 0.090 * height * slim
    chest_r = 0.107 * height * body.shoulders * (0.75 + 0.25 * build)
    seat = at(HIP) - bones.front * (0.010 * height)[:, None]
    trousers = (1.0, 0.75, 0.72 + 0.5 * body.belly)
    builder.add(
        "pelvis",
        (seat, at(0.58)),
        bones.front,
        (hip_r, waist_r * 1.02),
        "bottom",
        scale=trousers,
        rows=_rows(0.46, 0.64, BOTTOM_RANGE),
    )
    paunch = at(0.60) + bones.front * (0.05 * body.belly * height)[:, None]
    deep = (1.0, 0.8, 0.74 + 0.9 * body.belly)
    shirt = 0.97 + 0.25 * (loose - 1)
    builder.add(
        "belly",
        (paunch, at(0.67)),
        bones.front,
        (waist_r * 1.02 * shirt, waist_r * 1.05 * shirt),
        "top",
        scale=deep,
        rows=_rows(0.54, 0.74, TOP_RANGE),
    )
    broad = (1.0, 0.40, 0.66 + 0.4 * body.bust)
    builder.add(
        "chest",
        (at(0.655), at(0.775)),
        bones.chest_front,
        (waist_r * 1.04 * shirt, chest_r * (0.9 + 0.1 * loose)),
        "top",
        scale=broad,
        rows=_rows(0.615, 0.83, TOP_RANGE),
    )
    _hems(builder, body, bones, waist_r, hip_r)


def _hems(builder: _Builder, body: Body, bones: Skeleton, waist_r: Floats, hip_r: Floats) -> None:
    """The parts of top garment, dress and skirt that hang below the waist: open cones."""
    height = body.height
    waist = bones.waist - bones.up * (0.005 * height)[:, None]
    down = vector_down(bones)
    step = body.stride * 0.28
    for part, length, slot, span in (
        ("tail", body.tail, "top", TOP_RANGE),
        ("skirt", body.skirt, "bottom", BOTTOM_RANGE),
    ):
        hem = waist + down * (length * height)[:, None]
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
            slot,
            scale=(1.0, 0.5, 0.78 + 0.5 * body.belly + step * np.clip((length - 0.12) / 0.2, 0, 1)),
            rows=_rows(0.685, 0.635 - length, span),
            cut=(-9.0, 1.0),
            active=length,
        )


def vector_down(bones: Skeleton) -> Floats:
    """Cloth hangs straight down, whatever the trunk does."""
    down = np.zeros_like(bones.up)
    down[:, 1] = -1.0
    return down


def _head(builder: _Builder, body: Body, bones: Skeleton) -> None:
    height, size, front = body.height, body.head, bones.head_front
    base = bones.neck + bones.up * (0.005 * height)[:, None]
    top = base + bones.head_up * ((CHIN - SHOULDER - 0.004) * height)[:, None]
    builder.add(
        "neck",
        (base - bones.up * (0.042 * height)[:, None], top),
        bones.chest_front,
        (0.058 * height * body.build**0.5, 0.029 * height),
        "skin",
        scale=(1.0, 0.6, 0.8),
    )

    def at(up: float, forward: float) -> Floats:
        return top + bones.head_up * (up * height * size)[:, None] + front * (forward * height * size)[:, None]

    unit = height * size
    builder.add(
        "head",
        (at(0.020, 0.018), at(0.073, 0.008)),
        front,
        (0.034 * unit, 0.046 * unit),
        "head",
        scale=(0.95, 1.0, 1.22),
    )
    builder.add("nose", (at(0.052, 0.062), at(0.038, 0.070)), front, (0.004 * unit, 0.008 * unit), "skin")
    crown = np.where(body.hat > 0, 1.0, body.hair_volume)
    tilt = at(0.073, 0.002) + (bones.head_up * 0.8 - front * 0.6) * (0.02 * unit)[:, None]
    builder.add(
        "hair",
        (at(0.070, 0.000), tilt),
        front,
        (0.0485 * unit * crown, 0.049 * unit * crown),
        "hair",
        scale=(0.98, 1.0, 1.2),
        cut=(0.0, 9.0),
        active=body.hair_volume,
    )
    hat_r = 0.052 * unit * np.maximum(body.hat, 0.1)
    builder.add(
        "hat",
        (at(0.082, 0.004), at(0.098, 0.002)),
        front,
        (hat_r, hat_r * 0.95),
        "accessory",
        scale=(0.98, 0.9, 1.15),
        cut=(-0.1, 9.0),
        active=body.hat,
        rows=(0.5, 0.0),
    )
    brim = np.maximum(body.brim, 0.1)
    wide = body.brim > 1.2
    forward = np.where(wide, 0.0, 0.035).astype(np.float32)
    rim = top + bones.head_up * (0.083 * unit)[:, None] + front * (forward * unit)[:, None]
    builder.add(
        "brim",
        (rim, rim + bones.head_up * 1e-3),
        front,
        (0.054 * unit * np.where(wide, brim, 1.0), 0.054 * unit * np.where(wide, brim, 1.0)),
        "accessory",
        scale=(0.9, 0.14, 1.0),
        active=body.brim * body.hat,
        rows=(0.9, 0.6),
    )
    collar = bones.neck + bones.up * (0.02 * height)[:, None]
    builder.add(
        "scarf",
        (collar - bones.up * (0.012 * height)[:, None], collar + bones.up * (0.02 * height)[:, None]),
        bones.chest_front,
        (0.062 * height * np.maximum(body.scarf, 0.1), 0.05 * height * np.maximum(body.scarf, 0.1)),
        "accessory",
        scale=(1.0, 0.6, 0.95),
        active=body.scarf,
    )


def _hair(builder: _Builder, body: Body, bones: Skeleton) -> None:
    unit, front = body.height * body.head, bones.head_front
    skull = bones.neck + bones.head_up * (0.135 * body.height)[:, None]
    down = vector_down(bones)
    behind = skull - front * (0.022 * unit)[:, None]
    tips = (
        bones.neck
        - bones.chest_front * (0.050 * body.height)[:, None]
        + down * ((body.hair_back - 0.08) * body.height)[:, None]
    )
    builder.add(
        "hair_back",
        (behind, tips),
        -front,
        (0.046 * unit, 0.048 * unit),
        "hair",
        scale=(1.05, 0.6, 0.62),
        active=body.hair_back,
    )
    root = skull - front * (0.062 * unit)[:, None] + bones.head_up * (0.01 * unit)[:, None]
    length = body.ponytail * 0.11 * body.height
    builder.add(
        "ponytail",
        (root, root + down * length[:, None] - front * (0.25 * length)[:, None]),
        -front,
        (0.020 * unit, 0.014 * unit),
        "hair",
        active=body.ponytail,
    )
    knot = skull - front * (0.045 * unit)[:, None] + bones.head_up * (0.04 * unit)[:, None]
    builder.add(
        "bun", (knot, knot + bones.head_up * 1e-3), front, (0.026 * unit, 0.026 * unit), "hair", active=body.bun
    )


def _bags(builder: _Builder, body: Body, bones: Skeleton) -> None:
    height = body.height
    down = vector_down(bones)
    lateral = np.cross(bones.up, bones.chest_front)
    pack = body.backpack * height
    spine = (
        bones.neck - bones.chest_front * (0.075 * height + 0.045 * pack)[:, None] - bones.up * (0.045 * height)[:, None]
    )
    builder.add(
        "backpack",
        (spine, spine - bones.up * (0.12 * pack)[:, None]),
        -bones.chest_front,
        (0.078 * pack, 0.088 * pack),
        "bag",
        scale=(1.0, 0.75, 0.62),
        active=body.backpack,
    )
    hip = bones.hip + lateral * (body.bag_side * (0.125 * height))[:, None] + bones.up * (0.01 * height)[:, None]
    size = body.side_bag * height
    forward = bones.front * (0.045 * size)[:, None]
    builder.add(
        "side_bag",
        (hip - forward, hip + forward),
        lateral,
        (0.062 * size, 0.062 * size),
        "bag",
        scale=(0.95, 0.6, 0.42),
        active=body.side_bag,
    )
    left = body.bag_side[:, None] > 0
    hand = np.where(left, bones.left_arm.tip, bones.right_arm.tip) + down * (0.055 * height)[:, None]
    carried = body.hand_bag * height
    stretch = bones.front * (0.035 * carried)[:, None]
    builder.add(
        "hand_bag",
        (hand - stretch, hand + stretch),
        -down,
        (0.052 * carried, 0.052 * carried),
        "bag",
        scale=(0.35, 0.6, 1.0),
        active=body.hand_bag,
    )


def _arm(builder: _Builder, body: Body, arm: Limb, front: Floats, side: str) -> None:
    height, thick = body.height, 0.35 + 0.65 * body.build
    bare = (0.031 * height * thick, 0.0255 * height * thick, 0.0175 * height)
    cloth = tuple(radius * body.loose_top + 0.002 * height for radius in bare)
    upper, lower = np.clip(body.sleeve / 0.55, 0, 1), np.clip((body.sleeve - 0.55) / 0.4, 0, 1)
    builder.add(f"{side}_upper_arm", (arm.start, arm.middle), front, bare[:2], "skin", active=upper < 1)
    builder.add(f"{side}_forearm", (arm.middle, arm.end), front, bare[1:], "skin", active=lower < 1)
    builder.add(
        f"{side}_hand", (arm.end, arm.tip), front, (0.017 * height, 0.021 * height), "skin", scale=(0.7, 1.0, 1.0)
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
        "sleeve",
        cut=(-9.0, open_at),
        rows=(0.0, 0.5 * upper),
        active=body.sleeve,
    )
    builder.add(
        f"{side}_lower_sleeve",
        (arm.middle, wrist),
        front,
        cloth[1:],
        "sleeve",
        cut=(-9.0, 1.0),
        rows=(0.5, 0.5 + 0.5 * lower),
        active=lower,
    )


def _leg(builder: _Builder, body: Body, leg: Limb, front: Floats, side: str) -> None:
    height, thick = body.height, 0.3 + 0.7 * body.build
    bare = (0.054 * height * thick, 0.036 * height * thick, 0.023 * height)
    calf = (0.037 * height * thick, 0.0215 * height)
    cloth = (bare[0] * (0.75 + 0.25 * body.loose_leg) + 0.003 * height, bare[1] * body.loose_leg + 0.003 * height)
    hem = (0.027 + 0.022 * np.maximum(body.loose_leg - 1.05, 0)) * height
    upper, lower = np.clip(body.trouser / 0.5, 0, 1), np.clip((body.trouser - 0.5) / 0.45, 0, 1)
    builder.add(f"{side}_thigh", (leg.start, leg.middle), front, bare[:2], "skin", active=upper < 1)
    builder.add(f"{side}_shank", (leg.middle, leg.end), front, calf, "skin", active=lower < 1)
    sole = leg.end + (leg.tip - leg.end) * 0.1
    heel = sole - vector_up(sole, 0.018 * height)
    builder.add(
        f"{side}_shoe",
        (heel, leg.tip - vector_up(leg.tip, 0.003 * height)),
        vector_up(sole, 1.0 + 0 * height),
        (0.027 * height * body.shoe, 0.020 * height * body.shoe),
        "shoe",
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
        "leg",
        cut=(-9.0, open_at),
        rows=(0.0, 0.5 * upper),
        active=body.trouser,
    )
    builder.add(
        f"{side}_lower_trouser",
        (leg.middle, ankle),
        front,
        (cloth[1], np.maximum(hem, cloth[1] * 0.6)),
        "leg",
        cut=(-9.0, 1.0),
        rows=(0.5, 0.5 + 0.5 * lower),
        active=lower,
    )


def vector_up(like: Floats, length: Floats) -> Floats:
    """``length`` [F] straight up, in the shape of ``like`` [F, 3]."""
    up = np.zeros_like(like)
    up[:, 1] = length
    return up
