"""Images a second from pixels to TransMatcher's states, ResNet-50 IBN-b at 384 x 128."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_mib
from reid.backbones.resnet import Config as BackboneConfig
from reid.backbones.resnet import ResNet
from reid.engine.extract import Extraction, encoder
from reid.engine.model import Model
from reid.engine.precision import Precision
from reid.matchers.transmatcher import Config, TransMatcher
from reid.memory import keep_freed_memory
from reid.types import FeatureSpec

NAME = "extraction"
BATCH = 64
SIZE = (384, 128)
SPEC = FeatureSpec(SIZE, {16: (1024, 24, 8)})
REFERENCE = "float32, channels first, as released (batches of 16)"
GOALS = {"reid, bfloat16": 40.0}


def measure() -> list[Row]:
    """Rows: the released arrangement of memory and precision, then ours."""
    seconds = medians(cases(), rounds=2)
    return [
        Row(
            name,
            BATCH / value,
            "images/s",
            seconds[REFERENCE] / value,
            peak_mib(NAME, name),
            GOALS.get(name),
            goal_is_value=True,
        )
        for name, value in seconds.items()
    ]


def cases() -> dict[str, Callable[[], object]]:
    """Name -> compute the states of a batch of images."""
    torch.manual_seed(0)
    image_BCHW = torch.randint(256, (BATCH, 3, *SIZE), dtype=torch.uint8)
    return {
        REFERENCE: partial(_released, _model(), image_BCHW),
        "reid, float32": partial(_ours, _model(), image_BCHW, "float32"),
        "reid, bfloat16": partial(_ours, _model(), image_BCHW, "bf16"),
    }


def _model() -> Model:
    backbone = ResNet(BackboneConfig(name="resnet", depth=50, ibn="b", cut="layer3"), pretrained=False)
    return Model(backbone, TransMatcher(Config(), SPEC), SIZE).eval()


@torch.no_grad()
def _released(model: Model, image_BCHW: Tensor) -> None:
    keep_freed_memory(False)
    model.backbone.to(memory_format=torch.contiguous_format)
    for part_bCHW in image_BCHW.split(16):
        model.matcher.encode(part_bCHW, model.backbone(part_bCHW / 255))


def _ours(model: Model, image_BCHW: Tensor, precision: Precision) -> None:
    keep_freed_memory()
    encoder(model, Extraction(num_workers=0, precision=precision, states="bfloat16"))(image_BCHW)
