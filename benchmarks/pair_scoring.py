"""Pairs a second of TransMatcher at the published size, against the einsum formulation of the released code."""

from __future__ import annotations

import torch

from benchmarks._timing import medians
from reid.matchers.transmatcher import Config, TransMatcher
from reid.types import FeatureSpec, ImageState

QUERIES, GALLERY = 32, 32


def measure() -> list[dict[str, object]]:
    """Rows: the reference, ours on float32 states, ours on stored (float16) states."""
    torch.manual_seed(0)
    matcher = TransMatcher(Config(), FeatureSpec((384, 128), {16: (1024, 24, 8)})).eval()
    keys_NLSD = torch.randn(QUERIES + GALLERY, *matcher.key_shape)
    state = ImageState({"keys": keys_NLSD}, {})
    query, gallery = state[:QUERIES], state[QUERIES:]
    cases = {
        "einsum, float32": lambda: _reference(matcher, query["keys"], gallery["keys"]),
        "reid, float32 states": lambda: _ours(matcher, query, gallery),
        "reid, float16 states": lambda: _ours(matcher, query.stored(), gallery.stored()),
    }
    rate = {name: QUERIES * GALLERY / seconds for name, seconds in medians(cases).items()}
    base = rate["einsum, float32"]
    return [{"case": name, "value": value, "unit": "pairs/s", "ratio": value / base} for name, value in rate.items()]


@torch.no_grad()
def _ours(matcher: TransMatcher, query: ImageState, gallery: ImageState) -> torch.Tensor:
    return matcher.score(query, gallery)


@torch.no_grad()
def _reference(matcher: TransMatcher, query_QLSD: torch.Tensor, gallery_GLSD: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(len(query_QLSD) * len(gallery_GLSD), 1)
    for level, layer in enumerate(matcher.decoder.matching_layers()):
        map_QGST = torch.einsum("qtd,gsd->qgst", query_QLSD[:, level], gallery_GLSD[:, level]) * layer.weight()
        rows = torch.stack((map_QGST.max(2)[0], map_QGST.max(3)[0]), dim=2).reshape(-1, 1, layer.fc2.in_features)
        hidden = torch.relu(layer.bn2(layer.fc2(layer.bn1(rows).squeeze(1))))
        total = total + layer.bn3(layer.fc3(hidden).view(-1, 2).sum(1, keepdim=True))
    return matcher.decoder.norm(total)
