"""Where random numbers come from: a generator of its own for every purpose, epoch and sample."""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import numpy as np


class Draws(Protocol):
    """The three draws that augmentation makes; ``numpy.random.Generator`` has them."""

    def integers(self, low: int, high: int, /) -> Any:
        """A whole number, ``low <= n < high``."""

    def uniform(self, low: float, high: float, /) -> Any:
        """A real number, ``low <= x < high``."""

    def permutation(self, count: int, /) -> Any:
        """The numbers 0 .. count - 1 in random order."""


def generator(seed: int, purpose: str, *key: int) -> np.random.Generator:
    """A generator that depends on its arguments alone.

    Args:
        seed: the experiment's seed, 0 or more.
        purpose: what the numbers are for, such as ``"augment"``; different purposes are independent.
        key: counters, 0 or more, such as epoch and position; (1, 2) and (1, 2, 0) are different keys.
    """
    # Counters in the entropy itself would be padded with zeros, which makes (1, 2) and (1, 2, 0) equal.
    purpose_key = zlib.crc32(purpose.encode())
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(purpose_key, *key)))
