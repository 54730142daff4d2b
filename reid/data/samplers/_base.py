"""What every sampler offers: the batches of one epoch, as lists of positions in the training set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from reid.config import Config

ClassDistances = Callable[[Sequence[int]], Tensor]
"""Positions of one image a class, in class order -> distance matrix [C, C], float32, by the current model."""


class SamplerConfig(Config):
    """Base of the samplers' tables."""


class Sampler(ABC):
    """Draws batches. Built as ``TheClass(config, labels, seed)``; ``labels`` are the images' classes, 0 .. C - 1.

    Attributes:
        batches_per_epoch: how many batches :meth:`batches` returns.
        note: what the user should know of how these labels are sampled, in a sentence; None: nothing.
    """

    batches_per_epoch: int
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
