"""Image files to batches, in worker processes or without.

What a batch holds depends on the files, the seed, the epoch and the place of each image in the epoch, never on
the number of workers. Images travel as uint8 and are divided by 255 where the model is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from reid.data._random import generator
from reid.data._workers import load_batches
from reid.data.transforms import TestTransform, TrainTransform
from reid.images import read_image
from reid.types import FeatureMaps, ImageRecord, Warps

_MAX_WORKERS = 8  # about 2,400 augmented images a second at 384 x 128: more than one GPU trains on


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """What a training step begins with: images or, where the backbone is frozen, its maps of them; and classes.

    Attributes:
        inputs: augmented images, RGB, [B, 3, H, W], uint8; or stride -> feature map, [B, C, H, W].
        label_B: classes, [B], int64.
        read_s: seconds that one process took to read and augment them.
        warps: of B / 2 pairs, the first half of the images with the second; None where nothing is known about them.
    """

    inputs: Tensor | FeatureMaps
    label_B: Tensor
    read_s: float
    warps: Warps | None = None


def default_workers() -> int:
    """Worker processes for this machine: one less than the cores this process may use, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores - 1, _MAX_WORKERS)


def train_batches(
    records: Sequence[ImageRecord],
    labels: Sequence[int],
    batches: Sequence[Sequence[int]],
    transform: TrainTransform,
    *,
    seed: int,
    epoch: int,
    num_workers: int,
) -> Iterator[TrainBatch]:
    """Load one epoch.

    Args:
        records: the training set.
        labels: its classes, in the order of ``records``.
        batches: positions in ``records``, from a sampler.
        transform: draws for each image from a generator of (seed, epoch, place of the image in ``batches``).
        seed: the experiment's seed.
        epoch: counted from 0.
        num_workers: processes; 0 reads in this one.

    Raises:
        ImageError: an image is missing, truncated or no image.
        WorkerError: a worker process ended early.
    """
    label_N = torch.as_tensor(labels, dtype=torch.int64)
    load = partial(_read_train, transform, seed, epoch)
    loaded = load_batches(file_names(records), batches, load, num_workers)
    for indices, ((image_BCHW,), read_s) in zip(batches, loaded, strict=True):
        yield TrainBatch(image_BCHW, label_N[torch.as_tensor(indices)], read_s)


def test_batches(
    records: Sequence[ImageRecord], image_size: tuple[int, int], *, batch_size: int, num_workers: int
) -> Iterator[Tensor]:
    """Load every image once, in order.

    Args:
        records: the images.
        image_size: (height, width) in pixels.
        batch_size: images a batch; the last may have fewer.
        num_workers: processes; 0 reads in this one.

    Yields:
        RGB, [B, 3, H, W], uint8.

    Raises:
        ImageError: an image is missing, truncated or no image.
        WorkerError: a worker process ended early.
    """
    positions = range(len(records))
    batches = [positions[start : start + batch_size] for start in range(0, len(records), batch_size)]
    load = partial(_read_test, TestTransform(image_size))
    yield from (image_BCHW for (image_BCHW,), _ in load_batches(file_names(records), batches, load, num_workers))


def file_names(records: Sequence[ImageRecord]) -> list[str]:
    """Of the images: as strings, for Paths take many times as long to send to a worker."""
    return [str(record.path) for record in records]


def _read_train(transform: TrainTransform, seed: int, epoch: int, name: str, place: int) -> tuple[Tensor]:
    return (transform(read_image(Path(name)), generator(seed, "augment", epoch, place)),)


def _read_test(transform: TestTransform, name: str, _place: int) -> tuple[Tensor]:
    return (transform(read_image(Path(name))),)
