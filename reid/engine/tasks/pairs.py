"""Task ``pairs``: the loss sees some pairs of a batch only, for matchers that are too costly for all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from reid.data.samplers._base import Layout
from reid.engine.model import Model
from reid.losses._base import AuxiliaryLoss, LossValue, PairLoss
from reid.types import FeatureMaps


class PairsTask(nn.Module):
    """One step on chosen pairs of a batch.

    Of triplets, each anchor with its positive and its negative. Of any other batch, every pair of one identity and, per
    anchor, as many of the most similar strangers as ``max_pairs`` has room for; similar by the cosine of the backbone's
    averaged maps, which costs nothing and is the same for every matcher.

    Args:
        model: encodes the batch and compares the pairs.
        loss: of the pairs.
        layout: of the batches.
        max_pairs: most pairs a step, unless there are more pairs of one identity.
        auxiliary: of what the pairs cannot reach, added to their loss; None: there is no such thing.
    """

    def __init__(
        self, model: Model, loss: PairLoss, layout: Layout, max_pairs: int, auxiliary: AuxiliaryLoss | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.loss: nn.Module = loss if auxiliary is None else nn.ModuleDict({"pairs": loss, "auxiliary": auxiliary})
        self._pair_loss, self._auxiliary = loss, auxiliary
        self._layout = layout
        self._max_pairs = max_pairs

    def forward(self, inputs: Tensor | FeatureMaps, label_B: Tensor) -> LossValue:
        """Loss of a batch.

        Args:
            inputs: as :meth:`reid.engine.model.Model.forward` takes it.
            label_B: identity of each image, [B], int64, from 0.
        """
        state, maps = self.model.states_and_maps(inputs)
        label_B = label_B.to(self.model.device)
        if self._layout == "triplets":
            pair_N2 = triplet_pairs(len(label_B)).to(label_B.device)
        else:
            pair_N2 = hardest_pairs(label_B, _descriptor(maps), self._max_pairs)
        query_N, gallery_N = pair_N2.unbind(1)
        outputs = self.model.matcher.pair(state[query_N], state[gallery_N])
        value: LossValue = self._pair_loss(outputs, label_B[query_N] == label_B[gallery_N])
        if self._auxiliary is None or value.loss is None:
            return value
        beside: LossValue = self._auxiliary(state, label_B)
        return LossValue(value.loss if beside.loss is None else value.loss + beside.loss, value.accuracy)


def triplet_pairs(num_images: int) -> Tensor:
    """Pairs of (anchor, positive) and (anchor, negative) of triplets one behind another, [N, 2], int64."""
    anchor_T = torch.arange(0, num_images, 3)
    return torch.stack((anchor_T.repeat_interleave(2), torch.stack((anchor_T + 1, anchor_T + 2), 1).flatten()), 1)


def hardest_pairs(label_B: Tensor, descriptor_BD: Tensor, max_pairs: int) -> Tensor:
    """Every pair of different images of one identity, and each image with its most similar strangers.

    Args:
        label_B: identities, [B], int64.
        descriptor_BD: compared by their dot products, [B, D].
        max_pairs: most pairs in all; pairs of one identity are never left out.

    Returns:
        positions of query and gallery image, [N, 2], int64.
    """
    same_BB = label_B[:, None] == label_B
    positive_P2 = (same_BB & ~torch.eye(len(label_B), dtype=torch.bool, device=label_B.device)).nonzero()
    each = max(0, max_pairs - len(positive_P2)) // len(label_B)
    each = min(each, int((~same_BB).sum(1).min()))
    similar_BB = (descriptor_BD @ descriptor_BD.T).masked_fill(same_BB, -torch.inf)
    stranger_BK = similar_BB.topk(each, dim=1).indices
    anchor_BK = torch.arange(len(label_B), device=label_B.device)[:, None].expand_as(stranger_BK)
    return torch.cat((positive_P2, torch.stack((anchor_BK.flatten(), stranger_BK.flatten()), 1)))


@torch.no_grad()
def _descriptor(maps: FeatureMaps) -> Tensor:
    coarsest = maps[max(maps)]
    return functional.normalize(coarsest.float().mean((2, 3)))
