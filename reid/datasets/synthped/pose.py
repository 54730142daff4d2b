"""How they walk: joint positions of many figures at once, by a small walking model.

Coordinates are the person's own, in metres: x to the person's left, y up from the ground, z forwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid.datasets.synthped.people import Body, Floats

ANKLE, KNEE, HIP, SHOULDER, CHIN = 0.045, 0.285, 0.52, 0.812, 0.872
UPPER_ARM, FOREARM, FOOT = 0.175, 0.145, 0.095


@dataclass(frozen=True, slots=True)
class Pose:
    """The moment of a figure; every field float32, [F].

    Attributes:
        phase: of the gait, radians; the left leg is in front at 0.
        pace: factor on stride and swing, 0 stands still.
        left, right: what the arm does beside swinging: 0 nothing, 1 the hand at the ear; between, in front.
        head_turn, head_nod: radians, to the left and down.
    """

    phase: Floats
    pace: Floats
    left: Floats
    right: Floats
    head_turn: Floats
    head_nod: Floats


@dataclass(frozen=True, slots=True)
class Limb:
    """One arm or leg: three points each [F, 3], and the direction of hand or foot [F, 3]."""

    start: Floats
    middle: Floats
    end: Floats
    tip: Floats


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints of F figures.

    Attributes:
        hip, waist, neck: points on the trunk's axis, [F, 3].
        up: direction of the trunk; front, chest_front: where pelvis and chest face, [F, 3].
        head_up, head_front: directions of the head, [F, 3].
        left_arm, right_arm, left_leg, right_leg: limbs.
    """

    hip: Floats
    waist: Floats
    neck: Floats
    up: Floats
    front: Floats
    chest_front: Floats
    head_up: Floats
    head_front: Floats
    left_arm: Limb
    right_arm: Limb
    left_leg: Limb
    right_leg: Limb


def vector(x: Floats | float, y: Floats | float, z: Floats | float) -> Floats:
    """Stack three coordinates into [F, 3]."""
    return np.stack(np.broadcast_arrays(np.float32(x), np.float32(y), np.float32(z)), axis=-1).astype(np.float32)


def skeleton(body: Body, pose: Pose) -> Skeleton:
    """Place the joints.

    Args:
        body: of F figures.
        pose: of the same F figures.

    Returns:
        The joints; the lower foot stands on y = 0 and the hips' middle is at x = z = 0.
    """
    height = body.height
    stride = body.stride * pose.pace * np.where(body.skirt + body.tail > 0.22, 0.65, 1.0).astype(np.float32)
    legs = [_leg(body, stride, pose.phase + side_phase, side) for side, side_phase in ((1.0, 0.0), (-1.0, np.pi))]
    lowest = np.minimum(*[np.minimum(leg.end[:, 1] - ANKLE * height, leg.tip[:, 1] - 0.02 * height) for leg in legs])
    lift = vector(0.0, -lowest, 0.0)
    legs = [Limb(leg.start + lift, leg.middle + lift, leg.end + lift, leg.tip + lift) for leg in legs]
    up = vector(0.0, np.cos(body.lean), np.sin(body.lean))
    twist = 0.25 * stride * np.cos(pose.phase)
    hip = lift
    waist = hip + up * (0.12 * height)[:, None]
    neck = hip + up * ((SHOULDER - HIP) * height)[:, None]
    swing = body.swing * pose.pace
    arms = [
        _arm(body, neck, twist, swing * np.cos(pose.phase + side_phase), reach, side)
        for side, side_phase, reach in ((1.0, np.pi, pose.left), (-1.0, 0.0, pose.right))
    ]
    nod = body.lean * 0.5 + pose.head_nod
    turn = pose.head_turn
    return Skeleton(
        hip=hip,
        waist=waist,
        neck=neck,
        up=up,
        front=vector(np.sin(-0.6 * twist), 0.0, np.cos(0.6 * twist)),
        chest_front=vector(np.sin(twist), 0.0, np.cos(twist)),
        head_up=vector(np.sin(turn) * np.sin(nod), np.cos(nod), np.cos(turn) * np.sin(nod)),
        head_front=vector(np.sin(turn) * np.cos(nod), -np.sin(nod), np.cos(turn) * np.cos(nod)),
        left_arm=arms[0],
        right_arm=arms[1],
        left_leg=legs[0],
        right_leg=legs[1],
    )


def _leg(body: Body, stride: Floats, phase: Floats, side: float) -> Limb:
    height = body.height
    thigh = stride * (np.cos(phase) + 0.12)
    bend = 0.08 + 2.0 * stride * np.maximum(0.0, -np.sin(phase + 0.35)) ** 1.5
    shank = thigh - bend
    pitch = np.clip(-0.65 * shank, -0.3, 0.9)
    start = vector(side * 0.05 * height * body.hips, 0.0, 0.0)
    spread = side * 0.03 * (body.stance - 0.6)
    middle = start + vector(spread, -np.cos(thigh), np.sin(thigh)) * ((HIP - KNEE) * height)[:, None]
    end = middle + vector(0.0, -np.cos(shank), np.sin(shank)) * ((KNEE - ANKLE) * height)[:, None]
    tip = end + vector(side * 0.15, -0.22 - np.sin(pitch), np.cos(pitch)) * (FOOT * height * body.shoe)[:, None]
    return Limb(start, middle, end, tip)


def _arm(body: Body, neck: Floats, twist: Floats, swing: Floats, reach: Floats, side: float) -> Limb:
    height = body.height
    half = side * 0.100 * height * body.shoulders * (0.8 + 0.2 * body.build)
    start = neck + vector(half * np.cos(twist), -0.034 * height, -half * np.sin(twist))
    busy = (reach > 0).astype(np.float32)
    shoulder = (1 - busy) * (swing + 0.04) + busy * (0.25 + 0.45 * reach)
    elbow = (1 - busy) * (body.elbow + 0.5 * np.maximum(swing, 0)) + busy * (1.25 + 1.15 * reach)
    out = side * (0.10 + 0.10 * (body.build - 0.9) + 0.2 * busy * reach)
    middle = start + vector(out, -np.cos(shoulder), np.sin(shoulder)) * (UPPER_ARM * height)[:, None]
    bent = shoulder + elbow
    inward = -side * (0.1 + 0.45 * busy * (1.3 - reach))
    fore = vector(inward, -np.cos(bent), np.sin(bent))
    fore = fore / np.linalg.norm(fore, axis=1, keepdims=True)
    end = middle + fore * (FOREARM * height)[:, None]
    return Limb(start, middle, end, end + fore * (0.055 * height)[:, None])
