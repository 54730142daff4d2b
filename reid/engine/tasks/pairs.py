"""Task ``pairs``: the loss sees some pairs of a batch only, for matchers that are too costly for all of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.data.loader import TrainBatch
from reid.data.samplers._base import Layout
from reid.engine.model import Model
from reid.losses._base import AuxiliaryLoss, LossValue, PairLoss
from reid.types import FeatureMaps

Negatives = Literal["random", "similar"]


class PairsTask(nn.Module):
    """One step on chosen pairs of a batch.

    Of triplets, each anchor with its positive and its negative. Of any other batch, every pair of one identity and, per
    anchor, as many strangers as ``max_pairs`` has room for: random ones, or the most similar by the cosine of the
    backbone's averaged maps, which costs nothing and is the same for every matcher.

    The most similar strangers teach a shortcut where the matcher and that cosine read the same maps: positives are a
    sample of all, so that a pair that looks alike as a whole is a negative one. Transformer-Cat, from scratch on
    synthped, told 86 % of such pairs of its batches apart and ranked the test set no better than at random.

    Args:
        model: encodes the batch and compares the pairs.
        loss: of the pairs.
        layout: of the batches.
        max_pairs: most pairs a step, unless there are more pairs of one identity.
        negatives: which strangers an anchor is paired with.
        auxiliary: of what the pairs cannot reach, added to their loss; None: there is no such thing.
    """

    def __init__(
        self,
        model: Model,
        loss: PairLoss,
        layout: Layout,
        *,
        max_pairs: int,
        negatives: Negatives = "random",
        auxiliary: AuxiliaryLoss | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss: nn.Module = loss if auxiliary is None else nn.ModuleDict({"pairs": loss, "auxiliary": auxiliary})
        self._pair_loss, self._auxiliary = loss, auxiliary
        self._layout = layout
        self._max_pairs = max_pairs
        self._negatives = negatives

    def forward(self, batch: TrainBatch) -> LossValue:
        """Loss of a batch."""
        state, maps = self.model.states_and_maps(batch.inputs)
        label_B = batch.label_B.to(self.model.device)
        if self._layout == "triplets":
            pair_N2 = triplet_pairs(len(label_B)).to(label_B.device)
        else:
            pair_N2 = preferred_pairs(label_B, self._preference(maps, len(label_B)), self._max_pairs)
        query_N, gallery_N = pair_N2.unbind(1)
        outputs = self.model.matcher.pair(state[query_N], state[gallery_N])
        value: LossValue = self._pair_loss(outputs, label_B[query_N] == label_B[gallery_N])
        if self._auxiliary is None or value.loss is None:
            return value
        beside: LossValue = self._auxiliary(state, label_B)
        return LossValue(value.loss if beside.loss is None else value.loss + beside.loss, value.accuracy)

    @torch.no_grad()
    def _preference(self, maps: FeatureMaps, num_images: int) -> Tensor:
        """Which strangers each image is to be paired with first, [B, B]; drawn on the CPU, for any device alike."""
        if self._negatives == "random":
            return torch.rand(num_images, num_images).to(self.model.device)
        descriptor_BD = functional.normalize(maps[max(maps)].float().mean((2, 3)))
        return descriptor_BD @ descriptor_BD.T


def triplet_pairs(num_images: int) -> Tensor:
    """Pairs of (anchor, positive) and (anchor, negative) of triplets one behind another, [N, 2], int64."""
    anchor_T = torch.arange(0, num_images, 3)
    return torch.stack((anchor_T.repeat_interleave(2), torch.stack((anchor_T + 1, anchor_T + 2), 1).flatten()), 1)


def preferred_pairs(label_B: Tensor, preference_BB: Tensor, max_pairs: int) -> Tensor:
    """Every pair of different images of one identity, and each image with the strangers that it prefers.

    Args:
        label_B: identities, [B], int64.
        preference_BB: of each image for each other one, [B, B], finite.
        max_pairs: most pairs in all; pairs of one identity are never left out.

    Returns:
        positions of query and gallery image, [N, 2], int64.
    """
    same_BB = label_B[:, None] == label_B
    positive_P2 = (same_BB & ~torch.eye(len(label_B), dtype=torch.bool, device=label_B.device)).nonzero()
    each = max(0, max_pairs - len(positive_P2)) // len(label_B)
    each = min(each, int((~same_BB).sum(1).min()))
    stranger_BK = preference_BB.masked_fill(same_BB, -torch.inf).topk(each, dim=1).indices
    anchor_BK = torch.arange(len(label_B), device=label_B.device)[:, None].expand_as(stranger_BK)
    return torch.cat((positive_P2, torch.stack((anchor_BK.flatten(), stranger_BK.flatten()), 1)))
