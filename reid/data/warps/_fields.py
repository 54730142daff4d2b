"""Shifts that bend an image: thin-plate splines, and head, torso and legs that turn about their joints.

Positions are x and y in pixels, float64, [2, N]: with the coordinates first, NumPy runs along the many positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]


class Field(Protocol):
    """A smooth shift of every position."""

    def shift(self, xy_2N: Points) -> Points:
        """How far each position goes, [2, N], pixels."""

    def derive(self, xy_2N: Points) -> tuple[Points, NDArray[np.float64]]:
        """The shift, and its derivative, [2, 2, N]: [i, j] is that of component i along coordinate j."""


class Spline:
    """The thin-plate spline that shifts control points by given amounts: the least bent of all such fields.

    Args:
        control_2K: the control points, pixels, not all on one line.
        shift_2K: how far each goes.

    Source: Bookstein, Principal Warps, IEEE PAMI 1989.
    """

    def __init__(self, control_2K: Points, shift_2K: Points) -> None:
        # A change of unit changes the kernel by what the affine part absorbs; in units of the image the system below
        # is well conditioned.
        self._unit = float(np.ptp(control_2K, axis=1).max())
        self._control_2K = control_2K / self._unit
        num = control_2K.shape[1]
        affine_3K = np.concatenate([np.ones((1, num)), self._control_2K])
        system = np.zeros((num + 3, num + 3))
        system[:num, :num] = _bump(*self._away(self._control_2K))[0]
        system[:num, num:], system[num:, :num] = affine_3K.T, affine_3K
        weights = np.linalg.solve(system, np.concatenate([shift_2K, np.zeros((2, 3))], axis=1).T).T
        self._bent_2K, self._offset_21, self._linear_22 = np.split(weights, (num, num + 1), axis=1)

    def shift(self, xy_2N: Points) -> Points:
        """See :class:`Field`."""
        xy_2N = xy_2N / self._unit
        return self._shift(_bump(*self._away(xy_2N))[0], xy_2N)

    def derive(self, xy_2N: Points) -> tuple[Points, NDArray[np.float64]]:
        """See :class:`Field`."""
        xy_2N = xy_2N / self._unit
        away = self._away(xy_2N)
        bump_KN, log_KN = _bump(*away)
        log_KN += 1
        slopes = [(2 / self._unit * self._bent_2K) @ np.multiply(away_KN, log_KN, out=away_KN) for away_KN in away]
        slope_22N = np.stack(slopes, axis=1) + (self._linear_22 / self._unit)[..., None]
        return self._shift(bump_KN, xy_2N), slope_22N

    def _shift(self, bump_KN: Points, xy_2N: Points) -> Points:
        return np.asarray(self._bent_2K @ bump_KN + self._linear_22 @ xy_2N + self._offset_21)

    def _away(self, xy_2N: Points) -> tuple[Points, Points]:
        """From each control point to each position, across and down, [K, N] each."""
        return xy_2N[0] - self._control_2K[0, :, None], xy_2N[1] - self._control_2K[1, :, None]


def _bump(across_KN: Points, down_KN: Points) -> tuple[Points, Points]:
    """The kernel r^2 log r^2, and the logarithm."""
    square_KN = across_KN * across_KN
    square_KN += down_KN * down_KN
    log_KN = square_KN + 1e-300  # at a control point itself 0 * log(tiny) is 0, as it should be
    np.log(log_KN, out=log_KN)
    square_KN *= log_KN
    return square_KN, log_KN


class Joints:
    """Three bands of an image, from the top: head, torso and legs, each moved by its own similarity.

    At the joints between them one motion changes into the next smoothly, by a logistic curve of the height.

    Args:
        heights: y of the neck and of the hip, pixels.
        join_px: height over which most of a change takes place.
        pivot_32: (x, y) of the point about which each band turns and grows.
        angle_3: radians, from x towards y.
        scale_3: factors.
        shift_32: added, pixels.
    """

    def __init__(
        self,
        heights: tuple[float, float],
        join_px: float,
        pivot_32: Points,
        angle_3: NDArray[np.float64],
        scale_3: NDArray[np.float64],
        shift_32: Points,
    ) -> None:
        self._heights, self._rate = heights, 4 / join_px
        cos_3, sin_3 = scale_3 * np.cos(angle_3), scale_3 * np.sin(angle_3)
        linear_322 = np.stack([np.stack([cos_3, -sin_3], 1), np.stack([sin_3, cos_3], 1)], 1) - np.eye(2)
        offset_321 = (shift_32 - np.einsum("bij,bj->bi", linear_322, pivot_32))[..., None]
        # a band's motion is the one above, plus what changes at the joint
        self._linear_22, self._linear_changes_222 = linear_322[0], np.diff(linear_322, axis=0)
        self._offset_21, self._offset_changes_221 = offset_321[0], np.diff(offset_321, axis=0)

    def shift(self, xy_2N: Points) -> Points:
        """See :class:`Field`."""
        shift_2N = self._linear_22 @ xy_2N + self._offset_21
        for share_N, change_2N, _ in self._changes(xy_2N):
            shift_2N += share_N * change_2N
        return np.asarray(shift_2N)

    def derive(self, xy_2N: Points) -> tuple[Points, NDArray[np.float64]]:
        """See :class:`Field`."""
        shift_2N = self._linear_22 @ xy_2N + self._offset_21
        slope_22N = np.repeat(self._linear_22[..., None], xy_2N.shape[1], axis=2)
        for share_N, change_2N, linear_22 in self._changes(xy_2N):
            shift_2N += share_N * change_2N
            slope_22N += share_N * linear_22[..., None]
            slope_22N[:, 1] += self._rate * share_N * (1 - share_N) * change_2N
        return shift_2N, slope_22N

    def _changes(self, xy_2N: Points) -> Iterator[tuple[NDArray[np.float64], Points, NDArray[np.float64]]]:
        """Of each joint: how much of it lies above the position, 0..1, its change of the shift, and that's matrix."""
        joints = zip(self._heights, self._linear_changes_222, self._offset_changes_221, strict=True)
        for height, linear_22, offset_21 in joints:
            share_N = 0.5 + 0.5 * np.tanh(0.5 * self._rate * (xy_2N[1] - height))
            yield share_N, linear_22 @ xy_2N + offset_21, linear_22
