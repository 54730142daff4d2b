"""Learning rate over epochs, and when training ends."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from reid.config import Config


class _Schedule(Config):
    warmup_epochs: NonNegativeFloat = Field(0.0, description="the rate rises linearly from 0 over so many epochs")

    def decay(self, time: float, num_epochs: int) -> float:  # noqa: ARG002
        """Learning-rate factor at ``time`` in epochs, warm-up apart."""
        return 1.0


class ConstantConfig(_Schedule):
    """The same rate throughout."""

    name: Literal["constant"] = "constant"


class StepConfig(_Schedule):
    """Times ``gamma`` after every ``step_epochs`` epochs: TransMatcher's."""

    name: Literal["step"] = "step"
    step_epochs: PositiveInt = Field(10, description="epochs between two falls of the rate")
    gamma: PositiveFloat = Field(0.1, description="what it is multiplied by")

    def decay(self, time: float, num_epochs: int) -> float:  # noqa: ARG002, D102
        return self.gamma ** (int(time) // self.step_epochs)


class CosineConfig(_Schedule):
    """Half a cosine from the full rate to ``final_factor`` of it: for training from scratch."""

    name: Literal["cosine"] = "cosine"
    final_factor: NonNegativeFloat = Field(0.01, description="share of the rate that is left at the end")

    def decay(self, time: float, num_epochs: int) -> float:  # noqa: D102
        wave = (1 + math.cos(math.pi * min(1.0, time / num_epochs))) / 2
        return self.final_factor + (1 - self.final_factor) * wave


class AdaptiveConfig(_Schedule):
    """QAConv-GS: one decay when the loss falls to ``loss_factor`` of the second epoch's, then half as long again."""

    name: Literal["adaptive"] = "adaptive"
    loss_factor: PositiveFloat = Field(0.7, description="share of the second epoch's loss at which the rate falls")
    gamma: PositiveFloat = Field(0.1, description="what it is multiplied by")


ScheduleConfig = Annotated[ConstantConfig | StepConfig | CosineConfig | AdaptiveConfig, Field(discriminator="name")]


class Schedule:
    """Learning-rate factor as a function of training time.

    Attributes:
        num_epochs: epochs to train; an adaptive schedule lowers it once it has seen the loss fall.
    """

    def __init__(self, config: _Schedule, num_epochs: int) -> None:
        self._config = config
        self.num_epochs = num_epochs

    def factor(self, time: float) -> float:
        """Learning-rate factor at ``time`` in epochs since the start, fractions included."""
        warmup_epochs = self._config.warmup_epochs
        warmup = min(1.0, time / warmup_epochs) if warmup_epochs else 1.0
        return warmup * self._config.decay(time, self.num_epochs)

    def observe(self, epoch: int, loss: float) -> None:
        """Hear the mean loss of ``epoch`` (from 0), after it."""

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`observe` has learned, JSON-ready."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where :meth:`state_dict` left off."""


class AdaptiveSchedule(Schedule):
    """See :class:`AdaptiveConfig`. Source: released QAConv 2.1; its second decay on resuming is not repeated here."""

    def __init__(self, config: AdaptiveConfig, num_epochs: int) -> None:
        super().__init__(config, num_epochs)
        self._adaptive = config
        self._base_loss: float | None = None
        self._decay_epoch: int | None = None

    def factor(self, time: float) -> float:
        """See :class:`Schedule`."""
        decayed = self._decay_epoch is not None and time >= self._decay_epoch
        return super().factor(time) * (self._adaptive.gamma if decayed else 1.0)

    def observe(self, epoch: int, loss: float) -> None:
        """See :class:`Schedule`."""
        if epoch == 1:
            self._base_loss = loss
        if self._base_loss is None or self._decay_epoch is not None:
            return
        if loss < self._adaptive.loss_factor * self._base_loss:
            self._decay_epoch = epoch + 1
            self.num_epochs = min(self.num_epochs, self._decay_epoch + self._decay_epoch // 2)

    def state_dict(self) -> dict[str, Any]:
        """See :class:`Schedule`."""
        return {"base_loss": self._base_loss, "decay_epoch": self._decay_epoch, "num_epochs": self.num_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :class:`Schedule`."""
        self._base_loss, self._decay_epoch = state["base_loss"], state["decay_epoch"]
        self.num_epochs = state["num_epochs"]


def build_schedule(config: ConstantConfig | StepConfig | CosineConfig | AdaptiveConfig, num_epochs: int) -> Schedule:
    """The schedule that ``config`` describes, for at most ``num_epochs`` epochs."""
    if isinstance(config, AdaptiveConfig):
        return AdaptiveSchedule(config, num_epochs)
    return Schedule(config, num_epochs)
