"""What every classical re-ranker offers: a first stage's scores in, better ones out. None looks at an identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reid.config import Config
from reid.errors import ConfigError
from reid.progress import Progress
from reid.types import ImageRecord

Scale = Literal["cosine", "logit", "negative distance", "positive"]
"""What scores are: -1..1, unbounded, -1..0, or from 0 without bound."""


class RerankerConfig(Config):
    """Base of the re-rankers' tables."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a re-ranker may know.

    Attributes:
        score_QG: scores so far, [Q, G], float32, an array or a memory map.
        scale: of the scores.
        query, gallery: the images, without identity or role.
        query_QD, gallery_GD: their embeddings, [Q, D] and [G, D], of unit length; None where the first stage has none.
    """

    score_QG: NDArray[np.float32]
    scale: Scale
    query: Sequence[ImageRecord]
    gallery: Sequence[ImageRecord]
    query_QD: Tensor | None = None
    gallery_GD: Tensor | None = None

    def embeddings(self, reranker: str) -> tuple[Tensor, Tensor]:
        """Of queries and gallery. Raises ConfigError where there are none."""
        if self.query_QD is None or self.gallery_GD is None:
            raise ConfigError(
                f"rerank {reranker}: wanted a first stage with embeddings, found one that compares pairs. Use an "
                "embedding, such as the matcher 'embedding'."
            )
        return self.query_QD, self.gallery_GD

    def positive(self) -> NDArray[np.float32]:
        """Scores that are at least 0: (1 + cosine) / 2, sigmoid(logit / 10), 1 - distance, or what is so already.

        Source: the tenth of a logit is that of the released TransMatcher and QAConv codes.
        """
        if self.scale == "positive":
            return self.score_QG
        if self.scale == "logit":
            share_QG: NDArray[np.float32] = 1 / (1 + np.exp(-self.score_QG / np.float32(10)))
        else:
            share_QG = (1 + self.score_QG) / np.float32(2 if self.scale == "cosine" else 1)
        return share_QG


def anonymous(records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Images without what the test asks for: file, camera and time stay."""
    return [replace(record, pid=-1, role="person", source="") for record in records]


class Reranker(ABC):
    """Built as ``TheClass(config)``. The file's last line is ``COMPONENT = TheClass``."""

    @abstractmethod
    def __call__(self, found: Found, out: NDArray[np.float32], progress: Progress) -> Found:
        """Re-rank.

        Args:
            found: the first stage's, or what another re-ranker made of it.
            out: where scores go, [Q, G], float32; not ``found.score_QG``.
            progress: where long work reports to.

        Returns:
            the same with other scores, which lie in ``out``.

        Raises:
            ConfigError: it needs embeddings and there are none, or the gallery is too small for it.
            DatasetError: it needs cameras and times, and an image has none.
            ShapeError: an embedding or score is not finite.
        """
