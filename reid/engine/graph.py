"""Distances between the images that stand for their identities, for graph sampling."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid.engine.extract import Extraction, extract
from reid.engine.model import Model
from reid.evaluation.scoring import Scoring, score_gallery
from reid.evaluation.states import collect_states
from reid.progress import Progress
from reid.types import ImageRecord


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """What :func:`class_distances` found.

    Attributes:
        distance_CC: negative scores of every image (rows, as queries) with every other, [C, C], float32, on the CPU.
        extract_s: seconds spent computing states.
        score_s: seconds spent comparing them.
    """

    distance_CC: Tensor
    extract_s: float
    score_s: float


def class_distances(
    model: Model, records: Sequence[ImageRecord], how: Extraction, *, folder: Path, progress: Progress
) -> Graph:
    """Compare C images with each other, in blocks.

    Args:
        model: put into eval mode, and left there.
        records: one image of each identity.
        how: how states are computed and kept; neighbours are as well found with half-precision states.
        folder: where states or distances go that do not fit into memory, for as long as they are needed.
        progress: where pairs/s and the time left are shown.

    Raises:
        ImageError: an image is missing, truncated or no image.
        StorageError: ``folder`` is needed and cannot be written or is too small.

    Source: Liao and Shao, Graph Sampling, CVPR 2022, section 3.
    """
    scoring = Scoring()
    started = time.perf_counter()
    state = collect_states(
        extract(model, records, how), len(records), max_memory=scoring.query_memory, file=folder / "graph.states"
    )
    extract_s = time.perf_counter() - started
    out, blocks = folder / "graph.npy", state.split(scoring.gallery_block)
    scored = score_gallery(model.score, state, blocks, len(records), how=scoring, out=out, progress=progress)
    np.negative(scored.score_QG, out=scored.score_QG)
    return Graph(torch.from_numpy(scored.score_QG), extract_s, scored.score_s)
