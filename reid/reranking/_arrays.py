"""What all re-rankers do with arrays: look at them a block of rows at a time, and refuse those that do not fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reid.errors import ShapeError

Floats = NDArray[np.floating]
Float = TypeVar("Float", bound=np.floating)

BLOCK_BYTES = 2**26
"""Distances or scores that are looked at together; about three times that are held at a time."""


def blocks(num: int, row_bytes: int, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive rows that take at most ``block_bytes`` together, at least one row each."""
    size = max(1, block_bytes // row_bytes)
    for start in range(0, num, size):
        yield start, min(start + size, num)


def check_embeddings(where: str, query_QD: Tensor, gallery_GD: Tensor) -> None:
    """Raise ShapeError unless both are [N, D] of the same D, not empty, floating-point and finite."""
    shapes = [list(query_QD.shape), list(gallery_GD.shape)]
    if any(len(shape) != 2 or not shape[0] or not shape[1] for shape in shapes) or shapes[0][1] != shapes[1][1]:
        raise ShapeError(
            f"{where}: wanted embeddings [Q, D] and [G, D] of at least one image each, found {shapes[0]} and "
            f"{shapes[1]}. Take both from the same model."
        )
    for name, embedding_ND in (("query", query_QD), ("gallery", gallery_GD)):
        if not embedding_ND.is_floating_point():
            raise ShapeError(
                f"{where}: wanted floating-point {name} embeddings, found {embedding_ND.dtype}. Convert them."
            )
        finite_N = embedding_ND.isfinite().all(1)
        if not finite_N.all():
            raise ShapeError(
                f"{where}: wanted finite embeddings, found NaN or infinity in {int((~finite_N).sum())} of them, first "
                f"{name} image {int((~finite_N).nonzero()[0, 0])}, counted from 0. Look for a training that diverged, "
                "or an overflow in half precision."
            )


def score_array(where: str, shape: tuple[int, int], out: NDArray[Float] | None, dtype: type[Float]) -> NDArray[Float]:
    """``out``, or a new array where it is None. Raises ShapeError if ``out`` has another shape or dtype."""
    if out is None:
        return np.empty(shape, dtype=dtype)
    if tuple(out.shape) != shape or out.dtype != dtype:
        raise ShapeError(
            f"{where}: wanted an array for scores [Q, G] = {list(shape)}, {np.dtype(dtype)}, found {list(out.shape)}, "
            f"{out.dtype}. Allocate it for these images, or hand in none."
        )
    return out
