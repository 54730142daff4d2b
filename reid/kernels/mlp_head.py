"""A perceptron with one output on very many short rows, without keeping its hidden layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from reid.kernels import native
from reid.kernels.native import matching
from reid.kernels.simmax import Backend, forced_backend, has_bfloat16

_HIDDEN_BYTES = {"cpu": 2**22, "cuda": 2**27}
"""Bytes of hidden layer that exist at a time."""

_TRAINED_BYTES = 2**24
"""The same in training; every part costs a sum of the weights' gradients."""


@dataclass(frozen=True, slots=True, eq=False)
class MlpHead:
    """``out . relu(weight row + bias)``, batch norms folded in.

    Attributes:
        weight_FS: [F, S]. bias_F, out_F: [F]. All on one device, float32 or float64.
    """

    weight_FS: Tensor
    bias_F: Tensor
    out_F: Tensor

    def logits(self, row_XS: Tensor, *, halves: bool) -> Tensor:
        """One value a row, [X], in the rows' dtype.

        Args:
            row_XS: [X, S], the dtype of the weights.
            halves: take the first product in bfloat16 where the device has instructions for it, on a CPU with AMX by
                the native kernel; the sum over hidden units stays in float32.
        """
        halves = halves and (row_XS.is_cuda or has_bfloat16())
        if halves and self._way(row_XS) == "native":
            weight_FS, bias_F, out_F = self._in_blocks_of_32()
            packed = matching.pack(weight_FS[None], "columns")
            return matching.mlp_logits(row_XS.contiguous(), packed, bias_F, out_F)
        dtype = torch.bfloat16 if halves else row_XS.dtype
        weight_SF, bias_F = self.weight_FS.T.to(dtype), self.bias_F.to(dtype)
        rows = max(1, _HIDDEN_BYTES.get(row_XS.device.type, 2**22) // (dtype.itemsize * len(bias_F)))
        hidden_xF = row_XS.new_empty(min(rows, len(row_XS)), len(bias_F), dtype=dtype)
        logit_X = row_XS.new_empty(len(row_XS))
        for start in range(0, len(row_XS), rows):
            row_xS = row_XS[start : start + rows].to(dtype)
            part_xF = torch.addmm(bias_F, row_xS, weight_SF, out=hidden_xF[: len(row_xS)]).relu_()
            logit_X[start : start + rows] = part_xF.to(logit_X.dtype) @ self.out_F
        return logit_X

    def trainable_logits(self, row_XS: Tensor) -> Tensor:
        """The same with gradients, also for the weights: hidden units are computed again when gradients want them."""
        rows = max(1, _TRAINED_BYTES // (row_XS.dtype.itemsize * len(self.bias_F)))
        parts = [
            checkpoint(_logits, row_xS, self.weight_FS, self.bias_F, self.out_F, use_reentrant=False)
            for row_xS in row_XS.split(rows)
        ]
        return torch.cat(parts)

    def _way(self, row_XS: Tensor) -> Backend:
        if row_XS.device.type != "cpu" or native.amx().library is None:
            return "eager"
        forced = forced_backend()
        return "native" if forced in (None, "int8") else forced  # the head has no int8 form

    def _in_blocks_of_32(self) -> tuple[Tensor, Tensor, Tensor]:
        """Hidden units filled up to a multiple of 32 with ones that nothing comes out of."""
        more = -len(self.bias_F) % 32
        bias_F, out_F = (functional.pad(tensor.float(), (0, more)) for tensor in (self.bias_F, self.out_F))
        return functional.pad(self.weight_FS.float(), (0, 0, 0, more)), bias_F, out_F


def _logits(row_XS: Tensor, weight_FS: Tensor, bias_F: Tensor, out_F: Tensor) -> Tensor:
    return functional.linear(row_XS, weight_FS, bias_F).relu_() @ out_F
