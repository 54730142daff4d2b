"""From image files to states, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reid.data.loader import default_workers, test_batches
from reid.engine.model import Model
from reid.engine.precision import Precision, autocast
from reid.nn.folding import folded
from reid.types import ImageRecord, ImageState, StatePrecision

_CPU_PIXELS = 16 * 384 * 128
"""Of the images that go through a backbone on a CPU together: more fall out of its caches."""


@dataclass(frozen=True, slots=True)
class Extraction:
    """How states are computed.

    Attributes:
        batch_size: images a batch.
        num_workers: processes that decode images.
        precision: arithmetic of backbone and encoder.
        states: precision of the states, where the matcher allows it.
    """

    batch_size: int = 64
    num_workers: int = field(default_factory=default_workers)
    precision: Precision = "float32"
    states: StatePrecision = "bfloat16"


def extract(model: Model, records: Sequence[ImageRecord], how: Extraction) -> Iterator[ImageState]:
    """Yield the states of ``records`` in order, in their storage dtype, ``how.batch_size`` at a time.

    The model is put into eval mode, and stays there.

    Raises:
        ImageError: a file is missing, truncated or no image.
    """
    encode = encoder(model, how)
    loader = test_batches(records, model.image_size, batch_size=how.batch_size, num_workers=how.num_workers)
    for image_BCHW in loader:
        yield encode(image_BCHW)


def extract_both(
    first: Model, second: Model, records: Sequence[ImageRecord], how: Extraction
) -> Iterator[tuple[ImageState, ImageState]]:
    """As :func:`extract`, for two models of one backbone: images are read, and go through it, once.

    Args:
        first: one of them.
        second: the other. The backbone that gives more maps is the one that is used.
        records: the images.
        how: how both models' states are computed and kept.
    """
    second_gives = not first.strides.issuperset(second.strides)
    giver, taker = (second, first) if second_gives else (first, second)
    size = images_together(giver, how.batch_size)
    backbone = _fast(giver.eval(), how)
    taker.eval()
    loader = test_batches(records, giver.image_size, batch_size=how.batch_size, num_workers=how.num_workers)
    for image_BCHW in loader:
        with torch.no_grad(), autocast(giver.device, how.precision):
            parts = [_both(backbone, taker, part_bCHW) for part_bCHW in image_BCHW.split(size)]
        given, taken = (ImageState.cat([part[side].stored(how.states) for part in parts]) for side in (0, 1))
        yield (taken, given) if second_gives else (given, taken)


def _both(giver: Model, taker: Model, image_BCHW: Tensor) -> tuple[ImageState, ImageState]:
    state, maps = giver.states_and_maps(image_BCHW)
    return state, taker.states_and_maps(image_BCHW, maps)[0]


def _fast(model: Model, how: Extraction) -> Model:
    """The same in fewer operations, where precision allows for it."""
    if how.precision == "float32" or model.backbone is None:
        return model
    blank = torch.zeros(1, 3, *model.image_size, device=model.device)
    return Model(folded(model.backbone, blank), model.matcher, model.image_size, model.norms)


def encoder(model: Model, how: Extraction) -> Callable[[Tensor], ImageState]:
    """What makes the states of a batch, [B, 3, H, W], uint8 or float in [0, 1]; the model goes into eval mode.

    In half precision batch norms become part of the convolutions. In float32 they stay: that changes the last bits.
    """
    fast = _fast(model.eval(), how)
    size = images_together(model, how.batch_size)

    @torch.no_grad()
    def encode(image_BCHW: Tensor) -> ImageState:
        states = []
        for part_bCHW in image_BCHW.split(size):
            with autocast(model.device, how.precision):
                state = fast(part_bCHW)
            states.append(state.stored(how.states))
        return ImageState.cat(states)

    return encode


def images_together(model: Model, batch_size: int) -> int:
    """How many images of a batch should go through the backbone at once, where no gradient is wanted."""
    return batch_size if model.device.type != "cpu" else max(1, _CPU_PIXELS // math.prod(model.image_size))
