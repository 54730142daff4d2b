"""TransMatcher's and QAConv's pair scores as one einsum and two maxima with indices, the published formulation.

Every speed ratio of ``benchmarks/`` is against these functions: float32, nothing computed once that could be computed
again (the projection is part of scoring), every map in memory. ``weights`` are modules' own tensors in eval mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

Layer = Mapping[str, Tensor]
"""Released names: score_embed, fc1.*, bn1.*, fc2.*, bn2.*, fc3.*, bn3.*."""


def transmatcher_scores(
    query: Sequence[Tensor], gallery: Sequence[Tensor], layers: Sequence[Layer], norm: Layer, *, training: bool = False
) -> Tensor:
    """Features of each level, [Q, S, D] and [G, S, D], to scores, [Q, G]; in training with the batch's statistics."""
    total = torch.zeros(len(query[0]) * len(gallery[0]), 1)
    for query_level, gallery_level, layer in zip(query, gallery, layers, strict=True):
        query_QSD, gallery_GSD = (
            functional.linear(level, layer["fc1.weight"], layer["fc1.bias"]) for level in (query_level, gallery_level)
        )
        map_QGST = torch.einsum("qtd,gsd->qgst", query_QSD, gallery_GSD) * layer["score_embed"].sigmoid()
        rows = torch.cat((map_QGST.max(dim=2)[0], map_QGST.max(dim=3)[0]), dim=-1)
        rows = rows.view(-1, 1, map_QGST.shape[-1])
        rows = _batch_norm(rows, layer, "bn1", training).view(-1, map_QGST.shape[-1])
        hidden = functional.linear(rows, layer["fc2.weight"], layer["fc2.bias"])
        hidden = _batch_norm(hidden, layer, "bn2", training).relu()
        logit = functional.linear(hidden, layer["fc3.weight"], layer["fc3.bias"]).view(-1, 2).sum(-1, keepdim=True)
        total = total + _batch_norm(logit, layer, "bn3", training)
    return _batch_norm(total, norm, "", training).view(len(query[0]), -1)


def qaconv_scores(query_QSD: Tensor, gallery_GSD: Tensor, weights: Layer) -> Tensor:
    """Unit features, [Q, S, D] and [G, S, D], to scores, [Q, G]. Released names: bn.*, fc.*, logit_bn.*."""
    map_QGST = torch.einsum("qtd,gsd->qgst", query_QSD, gallery_GSD)
    rows = torch.cat((map_QGST.max(dim=2)[0], map_QGST.max(dim=3)[0]), dim=-1)
    rows = _batch_norm(rows.view(-1, 1, map_QGST.shape[-1]), weights, "bn").view(-1, map_QGST.shape[-1])
    logit = functional.linear(rows, weights["fc.weight"], weights["fc.bias"]).view(-1, 2).sum(-1, keepdim=True)
    return _batch_norm(logit, weights, "logit_bn").view(len(query_QSD), -1)


def _batch_norm(x: Tensor, weights: Layer, name: str, training: bool = False) -> Tensor:
    prefix = f"{name}." if name else ""
    mean, var, weight, bias = (weights[f"{prefix}{of}"] for of in ("running_mean", "running_var", "weight", "bias"))
    return functional.batch_norm(x, mean, var, weight, bias, training)
