"""CMC of the old CUHK03 protocol: one gallery image an identity, drawn at random, averaged over draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reid.errors import ShapeError
from reid.evaluation.labels import PERSON, Labels, Truth
from reid.evaluation.metrics import MAX_RANK
from reid.evaluation.ranking import Scores, top_k

Generator = np.random.Generator | np.random.RandomState


def single_shot_cmc(
    score_QG: Scores,
    query: Labels,
    gallery: Labels,
    generator: Generator,
    *,
    repeats: int = 10,
    camera_rule: bool = True,
) -> NDArray[np.float64]:
    """Compute the CMC with one gallery image an identity; distractors, nobody's images, all stay.

    It draws for every query, repeat and identity, which suits the hundred identities of the protocol.

    Args:
        score_QG: [Q, G], higher = more alike, finite.
        query: labels of the Q rows.
        gallery: labels of the G columns.
        generator: draws the images, identities in the order of their best image. A seeded ``RandomState`` draws what
            the released evaluation codes draw.
        repeats: draws a query.
        camera_rule: False keeps images of the query's own camera.

    Returns:
        cmc_K: [MAX_RANK], float64, 0..1, over the queries with a match.

    Raises:
        ShapeError: no query has a match, or scores and labels differ in number.

    Source: the protocol of Li et al., DeepReID, CVPR 2014, with the gallery drawn anew for each query.
    """
    truth = Truth(query, gallery, camera_rule=camera_rule)
    if tuple(score_QG.shape) != (len(query), len(gallery)):
        raise ShapeError(
            f"single_shot_cmc: wanted scores [{len(query)}, {len(gallery)}], found {list(score_QG.shape)}."
        )
    person_G = truth.person_G.copy()
    alone_G = gallery.role_N != PERSON
    person_G[alone_G] = -1 - np.flatnonzero(alone_G)
    ranks = [
        _draw(order_N, person_G, truth.person_Q[idx], generator)
        for idx in range(len(query))
        if truth[idx].reason is None
        for order_N in [_order(score_QG[idx : idx + 1], truth[idx].removed_R)]
        for _ in range(repeats)
    ]
    if not ranks:
        raise ShapeError("single_shot_cmc: wanted queries with a match in the gallery, found none.")
    curve: NDArray[np.float64] = (np.array(ranks) <= np.arange(1, MAX_RANK + 1)[:, None]).mean(axis=1)
    return curve


def _order(score_1G: Scores, removed_R: NDArray[np.int64]) -> NDArray[np.int64]:
    order_1N = top_k(score_1G, score_1G.shape[1] - len(removed_R), [removed_R])
    return order_1N.reshape(-1)


def _draw(order_N: NDArray[np.int64], person_G: NDArray[np.int64], person: np.int64, generator: Generator) -> int:
    places: dict[int, list[int]] = {}
    for place, gallery_idx in enumerate(order_N):
        places.setdefault(int(person_G[gallery_idx]), []).append(place)
    drawn = {identity: int(generator.choice(choices)) for identity, choices in places.items()}
    return 1 + sum(place < drawn[int(person)] for place in drawn.values())
