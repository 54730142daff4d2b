"""Reference arrays with a record of what was compared, so that a test can show that nothing was passed over."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"


class Golden:
    """The arrays of one file. Reading one marks it as used."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        self.used: set[str] = set()

    def array(self, name: str) -> np.ndarray:
        self.used.add(name)
        return self.arrays[name]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.array(name))

    def under(self, prefix: str) -> dict[str, Tensor]:
        """All arrays whose name starts with ``prefix``, without it."""
        return {name.removeprefix(prefix): self[name] for name in self.arrays if name.startswith(prefix)}

    def check_all_used(self, reasons: Mapping[str, str]) -> None:
        """Every array was used, or matches a pattern of ``reasons`` (pattern -> why it is not compared)."""
        left = {name for name in self.arrays.keys() - self.used if not any(fnmatchcase(name, p) for p in reasons)}
        assert not left, f"arrays that no test compared: {sorted(left)}"
        stale = [pattern for pattern in reasons if not any(fnmatchcase(name, pattern) for name in self.arrays)]
        assert not stale, f"reasons for arrays that do not exist: {stale}"


def assert_relative(found: Tensor, wanted: Tensor, tolerance: float, what: str = "") -> None:
    """The largest difference is at most ``tolerance`` of the largest wanted magnitude (at least 1e-12)."""
    assert found.shape == wanted.shape, f"{what}: {tuple(found.shape)} instead of {tuple(wanted.shape)}"
    difference = float((found.detach().double() - wanted.double()).abs().max())
    scale = max(float(wanted.double().abs().max()), 1e-12)
    assert difference <= tolerance * scale, f"{what}: difference {difference:.3g} at scale {scale:.3g}"


def assert_within_spread(found: Tensor, wanted: Tensor, tolerance: float, what: str = "") -> None:
    """The largest difference is at most ``tolerance`` of the standard deviation of what is wanted."""
    assert found.shape == wanted.shape, f"{what}: {tuple(found.shape)} instead of {tuple(wanted.shape)}"
    difference = float((found.detach().double() - wanted.double()).abs().max())
    spread = float(wanted.double().std())
    assert difference <= tolerance * spread, f"{what}: difference {difference:.3g} at spread {spread:.3g}"
