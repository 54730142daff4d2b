"""Image files to batches, in worker processes or without.

What a batch holds depends on the files, the seed, the epoch and the place of each image in the epoch, never on
the number of workers. Images travel as uint8 and are divided by 255 where the model is.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid.data._random import generator
from reid.data.transforms import TestTransform, TrainTransform
from reid.errors import ImageError, WorkerError
from reid.types import FeatureMaps, ImageRecord

_Keys = list[tuple[int, int]]
_MAX_WORKERS = 8  # about 2,400 augmented images a second at 384 x 128: more than one GPU trains on
_WORKER_ENDED = (
    "loading images: wanted worker processes that run to the end, found one that ended early. In a script of your own, "
    "start below `if __name__ == '__main__':`. Otherwise memory may have run out: use fewer workers (0 always works)."
)


@dataclass(frozen=True, slots=True)
class TrainBatch:
    """What a training step begins with: images or, where the backbone is frozen, its maps of them; and classes.

    Attributes:
        inputs: augmented images, RGB, [B, 3, H, W], uint8; or stride -> feature map, [B, C, H, W].
        label_B: classes, [B], int64.
        read_s: seconds that one process took to read and augment them.
    """

    inputs: Tensor | FeatureMaps
    label_B: Tensor
    read_s: float


def read_image(path: Path) -> Image.Image:
    """Read one image file completely, as RGB.

    Raises:
        ImageError: the file is missing, unreadable, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"{path}: wanted an image, found no such file. Check the data root.") from None
    except (OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path}: wanted a whole image, found: {error}. Copy or unpack the file again.") from None


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
    for indices, (image_BCHW, read_s) in zip(batches, _load(records, batches, load, num_workers), strict=True):
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
    yield from (image_BCHW for image_BCHW, _ in _load(records, batches, load, num_workers))


class _Images(Dataset[tuple[NDArray[np.uint8], float]]):
    """What a worker holds: file names, and how to load the image at a place of the epoch."""

    def __init__(self, records: Sequence[ImageRecord], load: Callable[[Path, int], Tensor]) -> None:
        self._names = [str(record.path) for record in records]  # strings: Paths take many times as long to send
        self._load = load

    def __getitems__(self, keys: _Keys) -> tuple[NDArray[np.uint8], float] | ImageError:
        """One batch, and the seconds it took.

        An error is returned: raised here, DataLoader would bury its message in a traceback.

        As NumPy, a batch comes through a pipe. As a tensor, it would come through /dev/shm, which is too small for
        it in many containers.
        """
        started = time.perf_counter()
        try:
            loaded = [self._load(Path(self._names[index]), place) for place, index in keys]
        except ImageError as error:
            return error
        return np.asarray(torch.stack(loaded)), time.perf_counter() - started


def _load(
    records: Sequence[ImageRecord],
    batches: Sequence[Sequence[int]],
    load: Callable[[Path, int], Tensor],
    num_workers: int,
) -> Iterator[tuple[Tensor, float]]:
    loader: DataLoader[Any] = DataLoader(
        _Images(records, load),
        batch_sampler=_number(batches),
        collate_fn=_unchanged,
        num_workers=num_workers,
        worker_init_fn=_end_with_parent if num_workers else None,
        multiprocessing_context=_context() if num_workers else None,
        generator=torch.Generator(),  # DataLoader would draw from the global one, whose state training saves
    )
    try:
        for batch in loader:
            if isinstance(batch, ImageError):
                raise batch
            image_BCHW, read_s = batch
            yield torch.from_numpy(image_BCHW), read_s
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(_WORKER_ENDED) from error


def _number(batches: Sequence[Sequence[int]]) -> list[_Keys]:
    """Give each image its place in the epoch: an image drawn twice is augmented in two ways."""
    starts = np.cumsum([0, *map(len, batches)]).tolist()
    return [list(enumerate(batch, start)) for start, batch in zip(starts, batches, strict=False)]


def _read_train(transform: TrainTransform, seed: int, epoch: int, path: Path, place: int) -> Tensor:
    return transform(read_image(path), generator(seed, "augment", epoch, place))


def _read_test(transform: TestTransform, path: Path, _place: int) -> Tensor:
    return transform(read_image(path))


def _end_with_parent(_worker: int) -> None:
    """A worker whose main process was killed would wait for work for ever: its own parent is the fork server."""
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _unchanged(batch: Any) -> Any:
    return batch


def _context() -> BaseContext:
    """How workers start: not by fork, which can hang where torch, tqdm or TensorBoard have threads."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Imported once and not in every worker, which runs the main script's imports first. Naming "__main__" would do, but
    # has no effect before Python 3.13.8 and 3.14.1 (CPython issue 126631).
    context.set_forkserver_preload([name for name in sys.modules if name.partition(".")[0] == "reid"])
    return context
