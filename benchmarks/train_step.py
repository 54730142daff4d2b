"""Seconds and memory of a training step, batch 64 at the published size: of the matcher alone, and of all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_mib
from reid.backbones.resnet import Config as BackboneConfig
from reid.backbones.resnet import ResNet
from reid.engine.model import Model
from reid.losses._base import LossSpec
from reid.losses.pairwise import Config as LossConfig
from reid.losses.pairwise import PairwiseMatchingLoss
from reid.matchers.transmatcher import Config, TransMatcher
from reid.memory import keep_freed_memory
from reid.types import FeatureSpec, ImageState
from tests.reference.einsum import transmatcher_scores

BATCH, PER_PID, ROUNDS = 64, 4, 1
SIZE = (384, 128)
SPEC = FeatureSpec(SIZE, {16: (1024, 24, 8)})
REFERENCE = "matcher: autograd through the maps"
WHOLE_REFERENCE = "all, bfloat16: autograd through the maps, freed memory kept"
GOALS = {"matcher: reid, float32": 3.0, "all, bfloat16: reid": 1.4}
MEMORY_GOALS = {"matcher: reid, float32": 8.0}
NAME = "train_step"


def measure() -> list[Row]:
    """Rows: autograd through the maps and ours, the matcher's part and whole steps; ratios within each of the two."""
    seconds = medians(cases(), ROUNDS)
    memory = {name: peak_mib(NAME, name) for name in seconds}
    rows = []
    for name, value in seconds.items():
        base = WHOLE_REFERENCE if name.startswith(("all", "backbone")) else REFERENCE
        rows.append(Row(name, value, "s", seconds[base] / value, memory[name], GOALS.get(name)))
        less = memory[base] / memory[name]
        if name != base:
            rows.append(Row(f"{name}, memory", memory[name], "MiB", less, memory[name], MEMORY_GOALS.get(name)))
    return rows


def cases() -> dict[str, Callable[[], None]]:
    """Name -> one step, forward and backward."""
    torch.manual_seed(0)
    matcher = TransMatcher(Config(), SPEC).train()
    backbone = ResNet(BackboneConfig(name="resnet", depth=50, ibn="b", cut="layer3"), pretrained=False)
    model = Model(backbone, matcher, SIZE).train()
    levels = [torch.randn(BATCH, 192, 512, requires_grad=True) for _ in range(3)]
    image_BCHW = torch.randint(256, (BATCH, 3, *SIZE), dtype=torch.uint8)
    return {
        REFERENCE: partial(_step, _reference_scores, matcher, levels, keep=False),
        f"{REFERENCE}, freed memory kept": partial(_step, _reference_scores, matcher, levels, keep=True),
        "matcher: reid, float32": partial(_step, _our_scores, matcher, levels, keep=True),
        "matcher: reid, bfloat16": partial(_step, _our_scores, matcher, levels, keep=True, halves=True),
        WHOLE_REFERENCE: partial(_whole_step, _reference_scores, model, image_BCHW),
        "all, bfloat16: reid": partial(_whole_step, _our_scores, model, image_BCHW),
        "backbone and encoder alone, bfloat16": partial(_whole_step, None, model, image_BCHW),
    }


Scores = Callable[[TransMatcher, list[Tensor]], Tensor]


def _step(scores: Scores, matcher: TransMatcher, levels: list[Tensor], *, keep: bool, halves: bool = False) -> None:
    keep_freed_memory(keep)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halves):
        score_BB = scores(matcher, levels)
    _loss(score_BB).backward()


def _whole_step(scores: Scores | None, model: Model, image_BCHW: Tensor) -> None:
    keep_freed_memory()
    matcher, backbone = model.matcher, model.backbone
    with torch.autocast("cpu", dtype=torch.bfloat16):
        levels = matcher.levels(backbone((image_BCHW / 255).contiguous(memory_format=torch.channels_last)))
        score_BB = scores(matcher, levels) if scores else None
    (sum(level.float().mean() for level in levels) if score_BB is None else _loss(score_BB)).backward()  # type: ignore[union-attr]


def _loss(score_BB: Tensor) -> Tensor:
    loss = PairwiseMatchingLoss(LossConfig(), LossSpec(num_pids=BATCH // PER_PID, embedding_dim=None))
    return loss(ImageState({"score": score_BB}), score_BB.float(), torch.arange(BATCH) // PER_PID).loss


def _our_scores(matcher: TransMatcher, levels: list[Tensor]) -> Tensor:
    keys_BLSD = matcher.decoder.project(levels)
    scores: Tensor = matcher.decoder(keys_BLSD, keys_BLSD, aligned=False)
    return scores


def _reference_scores(matcher: TransMatcher, levels: list[Tensor]) -> Tensor:
    layers = [dict(layer.named_parameters()) | dict(layer.named_buffers()) for layer in matcher.decoder.layers]
    norm = dict(matcher.decoder.norm.named_parameters()) | dict(matcher.decoder.norm.named_buffers())
    return transmatcher_scores(levels, levels, layers, norm, training=True)
