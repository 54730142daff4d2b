"""P identities x K images: identities at random, every one of them once an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal

import numpy as np
from pydantic import Field, PositiveInt

from reid.data._random import generator
from reid.data.samplers._base import ClassDistances, Sampler, SamplerConfig
from reid.data.samplers._classes import images_by_class, repeats_note


class Config(SamplerConfig):
    """Options of :class:`PKSampler`."""

    name: Literal["pk"] = "pk"
    num_pids: PositiveInt = Field(16, description="identities per batch; batch size is num_pids * num_images")
    num_images: PositiveInt = Field(4, description="images per identity")
    num_batches: PositiveInt | None = Field(
        None, description="batches per epoch; None: as many as it takes to see every identity"
    )


class PKSampler(Sampler):
    """Batches of P different identities with K images each, identity after identity.

    Identities come from a shuffled pack. A new pack is shuffled when the old one runs out, and an epoch starts with a
    new one: by default it has ceil(C / P) batches, holds every identity, and fills its last batch with identities seen
    before. Of an identity with n < K images each is taken floor(K / n) or ceil(K / n) times, so an identity with a
    single image gives it K times.

    Args:
        config: the options.
        labels: classes of the training images, 0 .. C - 1.
        seed: the experiment's seed.

    Raises:
        SamplingError: there are fewer than ``num_pids`` identities.

    Source: Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017, section 2.
    """

    def __init__(self, config: Config, labels: Sequence[int], seed: int) -> None:
        self._config = config
        self._seed = seed
        self._images = images_by_class(labels, config.num_pids, "pk")
        self.note = repeats_note(self._images, config.num_images)
        self.batches_per_epoch = config.num_batches or -(-len(self._images) // config.num_pids)

    def batches(self, epoch: int, class_distances: ClassDistances | None = None) -> list[list[int]]:  # noqa: ARG002
        """See :meth:`Sampler.batches`; depends on (seed, epoch) alone."""
        rng = generator(self._seed, "pk", epoch)
        pack: list[int] = []
        batches = []
        for _ in range(self.batches_per_epoch):
            pids, pack = self._deal(pack, rng)
            batches.append([image for pid in pids for image in self._draw_images(pid, rng)])
        return batches

    def _deal(self, pack: list[int], rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Take ``num_pids`` different identities; also returns the rest of the pack."""
        hand, rest = pack[: self._config.num_pids], pack[self._config.num_pids :]
        wanted = self._config.num_pids - len(hand)
        if not wanted:
            return hand, rest
        new = rng.permutation(len(self._images)).tolist()
        more = [pid for pid in new if pid not in hand][:wanted]
        return hand + more, [pid for pid in new if pid not in more]

    def _draw_images(self, pid: int, rng: np.random.Generator) -> list[int]:
        shuffled = rng.permutation(self._images[pid]).tolist()
        return list(islice(cycle(shuffled), self._config.num_images))


COMPONENT = PKSampler
