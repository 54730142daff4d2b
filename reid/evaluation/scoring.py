"""Score every query against a gallery that streams by, in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.errors import ConfigError, ShapeError, StorageError
from reid.files import claim_space
from reid.progress import Progress, Silent
from reid.types import ImageState

ScoreFunction = Callable[[ImageState, ImageState], Tensor]
"""(Q images, G images) -> score_QG, higher = more alike. It moves the states to its own device and dtype."""


_BLOCKS_HELD = 12
"""A gallery block is that part of the memory: a quarter holds the block, the next one gathered, and its chunks."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """How much is scored and held at a time. No score depends on it.

    Attributes:
        max_memory: bytes of main memory for states and scores of one test together: half of it for the queries' states,
            a quarter each for scores and for gallery states: a block, and what waits for the next. What does not fit
            goes to files.
        scores_held: bytes of scores that earlier tests still hold in memory.
        query_block: most query images a call of the score function.
        gallery_block: most gallery images a call of the score function.
    """

    max_memory: int = 2**32
    scores_held: int = 0
    query_block: int = 128
    gallery_block: int = 512

    @property
    def query_memory(self) -> int:
        """Bytes for the queries' states."""
        return self.max_memory // 2

    @property
    def score_memory(self) -> int:
        """Bytes for scores."""
        return self.max_memory // 4 - self.scores_held

    def gallery_images(self, state_bytes: int) -> int:
        """Gallery images of a block whose states take ``state_bytes`` each.

        Raises:
            ConfigError: not even one fits.
        """
        num = self.max_memory // _BLOCKS_HELD // max(1, state_bytes)
        if num < 1:
            least, found = _BLOCKS_HELD * state_bytes / 2**30, self.max_memory / 2**30
            raise ConfigError(
                f"evaluation.memory_gib: wanted room for blocks of at least one image, {least:.2g} in all at "
                f"{state_bytes:,} bytes a state, found {found:.2g}. Allow more."
            )
        return min(num, self.gallery_block)


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
    def in_memory(self) -> int:
        """Bytes of main memory that the scores take; 0 where they lie in a file."""
        return 0 if isinstance(self.score_QG, np.memmap) else self.score_QG.nbytes

    @property
    def pairs_per_s(self) -> float:
        """Scored pairs per second of scoring."""
        return self.score_QG.size / max(self.score_s, 1e-9)


def score_gallery(
    score: ScoreFunction,
    query: ImageState,
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
        query: the queries' states.
        gallery: gallery states in order, in chunks of any size. Each is used once and let go.
        num_gallery: how many images ``gallery`` yields in all.
        how: block sizes and memory; None: the defaults.
        out: name for a file of scores that do not fit ``how.score_memory``; see :func:`allocate_scores`.
        progress: where pairs/s and the time left are shown.

    Raises:
        ShapeError: no queries or no gallery, ``gallery`` yields another number of images than ``num_gallery``, or
            ``score`` returns another shape than [Q, G].
        ConfigError: ``how.max_memory`` is too little for a block.
        StorageError: the scores need a file and ``out`` is None, cannot be written or does not fit on the disk.
    """
    how = how or Scoring()
    num_query = len(query)
    if not num_query or num_gallery < 1:
        raise ShapeError(f"score_gallery: wanted query and gallery images, found {num_query} and {num_gallery}.")
    size = how.gallery_images(query.nbytes // num_query)
    score_QG = allocate_scores((num_query, num_gallery), out, how.score_memory)
    score_s, seconds = _fill(score_QG, score, query, _parts(gallery, size), how.query_block, progress or Silent())
    return GalleryScores(score_QG, score_s, seconds - score_s)


def _fill(
    score_QG: NDArray[np.float32],
    score: ScoreFunction,
    query: ImageState,
    parts: Iterable[ImageState],
    query_block: int,
    progress: Progress,
) -> tuple[float, float]:
    """(seconds in the score function, seconds in all)."""
    num_query, num_gallery = score_QG.shape
    start_s, score_s, done = time.perf_counter(), 0.0, 0
    with progress.bar("score", num_query * num_gallery, "pair") as bar:
        for part in parts:
            stop = done + len(part)
            if stop > num_gallery:
                raise _miscounted(num_gallery, f"{stop} or more")
            for first in range(0, num_query, query_block):
                block_s = time.perf_counter()
                block_QG = _block_scores(score, query[first : first + query_block], part)
                score_s += time.perf_counter() - block_s
                _refuse_not_finite(block_QG, first, done)
                score_QG[first : first + len(block_QG), done:stop] = block_QG
                bar.advance(block_QG.size)
            done = stop
    if done != num_gallery:
        raise _miscounted(num_gallery, str(done))
    return score_s, time.perf_counter() - start_s


def _parts(gallery: Iterable[ImageState], size: int) -> Iterator[ImageState]:
    """Chunks of any size, gathered or cut into states of ``size`` images; the last may have fewer."""
    waiting: list[ImageState] = []
    for chunk in gallery:
        waiting.append(chunk)
        if sum(map(len, waiting)) >= size:
            parts = list(ImageState.cat(waiting).split(size))
            waiting = [ImageState.cat([parts.pop()])] if len(parts[-1]) < size else []  # a copy: views keep the rest
            while parts:
                yield parts.pop(0)
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


def _refuse_not_finite(block_QG: NDArray[np.float32], first_query: int, first_gallery: int) -> None:
    """At once: hours may be left to score."""
    if np.isfinite(block_QG).all():
        return
    row, column = np.argwhere(~np.isfinite(block_QG))[0].tolist()
    raise ShapeError(
        f"score_gallery: wanted finite scores, found {block_QG[row, column]} for query image {first_query + row} and "
        f"gallery image {first_gallery + column}, counted from 0. Look for a training that diverged, or an overflow in "
        "half precision (evaluation.state_precision)."
    )


def allocate_scores(shape: tuple[int, int], out: Path | None, max_memory: int) -> NDArray[np.float32]:
    """Room for scores [Q, G]: in memory, or in a memory map where that is too little.

    The map's file is made at ``out``, where another is replaced, and loses its name at once: it goes with the scores.

    Raises:
        StorageError: a file is needed and ``out`` is None, cannot be written or does not fit on the disk.
    """
    num_bytes = 4 * shape[0] * shape[1]
    need = f"{shape[0]:,} x {shape[1]:,} scores take {num_bytes / 2**20:,.0f} MiB"
    if num_bytes <= max_memory:
        return np.empty(shape, dtype=np.float32)
    if out is None:
        raise StorageError(
            f"score_gallery: {need}, more than the {max_memory / 2**20:,.0f} MiB allowed in memory, and there is no "
            "file to put them in. Name one, or allow more memory."
        )
    claim_space(out, num_bytes)
    try:
        return np.memmap(out, dtype=np.float32, mode="r+", shape=shape)
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is in use
            out.unlink()


def _miscounted(num_gallery: int, found: str) -> ShapeError:
    return ShapeError(
        f"score_gallery: wanted {num_gallery} gallery images, found {found}. The gallery's states are not those of the "
        "gallery's records: encode it anew."
    )
