"""What is trained on: images that are read anew every epoch, or the maps that a frozen backbone made of them once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reid.data._random import generator
from reid.data.loader import TrainBatch, test_batches, train_batches
from reid.data.pairs import Views, ViewsConfig, pair_batches
from reid.data.surface_images import SurfaceImages
from reid.data.transforms import TrainTransform
from reid.engine.extract import images_together
from reid.engine.model import Model
from reid.evaluation.states import collect_states
from reid.progress import Bar, Progress
from reid.types import ImageRecord, ImageState

_READ_TOGETHER = 64
_MAPS_MEMORY = 2**32  # bytes; beyond, maps go to a file


@dataclass(frozen=True, slots=True)
class Epoch:
    """Which epoch is loaded, counted from 0, and how: the experiment's seed, and processes that decode."""

    seed: int
    epoch: int
    num_workers: int


@dataclass(frozen=True)
class TrainingSet:
    """Training images with their classes, 0 .. C - 1."""

    records: Sequence[ImageRecord]
    labels: Sequence[int]

    def load(self, batches: Sequence[Sequence[int]], transform: TrainTransform, when: Epoch) -> Iterator[TrainBatch]:
        """Load batches of positions; see :func:`reid.data.loader.train_batches`."""
        return train_batches(
            self.records,
            self.labels,
            batches,
            transform,
            seed=when.seed,
            epoch=when.epoch,
            num_workers=when.num_workers,
        )


@dataclass(frozen=True)
class CachedTrainingSet(TrainingSet):
    """Training images as maps, [N, 2, C, H, W] a stride: of the image as it is, and mirrored."""

    maps: ImageState

    def load(self, batches: Sequence[Sequence[int]], transform: TrainTransform, when: Epoch) -> Iterator[TrainBatch]:
        """As :meth:`TrainingSet.load`, but mirroring is all that is drawn."""
        label_N = torch.as_tensor(self.labels, dtype=torch.int64)
        place = 0
        for indices in batches:
            started = time.perf_counter()
            index_B = torch.as_tensor(indices)
            draws = [
                generator(when.seed, "mirror", when.epoch, place + number).uniform(0.0, 1.0)
                for number in range(len(indices))
            ]
            mirror_B = (torch.tensor(draws) < transform.config.flip).long()
            maps = {int(name): stored[index_B, mirror_B] for name, stored in self.maps.tensors.items()}
            place += len(indices)
            yield TrainBatch(maps, label_N[index_B], time.perf_counter() - started)


@dataclass(frozen=True)
class PairedTrainingSet(TrainingSet):
    """Training images from each of which a pair of views with known correspondences is made."""

    image_size: tuple[int, int]
    views: ViewsConfig
    surfaces: SurfaceImages | None

    def load(self, batches: Sequence[Sequence[int]], transform: TrainTransform, when: Epoch) -> Iterator[TrainBatch]:  # noqa: ARG002
        """See :func:`reid.data.pairs.pair_batches`; the views' own photometry takes the place of ``transform``."""
        views = Views(self.views, self.image_size, self.surfaces, when.seed, when.epoch)
        return pair_batches(self.records, self.labels, batches, views, num_workers=when.num_workers)


def cache_maps(model: Model, data: TrainingSet, *, num_workers: int, file: Path, progress: Progress) -> TrainingSet:
    """Send every training image through the frozen backbone once, as it is and mirrored.

    Args:
        model: its backbone goes into eval mode, and stays there.
        data: the images.
        num_workers: processes that decode.
        file: where maps go that do not fit into memory, for as long as they are needed.
        progress: where images/s and the time left are shown.

    Raises:
        ImageError: an image is missing, truncated or no image.
        StorageError: ``file`` is needed and cannot be written or does not fit on the disk.
    """
    model.eval()
    images = test_batches(data.records, model.image_size, batch_size=_READ_TOGETHER, num_workers=num_workers)
    with progress.bar("maps", len(data.records), "image") as bar:
        states = _map_states(model, images, bar)
        maps = collect_states(states, len(data.records), max_memory=_MAPS_MEMORY, file=file)
    return CachedTrainingSet(data.records, data.labels, maps)


def _map_states(model: Model, images: Iterator[Tensor], bar: Bar) -> Iterator[ImageState]:
    for image_BCHW in images:
        both = [_maps(model, side_BCHW) for side_BCHW in (image_BCHW, image_BCHW.flip(3))]
        yield ImageState({name: torch.stack([one[name] for one in both], dim=1) for name in both[0].tensors})
        bar.advance(len(image_BCHW))


@torch.no_grad()
def _maps(model: Model, image_BCHW: Tensor) -> ImageState:
    parts = image_BCHW.split(images_together(model, len(image_BCHW)))
    maps = [model.feature_maps(part_bCHW) for part_bCHW in parts]
    return ImageState.cat(
        [ImageState({str(stride): map_bCHW for stride, map_bCHW in part.items()}) for part in maps]
    ).stored()
