"""How one view of a crop differs from another: analytic functions of positions in pixels, and the way back.

Positions are x and y, float64, [2, N]; NaN stands for "no such position".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reid.data.warps._fields import Field, Points

_LAST_STEP_PX = 0.08
_MOST_STEPS = 12
_BLOCK = 2048  # positions at a time: their distances from a spline's control points fit into a core's cache


class Motion(Protocol):
    """A one-to-one map of positions."""

    def forward(self, xy_2N: Points) -> Points:
        """Where the positions go, [2, N]; NaN where they go nowhere."""

    def inverse(self, xy_2N: Points) -> Points:
        """Where the positions come from, [2, N], exact to 0.01 px; NaN where that is not to be had."""


class Homography:
    """A plane seen by another camera.

    Args:
        matrix_33: of homogeneous positions in pixels, [3, 3]; positions it gives a third component of 0 or less lie
            behind the camera and go nowhere.
    """

    def __init__(self, matrix_33: NDArray[np.float64]) -> None:
        self.matrix_33 = matrix_33
        self._back_33 = np.asarray(np.linalg.inv(matrix_33), np.float64)

    def forward(self, xy_2N: Points) -> Points:
        """See :class:`Motion`."""
        return _project(self.matrix_33, xy_2N)

    def inverse(self, xy_2N: Points) -> Points:
        """See :class:`Motion`; in closed form."""
        return _project(self._back_33, xy_2N)


def _project(matrix_33: NDArray[np.float64], xy_2N: Points) -> Points:
    projected_3N = matrix_33[:, :2] @ xy_2N + matrix_33[:, 2:]
    depth_N = np.where(projected_3N[2] > 1e-6, projected_3N[2], np.nan)
    return np.asarray(projected_3N[:2] / depth_N)


class Deformation:
    """What bends: each position x goes to x + strength * shift(x).

    Args:
        field: the shift.
        strength: 1 for all of it.
    """

    def __init__(self, field: Field, strength: float = 1.0) -> None:
        self.field = field
        self.strength = strength

    def forward(self, xy_2N: Points) -> Points:
        """See :class:`Motion`."""
        blocks = np.split(xy_2N, range(_BLOCK, xy_2N.shape[1], _BLOCK), axis=1)
        return np.concatenate([block_2M + self.strength * self.field.shift(block_2M) for block_2M in blocks], axis=1)

    def inverse(self, xy_2N: Points) -> Points:
        """See :class:`Motion`; by Newton's method on the function itself, from the position on."""
        blocks = np.split(xy_2N, range(_BLOCK, xy_2N.shape[1], _BLOCK), axis=1)
        return np.concatenate([self._inverse(block_2M) for block_2M in blocks], axis=1)

    def _inverse(self, xy_2M: Points) -> Points:
        found_2M = np.full_like(xy_2M, np.nan)
        open_idx, x_2K = np.arange(xy_2M.shape[1]), xy_2M
        for _ in range(_MOST_STEPS):
            shift_2K, slope_22K = self.field.derive(x_2K)
            missed_2K = x_2K + self.strength * shift_2K - xy_2M[:, open_idx]
            step_2K = _solve(np.eye(2)[..., None] + self.strength * slope_22K, missed_2K)
            x_2K = x_2K - step_2K
            # What is left after a step is less than half of its square, in pixels.
            done_K = np.maximum(*np.abs(step_2K)) < _LAST_STEP_PX
            found_2M[:, open_idx[done_K]] = x_2K[:, done_K]
            open_idx, x_2K = open_idx[~done_K], x_2K[:, ~done_K]
            if not len(open_idx):
                break
        return found_2M

    def least_stretch(self, xy_2N: Points) -> float:
        """Smallest eigenvalue of the derivative's symmetric part at these positions.

        Above 0 all over a convex region, no two positions of the region go to the same place.
        """
        (a_N, b_N), (c_N, d_N) = np.eye(2)[..., None] + self.strength * self.field.derive(xy_2N)[1]
        return float(((a_N + d_N) - np.hypot(a_N - d_N, b_N + c_N)).min() / 2)


def _solve(matrix_22K: NDArray[np.float64], right_2K: Points) -> Points:
    """2 x 2 systems, faster than LAPACK one by one; not finite where there is no solution."""
    (a_K, b_K), (c_K, d_K) = matrix_22K
    x_K, y_K = right_2K
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.stack([d_K * x_K - b_K * y_K, a_K * y_K - c_K * x_K]) / (a_K * d_K - b_K * c_K))


@dataclass(frozen=True, slots=True)
class Chain:
    """One motion after another."""

    first: Motion
    second: Motion

    def forward(self, xy_2N: Points) -> Points:
        """See :class:`Motion`."""
        return self.second.forward(self.first.forward(xy_2N))

    def inverse(self, xy_2N: Points) -> Points:
        """See :class:`Motion`."""
        return self.first.inverse(self.second.inverse(xy_2N))
