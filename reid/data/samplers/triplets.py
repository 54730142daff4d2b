"""Triplets out of what a first stage ranks high: a match and a mistake of each anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from reid.data._random import generator
from reid.data.samplers._base import ClassDistances, Layout, MiningSampler, Neighbours, SamplerConfig
from reid.errors import SamplingError


class Config(SamplerConfig):
    """Options of :class:`TripletSampler`."""

    name: Literal["triplets"] = "triplets"
    num_triplets: PositiveInt = Field(32, description="a batch; three times as many images")
    num_batches: PositiveInt | None = Field(
        None, description="batches an epoch; None: as many as it takes to see every anchor"
    )
    top_k: PositiveInt = Field(
        100, description="how far down its list an anchor's positive and negative are looked for"
    )
    min_positives: PositiveInt = Field(
        1, description="an image with fewer in its list is no anchor; RRT on landmarks: 5"
    )


class TripletSampler(MiningSampler):
    """Batches of triplets (anchor, positive, negative), one behind another, drawn anew every epoch.

    Positive and negative come at random from the anchor's list: an image of the same identity from another camera, as
    the evaluation would count it, and one of another identity. Of a training set without camera ids, any other image of
    the identity is a positive. Anchors come from a shuffled pack, as identities do in PK batches.

    Args:
        config: the options.
        labels: classes of the training images, 0 .. C - 1.
        seed: the experiment's seed.
        found: the first stage's lists of the training images.

    Raises:
        SamplingError: no image has both in its list.

    Source: Tan, Yuan and Ordonez, Instance-level Image Retrieval using Reranking Transformers, ICCV 2021, section 4.1;
    the cameras are ours.
    """

    layout: Layout = "triplets"

    def __init__(self, config: Config, labels: Sequence[int], seed: int, found: Neighbours) -> None:
        self._config = config
        self._seed = seed
        label_N = np.asarray(labels)
        list_NK = found.neighbour_NK[:, : config.top_k]
        same_NK = label_N[list_NK] == label_N[:, None]
        camid_N = found.camid_N
        elsewhere_NK = (camid_N[list_NK] != camid_N[:, None]) | (camid_N[:, None] < 0)
        self._list_NK, self._positive_NK, self._negative_NK = list_NK, same_NK & elsewhere_NK, ~same_NK
        usable_N = (self._positive_NK.sum(1) >= config.min_positives) & self._negative_NK.any(1)
        self._anchor_A = np.flatnonzero(usable_N)
        if not len(self._anchor_A):
            raise SamplingError(
                f"triplets sampler: wanted images with at least {config.min_positives} of their identity from other "
                f"cameras and one of another identity among the first {list_NK.shape[1]} of their list, found none in "
                f"{len(label_N)}. Raise top_k, or lower min_positives."
            )
        self.batches_per_epoch = config.num_batches or -(-len(self._anchor_A) // config.num_triplets)
        if len(self._anchor_A) < len(label_N):
            self.note = (
                f"{len(self._anchor_A):,} of {len(label_N):,} images are anchors: they have a match and a mistake "
                f"among the first {list_NK.shape[1]} of their list"
            )

    @staticmethod
    def num_neighbours(config: Config) -> int:
        """See :meth:`MiningSampler.num_neighbours`."""
        return config.top_k

    def batches(self, epoch: int, class_distances: ClassDistances | None = None) -> list[list[int]]:  # noqa: ARG002
        """See :meth:`Sampler.batches`; depends on (seed, epoch) alone."""
        rng = generator(self._seed, "triplets", epoch)
        size = self._config.num_triplets
        packs = -(-self.batches_per_epoch * size // len(self._anchor_A))
        anchors = np.concatenate([rng.permutation(self._anchor_A) for _ in range(packs)])
        return [
            [image for anchor in anchors[start : start + size] for image in self._triplet(int(anchor), rng)]
            for start in range(0, self.batches_per_epoch * size, size)
        ]

    def _triplet(self, anchor: int, rng: np.random.Generator) -> list[int]:
        list_K = self._list_NK[anchor]
        return [anchor, _one(list_K[self._positive_NK[anchor]], rng), _one(list_K[self._negative_NK[anchor]], rng)]


def _one(choice_C: NDArray[np.int64], rng: np.random.Generator) -> int:
    return int(choice_C[rng.integers(0, len(choice_C))])


COMPONENT = TripletSampler
