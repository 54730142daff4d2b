"""Shared ground of the baselines that compare two images by the dot product of their vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.errors import ShapeError
from reid.matchers._base import Matcher, PairOutputs
from reid.matchers._inputs import read_field
from reid.nn.dtype import at_least_float32
from reid.types import ImageState, StateField


class ScoreNorm(nn.Module):
    """Batch norm of scores whose scale is the exponential of a parameter: it keeps the order of scores for good.

    With a free scale a step could turn the sign, and then the nearest embeddings would score lowest. At the start, 1
    and 0, it is the usual batch norm. In training mode the statistics are over all scores of the call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(1, affine=False)
        self.log_scale = nn.Parameter(torch.zeros(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, score: Tensor) -> Tensor:
        """Normalise scores of any shape."""
        normed: Tensor = self.bn(score.reshape(-1, 1)).view(score.shape)
        return normed * self.log_scale.exp() + self.shift


class DotProductMatcher(Matcher):
    """Score a pair by the batch norm of the dot product of its images' vectors.

    State: ``embedding`` [N, D], not normalised. Sorting by its dot product is sorting by score, see :class:`ScoreNorm`.
    In training mode a call's scores are normalised together: all pairs of a batch against itself.

    Attributes:
        dim: D.
        name: for error messages.
    """

    dim: int
    name: str
    score_norm: ScoreNorm

    def pair(self, query: ImageState, gallery: ImageState) -> PairOutputs:
        """See :meth:`Matcher.pair`."""
        query_ND, gallery_ND = self._embedding(query), self._embedding(gallery)
        if len(query_ND) != len(gallery_ND):
            raise ShapeError(
                f"{self.name}: wanted aligned pairs, found {len(query_ND)} query and {len(gallery_ND)} gallery images."
            )
        with torch.autocast(query_ND.device.type, enabled=False):
            return PairOutputs(self.score_norm((query_ND * gallery_ND).sum(1)))

    def score(self, query: ImageState, gallery: ImageState) -> Tensor:
        """See :meth:`Matcher.score`."""
        query_QD, gallery_GD = self._embedding(query), self._embedding(gallery)
        with torch.autocast(query_QD.device.type, enabled=False):
            return self.score_norm(functional.linear(query_QD, gallery_GD))  # type: ignore[no-any-return]

    def _state(self, embedding_BD: Tensor) -> ImageState:
        return ImageState({"embedding": embedding_BD}, {"embedding": StateField(bears_halving=False)})

    def _embedding(self, state: ImageState) -> Tensor:
        """In at least float32."""
        embedding_ND = read_field(state, "embedding", (self.dim,), self.name)
        return at_least_float32(embedding_ND)
