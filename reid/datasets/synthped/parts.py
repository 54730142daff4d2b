"""The parts of a body, and how their primitives are put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.people import Floats
from reid.datasets.synthped.raycast import Primitives

Number = Floats | float

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

DOWN = np.array([0.0, -1.0, 0.0], np.float32)
"""Cloth and hair hang straight down, whatever the trunk does."""


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


@dataclass(frozen=True, slots=True)
class _Row:
    """One primitive of all figures; ``numbers``: length, two radii, two cuts and two texture rows, [F] each."""

    origin: Floats
    frame: Floats
    numbers: list[Floats]
    scale: Floats
    active: NDArray[np.bool_]
    slot: str
    mirror: bool


def along(direction: Floats, length: Floats) -> Floats:
    """Vectors of these lengths [F] in a direction ([F, 3] or [3]), [F, 3]."""
    return np.asarray(direction * length[:, None])


def _frame(axis: Floats, front: Floats) -> Floats:
    front = front - (front * axis).sum(axis=1, keepdims=True) * axis
    front = front / np.maximum(np.linalg.norm(front, axis=1, keepdims=True), 1e-06)
    return np.stack([np.cross(axis, front), axis, front], axis=2).astype(np.float32)


class Builder:
    """Collects the primitives of F figures by part name."""

    def __init__(self, num: int) -> None:
        self.num = num
        self.made: dict[str, _Row] = {}

    def numbers(self, value: Number) -> Floats:
        """``value`` for each figure, [F] float32."""
        return np.broadcast_to(np.asarray(value, np.float32), (self.num,))

    def add(
        self,
        part: str,
        axis: tuple[Floats, Floats],
        front: Floats,
        radii: tuple[Number, Number],
        place: tuple[str, Number, Number],
        *,
        scale: tuple[Number, Number, Number] = (1.0, 1.0, 1.0),
        cut: tuple[Number, Number] = (-9.0, 9.0),
        active: Number = 1.0,
    ) -> None:
        """Add the part of all figures; numbers are scalars or [F].

        Args:
            part: a name of PARTS.
            axis: start and end, [F, 3] each.
            front: the side of the texture's middle column, [F, 3] or [3].
            radii: at the start and at the end, metres.
            place: slot, and the texture rows (0..1) of the start and of the end of the surface.
            scale: stretch along the local axes (aside, along the axis, to the front).
            cut: shares of the axis outside of which the surface is cut off.
            active: the part exists where this is positive.
        """
        start, end = axis
        length = np.maximum(np.linalg.norm(end - start, axis=1), 1e-4).astype(np.float32)
        self.made[part] = _Row(
            origin=start,
            frame=_frame((end - start) / length[:, None], front),
            numbers=[length, *(self.numbers(value) for value in (*radii, *cut, *place[1:]))],
            scale=np.stack([self.numbers(value) for value in scale], axis=1),
            active=self.numbers(active) > 0,
            slot=place[0],
            mirror=part.startswith("right"),
        )

    def stacked(self) -> tuple[Primitives, Charts]:
        """All parts in the order of PARTS."""
        rows = [self.made[part] for part in PARTS]
        length, first, last, low, high, row0, row1 = np.stack([row.numbers for row in rows]).transpose(1, 2, 0)
        primitives = Primitives(
            origin=np.stack([row.origin for row in rows], axis=1),
            frame=np.stack([row.frame for row in rows], axis=1),
            length=length,
            start_radius=first,
            end_radius=last,
            scale=np.stack([row.scale for row in rows], axis=1),
            low=low,
            high=high,
            active=np.stack([row.active for row in rows], axis=1),
        )
        slot = np.array([SLOTS.index(row.slot) for row in rows], np.int32)
        mirror = np.array([row.mirror for row in rows])
        whole = (self.num, len(rows))
        return primitives, Charts(np.broadcast_to(slot, whole), row0, row1 - row0, np.broadcast_to(mirror, whole))
