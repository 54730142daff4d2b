"""Labelled images without files, for the tests of this folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid.evaluation.labels import Labels
from reid.types import ImageRecord, Role
from tests.reference.metrics import Image


def record(pid: int, camid: int | None = 0, role: Role = "person", source: str = "set") -> ImageRecord:
    return ImageRecord(Path(f"{pid}_{camid}.jpg"), pid, camid, role=role, source=source)


def labels(pids: Sequence[int], camids: Sequence[int | None], roles: Sequence[Role] | None = None) -> Labels:
    kinds = roles or ["person"] * len(pids)
    return Labels.of([record(*values) for values in zip(pids, camids, kinds, strict=True)])


def labels_of(images: Sequence[Image]) -> Labels:
    return labels(*zip(*[(image.pid, image.camid, image.role) for image in images], strict=True))


def drawn_images(rng: np.random.Generator, num: int, *, pids: int = 5, cams: int = 3) -> list[Image]:
    """Mostly persons, some distractors and junk."""
    roles = rng.choice(["person", "distractor", "junk"], num, p=[0.7, 0.2, 0.1])
    return [
        Image(int(rng.integers(pids)) if role == "person" else -1, int(rng.integers(cams)), str(role)) for role in roles
    ]
