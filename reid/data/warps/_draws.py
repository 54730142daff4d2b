"""Drawing motions: how far each difficulty moves, and in what ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reid.data.warps._fields import Field, Joints, Spline
from reid.data.warps._motions import Chain, Deformation, Homography, Motion

Level = Literal["mild", "mid", "hard"]
MotionKind = Literal["homography", "spline", "piecewise"]

CONTROL_GRID = (6, 3)
"""Rows and columns of a spline's control points, from border to border."""
_LEAST_STRETCH = 0.2
"""A deformation stretches no direction by less: it cannot fold, and the way back is well conditioned."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How much a difficulty moves.

    Attributes:
        rotation_deg, log_scale: largest either way.
        shift: largest either way, as a share of the image's side.
        perspective: largest relative change of depth from one side of the image to the other.
        bend: standard deviation of a spline's control points, as a share of the image's width.
    """

    rotation_deg: float
    log_scale: float
    shift: float
    perspective: float
    bend: float


STRENGTHS: Mapping[Level, Strength] = {
    "mild": Strength(5, 0.1, 0.05, 0.1, 0.04),
    "mid": Strength(10, 0.2, 0.10, 0.2, 0.06),
    "hard": Strength(20, 0.35, 0.15, 0.4, 0.08),
}


def draw_motion(
    kind: MotionKind, strength: Strength, image_size: tuple[int, int], generator: np.random.Generator
) -> Motion:
    """Draw a motion; those that bend come on top of a homography of the same strength.

    Args:
        kind: of the motion.
        strength: how much.
        image_size: (height, width) in pixels.
        generator: draws everything.
    """
    camera = draw_homography(strength, image_size, generator)
    if kind == "homography":
        return camera
    draw = draw_spline if kind == "spline" else draw_joints
    return Chain(camera, _unfolded(draw(strength, image_size, generator), image_size))


def draw_homography(strength: Strength, image_size: tuple[int, int], generator: np.random.Generator) -> Homography:
    """Rotation, scale, shift and perspective about the image's centre, each uniform within the strength."""
    size_2 = np.array(image_size[::-1], np.float64)
    angle = np.deg2rad(generator.uniform(-strength.rotation_deg, strength.rotation_deg))
    scale = np.exp(generator.uniform(-strength.log_scale, strength.log_scale))
    matrix_33 = np.eye(3)
    matrix_33[:2, :2] = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix_33[:2, 2] = generator.uniform(-strength.shift, strength.shift, 2) * size_2
    matrix_33[2, :2] = generator.uniform(-strength.perspective, strength.perspective, 2) / size_2
    from_centre_33, to_centre_33 = np.eye(3), np.eye(3)
    from_centre_33[:2, 2], to_centre_33[:2, 2] = size_2 / 2, -size_2 / 2
    return Homography(from_centre_33 @ matrix_33 @ to_centre_33)


def draw_spline(strength: Strength, image_size: tuple[int, int], generator: np.random.Generator) -> Spline:
    """Control points from border to border, each shifted by a normal draw."""
    height, width = image_size
    rows, columns = CONTROL_GRID
    y, x = np.meshgrid(np.linspace(0, height, rows), np.linspace(0, width, columns), indexing="ij")
    control_2K = np.stack([x.ravel(), y.ravel()])
    return Spline(control_2K, generator.normal(0, strength.bend * width, control_2K.shape))


def draw_joints(strength: Strength, image_size: tuple[int, int], generator: np.random.Generator) -> Joints:
    """Head, torso and legs: each a similarity about its joint, of half the strength."""
    height, width = image_size
    neck, hip = generator.uniform(0.15, 0.22) * height, generator.uniform(0.45, 0.55) * height
    angle_3 = np.deg2rad(generator.uniform(-strength.rotation_deg, strength.rotation_deg, 3)) / 2
    scale_3 = np.exp(generator.uniform(-strength.log_scale, strength.log_scale, 3) / 2)
    shift_32 = generator.uniform(-strength.shift, strength.shift, (3, 2)) / 2 * width
    pivot_32 = np.array([[width / 2, neck], [width / 2, hip], [width / 2, hip]])
    return Joints((neck, hip), 0.12 * height, pivot_32, angle_3, scale_3, shift_32)


def _unfolded(field: Field, image_size: tuple[int, int]) -> Deformation:
    """As much of the field as folds nothing over in the image and a quarter around it."""
    height, width = image_size
    y, x = np.meshgrid(np.linspace(-0.25, 1.25, 25) * height, np.linspace(-0.25, 1.25, 13) * width, indexing="ij")
    lattice_2N = np.stack([x.ravel(), y.ravel()])
    strength = 1.0
    while Deformation(field, strength).least_stretch(lattice_2N) < _LEAST_STRETCH:
        strength *= 0.8
    return Deformation(field, strength)
