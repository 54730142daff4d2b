"""Drawn people with the surface that each pixel shows, and pairs of them whose true correspondences are known."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from itertools import islice
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from reid.data._random import generator
from reid.data.surfaces import Floats, surface_warps
from reid.data.warps import WarpedPair
from reid.datasets.synthped import Config
from reid.datasets.synthped.photograph import photograph
from reid.datasets.synthped.writer import install_cameras, jobs
from reid.errors import SamplingError
from reid.progress import Progress, Silent

PairKind = Literal["same_person", "different_persons"]


@dataclass(frozen=True, slots=True)
class SurfaceImages:
    """Renderings of several people, in memory (12 bytes a pixel).

    Attributes:
        image_NHW3: RGB before JPEG, uint8.
        part_NHW, uv_NHW2: see :class:`~reid.datasets.synthped.Photographs`.
        pid_N: identity, as in the data set's files.
        camid_N: camera, counted from 0.
    """

    image_NHW3: NDArray[np.uint8]
    part_NHW: NDArray[np.int8]
    uv_NHW2: Floats
    pid_N: NDArray[np.intp]
    camid_N: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.image_NHW3)

    def of_people(self, pids: Collection[int]) -> SurfaceImages:
        """The images of some of the people.

        Raises:
            SamplingError: none of them is here.
        """
        index_M = np.nonzero(np.isin(self.pid_N, list(pids)))[0]
        if not len(index_M):
            raise SamplingError(
                f"surface images: wanted some of {len(pids)} people, found none among {len(np.unique(self.pid_N))}. "
                "Draw those of the same split, domain and seed."
            )
        return SurfaceImages(*(getattr(self, field.name)[index_M] for field in fields(self)))

    def pair(self, query_idx: int, gallery_idx: int) -> WarpedPair:
        """Two of the images and the truth about them."""
        query, gallery = (
            torch.from_numpy(self.image_NHW3[idx].transpose(2, 0, 1).copy()) for idx in (query_idx, gallery_idx)
        )
        part, uv = self.part_NHW, self.uv_NHW2
        warps = surface_warps(part[query_idx], uv[query_idx], part[gallery_idx], uv[gallery_idx])
        return WarpedPair(query, gallery, warps)

    @property
    def kinds(self) -> tuple[PairKind, ...]:
        """Of the pairs that can be drawn: one person alone makes none of different persons."""
        kinds: tuple[PairKind, ...] = get_args(PairKind)
        return kinds if len(np.unique(self.pid_N)) > 1 else ("same_person",)

    def draw_pair(self, kind: PairKind, *, seed: int, epoch: int, index: int) -> WarpedPair:
        """Draw a pair that depends on the arguments alone.

        Args:
            kind: ``same_person`` seen by different cameras, or ``different_persons`` seen by any; the places that
                match are then anatomically the same.
            seed: the experiment's seed.
            epoch: counted from 0.
            index: of the pair in its epoch.

        Raises:
            SamplingError: there is no such pair with the drawn query.
        """
        rng = generator(seed, f"surface pairs {kind}", epoch, index)
        query_idx = int(rng.integers(len(self)))
        fits_N = self.pid_N == self.pid_N[query_idx]
        fits_N = fits_N & (self.camid_N != self.camid_N[query_idx]) if kind == "same_person" else ~fits_N
        if not fits_N.any():
            raise SamplingError(
                f"surface pairs: wanted a partner for image {query_idx} that makes a pair of {kind.replace('_', ' ')}, "
                f"found none among {len(self)} images. Draw more people, or with more cameras."
            )
        return self.pair(query_idx, int(rng.choice(np.nonzero(fits_N)[0])))


def draw_surface_images(
    plan: Config,
    num_pids: int,
    *,
    train: bool = True,
    image_size: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> SurfaceImages:
    """Draw the images of the first people of a split of synthped, about 100 a second.

    Args:
        plan: the data set's table; the same people look the same in it.
        num_pids: how many people; at least 1.
        train: the training split, or else query and gallery.
        image_size: (height, width) in pixels; None for the table's.
        progress: where to report.

    Raises:
        SamplingError: the split has fewer people.
    """
    available = plan.num_train_pids if train else plan.num_test_pids
    if not 1 <= num_pids <= available:
        raise SamplingError(
            f"surface images: wanted 1 to {available} people of the {'training' if train else 'test'} split of "
            f"synthped, found num_pids = {num_pids}. Change it, or the table's num_train_pids or num_test_pids."
        )
    height, width = image_size or plan.image_size
    first = {} if train else {"num_train_pids": 0}  # nobody comes before those of the test split
    plan = plan.model_copy(update={"image_height": height, "image_width": width, **first})
    cameras = install_cameras(plan)
    photos, labels = [], []
    with (progress or Silent()).bar(f"drawing {plan.domain} with surfaces", num_pids, "people") as bar:
        for job in islice(jobs(plan, cameras), num_pids):
            photos.append(photograph(job.shots, cameras, plan.image_size))
            labels += [(job.pid, shot.camid) for shot in job.shots]
            bar.advance()
    image, part, uv = (np.concatenate([getattr(taken, name) for taken in photos]) for name in ("image", "part", "uv"))
    return SurfaceImages(image, part, uv, *np.array(labels, np.intp).T)
