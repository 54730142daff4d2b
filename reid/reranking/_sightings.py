"""Where and when images were taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reid.errors import DatasetError, ShapeError
from reid.reranking._arrays import Floats
from reid.types import ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Where and when N images were taken.

    Attributes:
        camid_N: camera, [N], integers from 0.
        time_s_N: seconds on a clock common to all cameras, [N].

    Raises:
        ShapeError: there are no images, or not as many cameras as times.
        DatasetError: a camera or a time is missing (negative, not finite).
    """

    camid_N: NDArray[np.integer]
    time_s_N: Floats

    def __post_init__(self) -> None:
        if self.camid_N.ndim != 1 or self.camid_N.shape != self.time_s_N.shape or not len(self.camid_N):
            raise ShapeError(
                f"tlift: wanted one camera and one time for each image, found {list(self.camid_N.shape)} and "
                f"{list(self.time_s_N.shape)}. Take both from the same records."
            )
        for what, missing_N in (("camera", self.camid_N < 0), ("time", ~np.isfinite(self.time_s_N))):
            if missing_N.any():
                raise _missing(what, f"image {int(np.argmax(missing_N))}", int(missing_N.sum()), len(missing_N))

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> Self:
        """Take them out of image records. Raises DatasetError if a record has no camera or no time."""
        for what, values in (
            ("camera", [record.camid for record in records]),
            ("time", [record.time_s for record in records]),
        ):
            if None in values:
                raise _missing(what, str(records[values.index(None)].path), values.count(None), len(values))
        return cls(
            np.array([record.camid for record in records], dtype=np.int64),
            np.array([record.time_s for record in records], dtype=np.float64),
        )

    def __len__(self) -> int:
        return len(self.camid_N)


def _missing(what: str, first: str, num: int, total: int) -> DatasetError:
    return DatasetError(
        f"{first}: wanted the {what} of every image for TLift, found none for {num} of {total} images. Use a data set "
        "that tells camera and time of every image, or another re-ranking."
    )
