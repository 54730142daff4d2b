"""Worker processes that load the samples of an epoch, or none of them.

What a sample is depends on its item and its place in the epoch, never on the number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from reid.errors import ImageError, WorkerError

Keys = list[tuple[int, int]]
_WORKER_ENDED = (
    "loading images: wanted worker processes that run to the end, found one that ended early. In a script of your own, "
    "start below `if __name__ == '__main__':`. Otherwise memory may have run out: use fewer workers (0 always works)."
)


class _Samples(Dataset[tuple[list[NDArray[Any]], float]]):
    """What a worker holds: the items, and how to load one at a place of the epoch."""

    def __init__(self, items: Sequence[Any], load: Callable[[Any, int], Sequence[Tensor]]) -> None:
        self._items = items
        self._load = load

    def __getitems__(self, keys: Keys) -> tuple[list[NDArray[Any]], float] | ImageError:
        """One batch, and the seconds it took.

        An error is returned: raised here, DataLoader would bury its message in a traceback.

        As NumPy, a batch comes through a pipe. As a tensor, it would come through /dev/shm, which is too small for
        it in many containers.
        """
        started = time.perf_counter()
        try:
            loaded = [self._load(self._items[index], place) for place, index in keys]
        except ImageError as error:
            return error
        batch = [np.asarray(torch.stack(tensors)) for tensors in zip(*loaded, strict=True)]
        return batch, time.perf_counter() - started


def load_batches(
    items: Sequence[Any],
    batches: Sequence[Sequence[int]],
    load: Callable[[Any, int], Sequence[Tensor]],
    num_workers: int,
) -> Iterator[tuple[list[Tensor], float]]:
    """Load batches of samples, in order.

    Args:
        items: what samples are made from, sent to each worker.
        batches: positions in ``items``.
        load: item and its place in ``batches`` -> the tensors of its sample; an item drawn twice has two places.
        num_workers: processes; 0 loads in this one.

    Yields:
        the samples' tensors, stacked, and the seconds that one process took.

    Raises:
        ImageError: ``load`` did.
        WorkerError: a worker process ended early.
    """
    loader: DataLoader[Any] = DataLoader(
        _Samples(items, load),
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
            arrays, read_s = batch
            yield [torch.from_numpy(array) for array in arrays], read_s
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(_WORKER_ENDED) from error


def _number(batches: Sequence[Sequence[int]]) -> list[Keys]:
    """Give each image its place in the epoch: an image drawn twice is augmented in two ways."""
    starts = np.cumsum([0, *map(len, batches)]).tolist()
    return [list(enumerate(batch, start)) for start, batch in zip(starts, batches, strict=False)]


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
