"""Pairs of views whose true correspondences are known, drawn batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from reid.config import Config
from reid.data._random import generator
from reid.data._workers import load_batches
from reid.data.loader import TrainBatch, file_names
from reid.data.surface_images import PairKind, SurfaceImages
from reid.data.warps import WarpConfig, WarpedPair, warped_pair
from reid.images import read_image
from reid.types import ImageRecord, Warp, Warps

Share = Annotated[float, Field(ge=0, le=1)]


class ViewsConfig(Config):
    """Where pairs with known correspondences come from."""

    warps: WarpConfig = Field(WarpConfig(), description="two views made of one training image")
    surface_share: Share = Field(
        0.0,
        description="share of pairs that are two renderings of one person of a synthped source instead, seen by "
        "different cameras: its true surface tells where they match, in other poses too",
    )
    strangers: Share = Field(
        0.0,
        description="share of those renderings' pairs that show two persons instead, whose anatomy tells where they "
        "match: a head is where a head is, whoever's",
    )

    @model_validator(mode="after")
    def _drawn(self) -> Self:
        if self.strangers and not self.surface_share:
            raise ValueError("strangers: wanted a surface_share above 0, of which it is a share, found 0")
        return self


@dataclass(frozen=True, slots=True)
class Views:
    """How the pairs of one epoch are made; sent to each worker.

    Attributes:
        config: what to draw.
        image_size: (height, width) in pixels.
        surfaces: renderings of training people; None where ``surface_share`` is 0.
        seed: the experiment's.
        epoch: counted from 0.
    """

    config: ViewsConfig
    image_size: tuple[int, int]
    surfaces: SurfaceImages | None
    seed: int
    epoch: int

    def draw(self, name: str, place: int) -> tuple[Tensor, ...]:
        """The pair at a place of the epoch: of the image in file ``name``, or of two renderings.

        Returns:
            query and gallery image, and the fields of both warps, none of them with a dimension of pairs.

        Raises:
            ImageError: the file is missing, truncated or no image.
        """
        pair = self._draw(name, place)
        one, two = pair.warps.to_gallery, pair.warps.to_query
        fields = [tensor[0] for warp in (one, two) for tensor in (warp.position_NHW2, warp.visible_NHW, warp.known_NHW)]
        return pair.query, pair.gallery, *fields

    def _draw(self, name: str, place: int) -> WarpedPair:
        rng = generator(self.seed, "views", self.epoch, place)
        if self.surfaces is not None and rng.random() < self.config.surface_share:
            kind: PairKind = "different_persons" if rng.random() < self.config.strangers else "same_person"
            return self.surfaces.draw_pair(kind, seed=self.seed, epoch=self.epoch, index=place)
        return warped_pair(read_image(Path(name)), self.config.warps, self.image_size, rng)


def pair_batches(
    records: Sequence[ImageRecord],
    labels: Sequence[int],
    batches: Sequence[Sequence[int]],
    views: Views,
    *,
    num_workers: int,
) -> Iterator[TrainBatch]:
    """Draw one epoch: a pair for each image of a batch.

    Args:
        records: the training set.
        labels: its classes, in the order of ``records``.
        batches: positions in ``records``, from a sampler.
        views: how the pairs are made.
        num_workers: processes; 0 draws in this one.

    Yields:
        batches of 2 N images, the N query images first, with the warps of the N pairs.

    Raises:
        ImageError: an image is missing, truncated or no image.
        WorkerError: a worker process ended early.
    """
    label_N = torch.as_tensor(labels, dtype=torch.int64)
    loaded = load_batches(file_names(records), batches, views.draw, num_workers)
    for indices, ((query, gallery, *fields), read_s) in zip(batches, loaded, strict=True):
        label_B = label_N[torch.as_tensor(indices)].repeat(2)
        yield TrainBatch(torch.cat((query, gallery)), label_B, read_s, Warps(Warp(*fields[:3]), Warp(*fields[3:])))
