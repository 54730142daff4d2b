"""What a first stage ranks high among the training images, for samplers that mine there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reid.data.samplers._base import Neighbours
from reid.engine.extract import Extraction, extract
from reid.engine.model import Model
from reid.evaluation.ranking import top_k
from reid.evaluation.scoring import Scoring, score_gallery
from reid.evaluation.states import collect_states
from reid.progress import Progress
from reid.types import ImageRecord

_QUERIES = 512


def nearest_others(
    model: Model, records: Sequence[ImageRecord], k: int, how: Extraction, *, folder: Path, progress: Progress
) -> Neighbours:
    """For every image the ``k`` images that score highest with it, itself left out; all where there are no more.

    Args:
        model: the first stage; put into eval mode, and left there.
        records: the training images.
        k: how many.
        how: how states are computed and kept.
        folder: where states go that do not fit into memory, for as long as they are needed.
        progress: where pairs/s and the time left are shown.

    Raises:
        ImageError: an image is missing, truncated or no image.
        StorageError: ``folder`` is needed and cannot be written or is too small.
    """
    num, scoring = len(records), Scoring()
    states = extract(model, records, how)
    state = collect_states(states, num, max_memory=scoring.query_memory, file=folder / "neighbours.states")
    k = min(k, num - 1)
    found = []
    for start in range(0, num, _QUERIES):
        query = state[start : start + _QUERIES]
        scores = score_gallery(model.score, query, state.split(scoring.gallery_block), num, how=scoring)
        own = [np.array([row]) for row in range(start, start + len(query))]
        found.append(top_k(scores.score_QG, k, own))
    progress.say(f"first stage: the {k} nearest of each of {num:,} training images found")
    camid_N = np.array([-1 if record.camid is None else record.camid for record in records])
    return Neighbours(np.concatenate(found), camid_N)
