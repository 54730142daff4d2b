"""One step of training: what a stage trains, and how a batch changes its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reid.data.loader import TrainBatch
from reid.data.samplers._base import Sampler
from reid.data.transforms import TrainTransform
from reid.engine.checkpoint import load_into
from reid.engine.optimizer import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    flatten_state,
    parameter_groups,
    set_lr_factor,
    unflatten_state,
)
from reid.engine.precision import Precision, autocast, check_precision
from reid.engine.schedule import Schedule
from reid.engine.tasks.block import BlockTask
from reid.engine.tasks.correspondence import CorrespondenceTask
from reid.engine.tasks.pairs import PairsTask


@dataclass(frozen=True)
class Stage:
    """What one stage trains, and how.

    Attributes:
        task: model and loss; called with a batch it returns the loss's value.
        sampler: which images make a batch.
        transform: augmentation.
        optimizer: rates and clipping.
        schedule: learning rate over epochs, and when to stop.
        precision: arithmetic of forward and loss.
        backbone_mode: ``eval`` keeps the pretrained batch statistics, the published recipe; ``train`` from scratch.
        frozen: roles (backbone, encoder, decoder, head) that stay as they are, statistics of batch norms among them.
    """

    task: BlockTask | PairsTask | CorrespondenceTask
    sampler: Sampler
    transform: TrainTransform
    optimizer: OptimizerConfig
    schedule: Schedule
    precision: Precision = "float32"
    backbone_mode: Literal["eval", "train"] = "eval"
    frozen: tuple[str, ...] = ()


class TrainStep:
    """Changes a stage's weights, a batch at a time: gradients, clipping, optimizer, and what a step that failed undoes.

    Args:
        stage: what to train, and how.

    Raises:
        ConfigError: the device cannot train in the stage's precision.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, self._model = stage, stage.task.model
        check_precision(self._model.device, stage.precision)
        self._groups = parameter_groups(self._model, stage.task.loss, frozen=stage.frozen)
        self._optimizer = build_optimizer(stage.optimizer, self._groups)
        self._scaler = torch.amp.GradScaler(self._model.device.type, enabled=stage.precision == "fp16")
        self._statistics = [buffer for buffer in self._model.buffers() if buffer.is_floating_point()]
        self._kept = [buffer.clone() for buffer in self._statistics]

    @property
    def lr(self) -> float:
        """Learning rate of what is not pretrained, as the last step had it."""
        return float(self._optimizer.param_groups[-1]["lr"])

    def set_lr_factor(self, factor: float) -> None:
        """From the next step on, learn at ``factor`` times the rates of the stage's table."""
        set_lr_factor(self._optimizer, factor)

    def set_mode(self) -> None:
        """Training mode for what is trained, evaluation mode for what is not."""
        self._stage.task.train()
        if self._model.backbone is not None and self._stage.backbone_mode == "eval":
            self._model.backbone.eval()
        if self._model.norms is not None and "encoder" in self._stage.frozen:
            self._model.norms.eval()  # it has no parameters to tell by
        for module in self._model.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()  # a batch norm's statistics would move

    def __call__(self, batch: TrainBatch) -> tuple[float | None, float]:
        """One step. Returns the loss, None where it was not finite and nothing was learned, and the accuracy."""
        stage = self._stage
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self._model.device, stage.precision):
            value = stage.task(batch)
        if value.loss is None:  # what was not finite has gone through the batch norms: forget it
            torch._foreach_copy_(self._statistics, self._kept)
            return None, value.accuracy
        self._scaler.scale(value.loss).backward()
        self._scaler.unscale_(self._optimizer)
        clip_gradients(self._groups, stage.optimizer.clip_norm)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        torch._foreach_copy_(self._kept, self._statistics)
        return float(value.loss.detach()), value.accuracy

    def state(self) -> dict[str, Tensor]:
        """Tensors to go on from, those of the model apart: of the loss and of the optimizer."""
        loss_state = {f"loss.{name}": tensor for name, tensor in self._stage.task.loss.state_dict().items()}
        return {**loss_state, **flatten_state(self._optimizer)}

    def facts(self) -> dict[str, Any]:
        """What else to go on from, as JSON takes it."""
        return {"scaler": self._scaler.state_dict()}

    def load(self, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up what :meth:`state` and :meth:`facts` gave.

        Raises:
            CheckpointError: it does not fit the loss of this stage.
        """
        loss_state = {name.removeprefix("loss."): at for name, at in state.items() if name.startswith("loss.")}
        load_into(self._stage.task.loss, loss_state, "the loss in state.safetensors")
        unflatten_state(self._optimizer, state)
        self._scaler.load_state_dict(facts["scaler"])
