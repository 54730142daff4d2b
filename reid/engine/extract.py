"""From image files to states, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from reid.data.loader import default_workers, test_batches
from reid.engine.model import Model
from reid.engine.precision import Precision, autocast
from reid.types import ImageRecord, ImageState, StatePrecision


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
    states: StatePrecision = "float16"


@torch.no_grad()
def extract(model: Model, records: Sequence[ImageRecord], how: Extraction) -> Iterator[ImageState]:
    """Yield the states of ``records`` in order, in their storage dtype, ``how.batch_size`` at a time.

    The model is put into eval mode, and stays there.

    Raises:
        ImageError: a file is missing, truncated or no image.
    """
    model.eval()
    loader = test_batches(records, model.image_size, batch_size=how.batch_size, num_workers=how.num_workers)
    for image_BCHW in loader:
        with autocast(model.device, how.precision):
            state = model(image_BCHW)
        yield state.stored(how.states)
