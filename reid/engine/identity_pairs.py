"""Scores of pairs of images that show one person, and of pairs that show two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from reid.data._random import generator
from reid.data.loader import test_batches
from reid.engine.extract import Extraction, encoder
from reid.engine.model import Model
from reid.progress import Progress
from reid.types import ImageRecord

CHOSEN = "score"
"""Name of the score that the matcher's table chooses."""
_PAIRS_TOGETHER = 32


def draw_identity_pairs(
    query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], num_pairs: int
) -> tuple[list[tuple[ImageRecord, ImageRecord]], NDArray[np.bool_]]:
    """Draw query images and gallery images of other cameras: half of the pairs show one person, half show two.

    Args:
        query: images to draw from.
        gallery: likewise; junk and distractors are left out.
        num_pairs: most pairs in all; an even number. There are fewer where few queries have a match.

    Returns:
        the pairs, always the same, and whether each shows one person.
    """
    rng = generator(0, "identity pairs")
    people = [record for record in gallery if record.role == "person"]
    pairs: list[tuple[ImageRecord, ImageRecord]] = []
    same: list[bool] = []
    for query_idx in rng.permutation(len(query)):
        if len(pairs) + 2 > num_pairs:
            break
        one = query[query_idx]
        elsewhere = [other for other in people if other.camid is None or other.camid != one.camid]
        matches = [other for other in elsewhere if other.pid == one.pid and other.source == one.source]
        strangers = [other for other in elsewhere if (other.pid, other.source) != (one.pid, one.source)]
        if matches and strangers:
            pairs += [(one, group[int(rng.integers(len(group)))]) for group in (matches, strangers)]
            same += [True, False]
    return pairs, np.array(same, dtype=bool)


@torch.no_grad()
def identity_scores(
    model: Model, pairs: Sequence[tuple[ImageRecord, ImageRecord]], how: Extraction, progress: Progress, label: str
) -> dict[str, NDArray[np.float32]]:
    """Score pairs of images by everything that the matcher knows to score them by.

    Args:
        model: put into eval mode.
        pairs: query and gallery image each.
        how: how states are computed.
        progress: where to report.
        label: what the pairs are, likewise.

    Returns:
        name -> scores, [N], float32; :data:`CHOSEN`, and others where the matcher has several.

    Raises:
        ImageError: an image is missing, truncated or no image.
    """
    encode = encoder(model, how)
    records = [record for pair in pairs for record in pair]
    loader = test_batches(records, model.image_size, batch_size=2 * _PAIRS_TOGETHER, num_workers=how.num_workers)
    found: dict[str, list[NDArray[np.float32]]] = {}
    with progress.bar(label, len(pairs), "pair") as bar:
        for image_BCHW in loader:
            state = encode(image_BCHW).to(dtype=torch.float32)
            outputs = model.matcher.pair(state[0::2], state[1::2])
            for name, score_N in {CHOSEN: outputs.logit_N, **outputs.other_scores}.items():
                found.setdefault(name, []).append(score_N.float().cpu().numpy())
            bar.advance(len(outputs.logit_N))
    return {name: np.concatenate(parts) for name, parts in found.items()}
