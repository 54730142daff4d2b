"""What every sampler offers: the batches of one epoch, as lists of positions in the training set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reid.config import Config

ClassDistances = Callable[[Sequence[int]], Tensor]
"""Positions of one image a class, in class order -> distance matrix [C, C], float32, by the current model."""


Layout = Literal["any", "triplets"]
"""How images stand in a batch. triplets: anchor, positive, negative, anchor, positive ..."""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """What a first stage finds for each training image among all others, without a look at identities.

    Attributes:
        neighbour_NK: positions of the K most similar other images, best first, [N, K], int64.
        camid_N: camera of each image, [N], int64; -1 where it is unknown.
    """

    neighbour_NK: NDArray[np.int64]
    camid_N: NDArray[np.int64]


class SamplerConfig(Config):
    """Base of the samplers' tables."""


class Sampler(ABC):
    """Draws batches. Built as ``TheClass(config, labels, seed)``; ``labels`` are the images' classes, 0 .. C - 1.

    A :class:`MiningSampler` is built with a first stage's neighbours as fourth argument.

    Attributes:
        batches_per_epoch: how many batches :meth:`batches` returns.
        layout: of the images in a batch.
        note: what the user should know of how these labels are sampled, in a sentence; None: nothing.
    """

    batches_per_epoch: int
    layout: Layout = "any"
    note: str | None = None

    @abstractmethod
    def batches(self, epoch: int, class_distances: ClassDistances | None = None) -> list[list[int]]:
        """Batches of ``epoch`` (from 0); depends on (seed, epoch) and on :meth:`state_dict` alone.

        Raises:
            SamplingError: the training set cannot fill a batch as configured.
        """

    def state_dict(self) -> dict[str, Any]:
        """What an epoch leaves behind for the next, JSON-ready."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027 - most samplers keep nothing
        """Take up where :meth:`state_dict` left off."""


class MiningSampler(Sampler):
    """A sampler that looks for hard examples among what a first stage finds."""

    @staticmethod
    @abstractmethod
    def num_neighbours(config: Any) -> int:
        """How many neighbours of each image a sampler of this configuration looks at."""
