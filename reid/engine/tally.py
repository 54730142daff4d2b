"""Counting while training: how far it has come, and the means of an epoch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Clock:
    """How far training has come, over all stages; kept in every checkpoint.

    Attributes:
        stage: stage being trained, from 0.
        stage_epoch: finished epochs of that stage.
        stage_done: whether that stage has ended.
        epoch: finished epochs of all stages.
        step: optimiser steps.
        images: images seen.
        seconds: wall-clock seconds of training, pauses apart.
    """

    stage: int = 0
    stage_epoch: int = 0
    stage_done: bool = False
    epoch: int = 0
    step: int = 0
    images: int = 0
    seconds: float = 0.0

    def next_stage(self) -> None:
        """Go on to the beginning of the stage behind this one."""
        self.stage, self.stage_epoch, self.stage_done = self.stage + 1, 0, False


@dataclass
class Tally:
    """Sums over the steps of one epoch.

    Attributes:
        num_workers: processes that load images; 0: the one that trains.
    """

    num_workers: int = 0
    loss: float = 0.0
    accuracy: float = 0.0
    finite_steps: int = 0
    steps: int = 0
    images: int = 0
    wait_s: float = 0.0
    read_s: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, loss: float | None, accuracy: float, num_images: int, *, wait_s: float, read_s: float) -> None:
        """Count one step.

        Args:
            loss: of the step; None where it was not finite.
            accuracy: of the step.
            num_images: of its batch.
            wait_s: seconds for which it waited for the batch.
            read_s: seconds that one process took to read and augment the batch.
        """
        self.steps += 1
        self.images += num_images
        self.wait_s += wait_s
        self.read_s += read_s
        if loss is not None:
            self.loss += loss
            self.accuracy += accuracy
            self.finite_steps += 1

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the epoch began."""
        return time.perf_counter() - self.started

    def facts(self) -> dict[str, float]:
        """Means so far.

        ``images_per_s`` is what training reaches; ``loader_images_per_s`` and ``model_images_per_s`` are what the
        loader's processes together and the model would reach if they never waited for each other.
        ``loader_wait_share`` is the share of time in which the model waited for images.
        """
        seconds, steps = self.seconds, max(1, self.finite_steps)
        return {
            "loss": self.loss / steps,
            "accuracy": self.accuracy / steps,
            "images_per_s": self.images / seconds,
            "loader_images_per_s": self.images * max(1, self.num_workers) / max(self.read_s, 1e-9),
            "model_images_per_s": self.images / max(seconds - self.wait_s, 1e-9),
            "loader_wait_share": self.wait_s / seconds,
            "seconds": seconds,
        }
