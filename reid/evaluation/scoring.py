"""Score every query against a gallery that streams by, in bounded memory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.errors import ShapeError, StorageError
from reid.files import storage_error
from reid.progress import Progress, Silent
from reid.types import ImageState

ScoreFunction = Callable[[ImageState, ImageState], Tensor]
"""(Q images, G images) -> score_QG, higher = more alike. It moves the states to its own device and dtype."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How much is scored and held at a time.

    Attributes:
        query_block: most query images a call of the score function.
        gallery_block: most gallery images a call of the score function.
        max_memory: bytes of scores to hold in memory; Market-1501's 3,368 x 15,913 take a tenth of the default.
    """

    query_block: int = 128
    gallery_block: int = 256
    max_memory: int = 2**31


@dataclass(frozen=True, slots=True, eq=False)
class GalleryScores:
    """Outcome of :func:`score_gallery`.

    Attributes:
        score_QG: [Q, G], float32; a memory map where it was too large for the memory.
        score_s: seconds spent in the score function.
        gallery_s: seconds spent waiting for gallery states, which is mostly their encoding.
    """

    score_QG: NDArray[np.float32]
    score_s: float
    gallery_s: float

    @property
    def pairs_per_s(self) -> float:
        """Scored pairs per second of scoring."""
        return self.score_QG.size / max(self.score_s, 1e-9)


def score_gallery(
    score: ScoreFunction,
    query: ImageState | Sequence[ImageState],
    gallery: Iterable[ImageState],
    num_gallery: int,
    *,
    how: Scoring | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> GalleryScores:
    """Score all queries against all gallery images.

    Args:
        score: compares two blocks of states.
        query: the queries' states, as one state or in chunks; kept as they are.
        gallery: gallery states in order, in chunks of any size. Each is used once and let go.
        num_gallery: how many images ``gallery`` yields in all.
        how: block sizes and memory; None: the defaults. The scores do not depend on it.
        out: file (``.npy``) for scores that do not fit ``how.max_memory``; an existing one is replaced.
        progress: where pairs/s and the time left are shown.

    Raises:
        ShapeError: no queries or no gallery, ``gallery`` yields another number of images than ``num_gallery``, or
            ``score`` returns another shape than [Q, G].
        StorageError: the scores need a file and ``out`` is None, cannot be written or does not fit on the disk.
    """
    how = how or Scoring()
    chunks = [query] if isinstance(query, ImageState) else list(query)
    blocks = [block for chunk in chunks for block in chunk.split(how.query_block)]
    edges = np.cumsum([0, *map(len, blocks)]).tolist()
    if not edges[-1] or num_gallery < 1:
        raise ShapeError(f"score_gallery: wanted query and gallery images, found {edges[-1]} and {num_gallery}.")
    score_QG = _allocate((edges[-1], num_gallery), out, how.max_memory)
    start_s, score_s, done = time.perf_counter(), 0.0, 0
    with (progress or Silent()).bar("score", num_gallery, "image") as bar:
        for gallery_part in _parts(gallery, how.gallery_block):
            stop = done + len(gallery_part)
            if stop > num_gallery:
                raise _miscounted(num_gallery, f"{stop} or more")
            part_s = time.perf_counter()
            for block, (first, last) in zip(blocks, pairwise(edges), strict=True):
                score_QG[first:last, done:stop] = _block_scores(score, block, gallery_part)
            score_s += time.perf_counter() - part_s
            done = stop
            bar.advance(len(gallery_part), **{"pairs/s": f"{done * edges[-1] / score_s:,.0f}"})
    if done != num_gallery:
        raise _miscounted(num_gallery, str(done))
    return GalleryScores(score_QG, score_s, time.perf_counter() - start_s - score_s)


def _parts(gallery: Iterable[ImageState], size: int) -> Iterator[ImageState]:
    """Chunks of any size, gathered or cut into states of ``size`` images; the last may have fewer."""
    waiting: list[ImageState] = []
    for chunk in gallery:
        waiting.append(chunk)
        if sum(map(len, waiting)) >= size:
            parts = list(ImageState.cat(waiting).split(size))
            waiting = [parts.pop()] if len(parts[-1]) < size else []
            yield from parts
    if waiting:
        yield ImageState.cat(waiting)


def _block_scores(score: ScoreFunction, query: ImageState, gallery: ImageState) -> NDArray[np.float32]:
    with torch.no_grad():
        score_QG = score(query, gallery)
    if tuple(score_QG.shape) != (len(query), len(gallery)):
        raise ShapeError(
            f"score_gallery: wanted scores [Q, G] = [{len(query)}, {len(gallery)}], found {list(score_QG.shape)}."
        )
    block_QG: NDArray[np.float32] = score_QG.float().cpu().numpy()
    return block_QG


def _allocate(shape: tuple[int, int], out: Path | None, max_memory: int) -> NDArray[np.float32]:
    num_bytes = 4 * shape[0] * shape[1]
    need = f"{shape[0]:,} x {shape[1]:,} scores take {num_bytes / 2**20:,.0f} MiB"
    if num_bytes <= max_memory:
        return np.empty(shape, dtype=np.float32)
    if out is None:
        raise StorageError(
            f"score_gallery: {need}, more than the {max_memory / 2**20:,.0f} MiB allowed in memory, and there is no "
            "file to put them in. Name one, or allow more memory."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        # A memory map on a full disk kills the process instead of raising an error.
        if num_bytes > free:
            raise StorageError(
                f"{out}: {need}, found {free / 2**20:,.0f} MiB free. Free some space, choose another folder, or allow "
                "more memory (evaluation.max_score_memory_gib)."
            )
        return np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=shape)
    except OSError as error:
        raise storage_error(out, error) from error


def _miscounted(num_gallery: int, found: str) -> ShapeError:
    return ShapeError(
        f"score_gallery: wanted {num_gallery} gallery images, found {found}. The gallery's states are not those of the "
        "gallery's records: encode it anew."
    )
