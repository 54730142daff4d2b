"""Graph sampler: each batch is an identity and those that the current model finds hardest to tell from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Literal, Protocol

import torch
from pydantic import Field, PositiveInt, ValidationInfo, field_validator
from torch import Tensor

from reid.data._random import generator
from reid.data.samplers._base import ClassDistances, Sampler, SamplerConfig
from reid.data.samplers._classes import images_by_class, repeats_note
from reid.errors import CheckpointError, SamplingError


class Config(SamplerConfig):
    """Options of :class:`GraphSampler`."""

    name: Literal["graph"] = "graph"
    batch_size: PositiveInt = Field(64, description="images per batch")
    num_images: PositiveInt = Field(4, validate_default=True, description="images per identity; divides batch_size")
    num_batches: PositiveInt | None = Field(
        None, description="batches per epoch, a random part of them; None: one for every identity"
    )

    @field_validator("num_images")
    @classmethod
    def _leaves_neighbours(cls, num_images: int, info: ValidationInfo) -> int:
        batch_size = info.data.get("batch_size", 2 * num_images)
        if batch_size % num_images or batch_size < 2 * num_images:
            raise ValueError(f"batch_size = {batch_size} must be two or more times num_images")
        return num_images


class Shuffler(Protocol):
    """Shuffles a list in place: ``random.Random`` or a NumPy generator."""

    def shuffle(self, x: Any, /) -> None:
        """Shuffle ``x`` in place."""


class Chooser(Shuffler, Protocol):
    """Also chooses one of a list: a NumPy generator, ``Generator`` or the legacy ``RandomState``."""

    def choice(self, a: Sequence[int], /) -> Any:
        """One element of ``a``."""


Generators = Callable[[int], tuple[Shuffler, Chooser]]
"""Step (0: the first order of the images; e + 1: epoch e) -> what shuffles images, what does the rest."""


class GraphSampler(Sampler):
    """For each identity one batch: its nearest identities by the current model, nearest first, then itself.

    Every epoch measures distances between one random image per identity. An identity's images come from a shuffled
    list that is used up before it is shuffled again, over batches and epochs; one with fewer images than
    ``num_images`` therefore repeats some within a batch, and so may one that reaches the end of its list.

    Args:
        config: the options.
        labels: classes of the training images, 0 .. C - 1.
        seed: the experiment's seed.
        generators: None, or where random numbers come from instead of (seed, epoch).

    Raises:
        SamplingError: there are fewer identities than a batch, or ``num_batches``, needs.

    Source: Liao and Shao, Graph Sampling Based Deep Metric Learning for Generalizable Person Re-Identification,
    CVPR 2022, section 3; details as in its released code.
    """

    def __init__(self, config: Config, labels: Sequence[int], seed: int, generators: Generators | None = None) -> None:
        self._config = config
        self._generators = generators or _Seeded(seed)
        self._images = images_by_class(labels, config.batch_size // config.num_images, "graph")
        self.note = repeats_note(self._images, config.num_images)
        self.batches_per_epoch = config.num_batches or len(self._images)
        if self.batches_per_epoch > len(self._images):
            raise SamplingError(
                f"graph sampler: wanted num_batches = {config.num_batches} batches an epoch, one for each identity, "
                f"found {len(self._images)} identities. Lower num_batches or leave it out."
            )
        self._used = [0] * len(self._images)
        shuffler, _ = self._generators(0)
        for images in self._images:
            shuffler.shuffle(images)

    def batches(self, epoch: int, class_distances: ClassDistances | None = None) -> list[list[int]]:
        """See :meth:`Sampler.batches`.

        Raises:
            SamplingError: ``class_distances`` is None or gives a value that is not finite.
        """
        if class_distances is None:
            raise SamplingError("graph sampler: wanted a model's distances between identities, found None.")
        shuffler, chooser = self._generators(epoch + 1)
        distance_CC = class_distances([int(chooser.choice(images)) for images in self._images])
        num_neighbours = self._config.batch_size // self._config.num_images - 1
        rows = [[*near, anchor] for anchor, near in enumerate(_nearest(distance_CC, num_neighbours))]
        batches = [list(chain.from_iterable(self._draw_images(pid, shuffler) for pid in row)) for row in rows]
        chooser.shuffle(batches)
        return batches[: self.batches_per_epoch]

    def _draw_images(self, pid: int, shuffler: Shuffler) -> list[int]:
        images = self._images[pid]
        drawn: list[int] = []
        while len(drawn) < self._config.num_images:
            start = self._used[pid]
            new = images[start : start + self._config.num_images - len(drawn)]
            drawn += new
            self._used[pid] = start + len(new)
            if self._used[pid] == len(images):
                shuffler.shuffle(images)
                self._used[pid] = 0
        return drawn

    def state_dict(self) -> dict[str, Any]:
        """Order of each identity's images and how many of them are used up."""
        return {"images": [list(images) for images in self._images], "used": list(self._used)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where :meth:`state_dict` left off.

        Raises:
            CheckpointError: the state is of another training set, or no state.
        """
        images, used = state.get("images", []), state.get("used", [])
        fits = len(images) == len(used) == len(self._images) and all(
            sorted(order) == sorted(own) and 0 <= count < len(own)
            for order, count, own in zip(images, used, self._images, strict=True)
        )
        if not fits:
            raise CheckpointError(
                f"graph sampler: wanted the state of a training set with {sum(map(len, self._images))} images of "
                f"{len(self._images)} identities, found {sum(map(len, images))} of {len(images)}, or others. "
                "Resume with the data the run was started with."
            )
        self._images = [list(order) for order in images]
        self._used = list(used)


class _Seeded:
    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, step: int) -> tuple[Shuffler, Chooser]:
        rng = generator(self._seed, "graph", step)
        return rng, rng


def _nearest(distance_CC: Tensor, count: int) -> list[list[int]]:
    """For each class the ``count`` nearest others, nearest first."""
    if not distance_CC.isfinite().all():
        raise SamplingError(
            "graph sampler: wanted finite distances between identities, found infinite ones or NaN: the model has "
            "diverged. Lower the learning rate or the clip value."
        )
    itself = torch.eye(len(distance_CC), dtype=torch.bool)
    others_CC = distance_CC.cpu().masked_fill(itself, torch.inf)  # on the CPU ties fall alike on every device
    return others_CC.topk(count, largest=False).indices.tolist()


COMPONENT = GraphSampler
