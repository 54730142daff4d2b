"""Quality over time of a second stage: what every length of the shortlist brings, and what a query takes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt

from reid.config import Config
from reid.evaluation.judge import Judge
from reid.evaluation.labels import CameraRule
from reid.evaluation.reranked import Figures
from reid.evaluation.shortlist import Shortlist, perfect_order
from reid.files import file_name
from reid.types import StatePrecision

SCHEMA_VERSION: Final = 1


class Point(Config):
    """One length of the shortlist."""

    top_k: PositiveInt
    figures: Figures
    oracle: Figures  # a perfect order of this shortlist
    rescore_s: NonNegativeFloat  # seconds that the second stage takes for the pairs of a query, median of a sample
    query_s: NonNegativeFloat  # seconds of a query in all: encode it for both stages, first stage's scores, rescore_s


class Line(Config):
    """One second stage behind the first."""

    method: str  # what the second stage is
    encode_s: NonNegativeFloat  # seconds to read and encode one query alone for both stages, median of a sample
    one_backbone: bool  # whether both stages share one, so that an image goes through it once
    points: tuple[Point, ...]  # by top_k, ascending


class Curve(Config):
    """One target."""

    target: str  # label of the set, with its variant
    counts_checked: bool
    camera_rule: CameraRule
    num_query: PositiveInt
    num_gallery: PositiveInt  # junk included
    first: Figures  # the first stage alone
    encode_s: NonNegativeFloat  # seconds to read and encode one query alone for the first stage, median of a sample
    score_s: NonNegativeFloat  # seconds of the first stage's scores of a query, mean over all
    lines: tuple[Line, ...]

    @property
    def file_name(self) -> str:
        """The target as a part of a file's name."""
        return file_name(self.target)

    @property
    def first_s(self) -> float:
        """Seconds of a query with the first stage alone."""
        return self.encode_s + self.score_s


class Curves(Config):
    """``curve.json`` of a run."""

    schema_version: Literal[1] = SCHEMA_VERSION
    method: str  # what the first stage is
    precision: str  # of backbone and encoder
    state_precision: StatePrecision  # of states that wait to be scored
    curves: tuple[Curve, ...]
    machine: str  # processor, cores, accelerator
    commit: str | None = None  # of the code


def heads(
    judge: Judge, shortlist: Shortlist, second_QK: NDArray[np.float32], top_ks: Sequence[int]
) -> list[tuple[Figures, Figures]]:
    """Figures of the first k images of a shortlist in the second stage's order, and in a perfect one, for each k.

    Args:
        judge: of the first stage's scores.
        shortlist: taken from them.
        second_QK: the second stage's scores of it, [Q, K].
        top_ks: lengths, at most K.
    """
    perfect_QK = perfect_order(shortlist, judge.truth)
    found = []
    for k in top_ks:
        head = Shortlist(shortlist.gallery_idx_QK[:, :k], shortlist.score_QK[:, :k], shortlist.gallery)
        own, oracle = (judge.reordered(head, order_QK[:, :k]).figures for order_QK in (second_QK, perfect_QK))
        found.append((own, oracle))
    return found
