"""Reading the truth about pairs of images between the centres of pixels: for losses and metrics alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reid.types import Warp

TEAR_PX = 4.0
"""Neighbouring pixels that lie further apart in the other image are on different things, with no truth between them."""
_NO_WEIGHT = 1e-3
"""A pixel that counts for so little is not read: the position is a centre, but for rounding."""
_CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


@dataclass(frozen=True, slots=True)
class Spots:
    """The truth about K positions of one image of each of N pairs.

    Attributes:
        position_NK2: where in the other image, (x, y) in pixels, [N, K, 2]; without meaning where nothing is visible.
        visible_NK: whether it can be seen there, [N, K], bool.
        known_NK: whether ``visible_NK`` tells the truth, [N, K], bool.
    """

    position_NK2: Tensor
    visible_NK: Tensor
    known_NK: Tensor

    @property
    def seen_NK(self) -> Tensor:  # noqa: N802 - a shape suffix
        """Whether it is known to be visible."""
        return self.visible_NK & self.known_NK

    @property
    def hidden_NK(self) -> Tensor:  # noqa: N802
        """Whether it is known not to be visible."""
        return ~self.visible_NK & self.known_NK


@torch.no_grad()
def truth_at(truth: Warp, at_NK2: Tensor) -> Spots:
    """Read the truth at any positions: bilinear between the centres of pixels.

    The centre of a cell of even stride lies between four pixels; one of them alone would be half a pixel off. The truth
    between pixels is known where it is known at all of them, they agree about being visible, and they lie within
    :data:`TEAR_PX` of each other; at the centre of a pixel it is that pixel's alone.

    Args:
        truth: of N pairs, one way.
        at_NK2: (x, y) in pixels, [N, K, 2], finite; what lies beyond the outermost centres is read at the border.
    """
    height, width = truth.visible_NHW.shape[1:]
    low_NK2 = (at_NK2 - 0.5).floor()
    share_NK2 = at_NK2 - 0.5 - low_NK2
    corner_4112 = at_NK2.new_tensor(_CORNERS)[:, None, None]
    weight_4NK = torch.where(corner_4112 > 0, share_NK2, 1 - share_NK2).prod(3)
    unread_4NK = weight_4NK <= _NO_WEIGHT
    weight_4NK = weight_4NK.masked_fill(unread_4NK, 0)
    pixel_4NK2 = (low_NK2 + corner_4112).clamp(min=0).minimum(at_NK2.new_tensor((width - 1, height - 1))).long()
    pair_N1 = torch.arange(len(at_NK2), device=at_NK2.device)[:, None]
    where = pair_N1, pixel_4NK2[..., 1], pixel_4NK2[..., 0]
    position_4NK2 = truth.position_NHW2[where].to(at_NK2.dtype)
    position_NK2 = (weight_4NK[..., None] * position_4NK2).sum(0) / weight_4NK.sum(0)[..., None]
    seen_4NK = truth.visible_NHW[where]
    visible_NK, hidden_NK = (seen_4NK | unread_4NK).all(0), (~seen_4NK | unread_4NK).all(0)
    known_NK = (truth.known_NHW[where] | unread_4NK).all(0) & (visible_NK | hidden_NK)
    unread_4NK2 = unread_4NK[..., None]
    least_NK2 = position_4NK2.masked_fill(unread_4NK2, torch.inf).amin(0)
    most_NK2 = position_4NK2.masked_fill(unread_4NK2, -torch.inf).amax(0)
    torn_NK = visible_NK & ((most_NK2 - least_NK2).amax(2) > TEAR_PX)
    return Spots(position_NK2, visible_NK, known_NK & ~torn_NK)
