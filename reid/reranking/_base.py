"""What every classical re-ranker offers: a first stage's scores in, better ones out. None looks at an identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

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

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a re-ranker may know.

    Attributes:
        score_QG: scores so far, [Q, G], float32, an array or a memory map.
        scale: of the scores.
        query, gallery: the images, without identity or role.
        query_QD, gallery_GD: their embeddings, [Q, D] and [G, D], of unit length; None where the first stage does not
            compare by their cosine: what they say would be another first stage.
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
            raise _no_cosine(reranker)
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
    """Built as ``TheClass(config)``. The file's last line is ``COMPONENT = TheClass``.

    Attributes:
        config: its table.
        reads_embeddings: whether it looks at embeddings; only a first stage that compares them by cosine will do then.
    """

    reads_embeddings: ClassVar[bool] = False
    config: RerankerConfig

    @abstractmethod
    def refuse_images(self, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:
        """Raise what :meth:`__call__` would raise of these images, whatever their scores are.

        Raises:
            ConfigError: the gallery is too small for it.
            DatasetError: it needs cameras and times, and an image has none.
        """

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


def refuse_unfit(
    rerankers: Sequence[Reranker], query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], *, cosine: bool
) -> None:
    """Raise where a re-ranker will not do, before anything is computed.

    Args:
        rerankers: which are to follow the first stage.
        query: the query images.
        gallery: the gallery images.
        cosine: whether the first stage compares embeddings by their cosine.

    Raises:
        ConfigError: a re-ranker looks at embeddings and the first stage is another, or the gallery is too small.
        DatasetError: a re-ranker needs cameras and times, and an image has none.
    """
    for reranker in rerankers:
        if reranker.reads_embeddings and not cosine:
            raise _no_cosine(reranker.config.name)
        reranker.refuse_images(query, gallery)


def _no_cosine(reranker: str) -> ConfigError:
    return ConfigError(
        f"rerank {reranker}: wanted a first stage that compares embeddings by cosine, such as the matcher 'embedding', "
        "found one that compares otherwise. Test a run of such a matcher, or take this re-ranker out."
    )
