"""What dense matches say about pairs of images, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Evidence:
    """What N matches say about whether both images show the same person; the same if the images are exchanged.

    All [N], 0..1 but for the similarity, -1..1.

    Attributes:
        certainty_N: mean certainty of both directions.
        gap_N: by how much the mean certainties of the directions differ.
        similarity_N: cosine of each cell's features and those where it lies, weighted by certainty.
        cycle_N: share of cells that come back to where they started, there and back.
        entropy_N: mean entropy of the anchors' probabilities, 1 where they are equal; None where there are no anchors.
    """

    certainty_N: Tensor
    gap_N: Tensor
    similarity_N: Tensor
    cycle_N: Tensor
    entropy_N: Tensor | None = None

    def stacked(self) -> Tensor:
        """All that there is, in the order of the fields, [N, 4 or 5]."""
        there = (self.certainty_N, self.gap_N, self.similarity_N, self.cycle_N, self.entropy_N)
        return torch.stack([value for value in there if value is not None], dim=1)

    @property
    def certainty_sim_N(self) -> Tensor:  # noqa: N802 - N is its shape
        """Certainty times similarity: a score that needs no labels, [N]."""
        return self.certainty_N * self.similarity_N

    @staticmethod
    def cat(parts: Sequence[Evidence]) -> Evidence:
        """Of all pairs, in order."""
        return Evidence(*torch.cat([part.stacked() for part in parts]).unbind(1))
