"""Training of one stage: epochs of batches, a checkpoint after each, resumable to the bit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from reid.data.loader import TrainBatch
from reid.data.samplers._base import Sampler
from reid.data.transforms import TrainTransform
from reid.engine.checkpoint import Checkpoint, epoch_folder, keep_latest, load_into, save_checkpoint
from reid.engine.extract import Extraction
from reid.engine.graph import class_distances
from reid.engine.log import TrainingLog
from reid.engine.optimizer import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    flatten_state,
    parameter_groups,
    set_lr_factor,
    unflatten_state,
)
from reid.engine.precision import Precision, autocast, check_precision, dtype_of
from reid.engine.schedule import Schedule
from reid.engine.tally import Clock, Tally
from reid.engine.tasks.block import BlockTask
from reid.engine.tasks.correspondence import CorrespondenceTask
from reid.engine.tasks.pairs import PairsTask
from reid.engine.training_set import Epoch, TrainingSet
from reid.errors import TrainingError
from reid.kernels.simmax import describe
from reid.progress import Bar, Progress

LOG_EVERY = 10  # steps between two lines of the log
_STARVED = 0.2  # share of time waiting for images from which on the user is told


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


class Trainer:
    """Trains one stage.

    Args:
        stage: what to train.
        data: what to train on.
        clock: how far training has come; advanced in place.
        checkpoints: folder of the checkpoints.
        log: the run's log.
        seed: every random choice comes from it, the epoch and the sample's place in the epoch.
        num_workers: processes that decode and augment.
        checkpoints_kept: how many of the latest checkpoints stay on disk.
        progress: where to report.
    """

    def __init__(  # noqa: PLR0913 - the parts of a training, each by name
        self,
        stage: Stage,
        data: TrainingSet,
        *,
        clock: Clock,
        checkpoints: Path,
        log: TrainingLog,
        seed: int,
        num_workers: int,
        checkpoints_kept: int,
        progress: Progress,
    ) -> None:
        self._model = stage.task.model
        check_precision(self._model.device, stage.precision)
        self._stage, self._data = stage, data
        self._clock, self._checkpoints, self._log = clock, checkpoints, log
        self._seed, self._num_workers, self._progress = seed, num_workers, progress
        self._checkpoints_kept = checkpoints_kept
        self._starved = False
        self._groups = parameter_groups(self._model, stage.task.loss, frozen=stage.frozen)
        self._optimizer = build_optimizer(stage.optimizer, self._groups)
        self._scaler = torch.amp.GradScaler(self._model.device.type, enabled=stage.precision == "fp16")
        self._statistics = [buffer for buffer in self._model.buffers() if buffer.is_floating_point()]
        self._kept = [buffer.clone() for buffer in self._statistics]

    def fit(self) -> None:
        """Train to the end of the stage.

        Raises:
            TrainingError: no step of an epoch had a finite loss, or a weight is no longer finite.
            StorageError: a checkpoint cannot be written; earlier ones are intact.
        """
        schedule, note = self._stage.schedule, self._stage.sampler.note
        if self._model.matcher.info.takes_maxima:
            way = describe(self._model.device, dtype_of(self._stage.precision), with_grad=True)
            self._progress.say(f"pair scores: {way}")
        if note is not None:
            self._progress.say(note)
        remaining = schedule.num_epochs - self._clock.stage_epoch
        with self._progress.bar("train", remaining * self._stage.sampler.batches_per_epoch, "step") as bar:
            while self._clock.stage_epoch < schedule.num_epochs:
                self._run_epoch(bar)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up where ``checkpoint``, of an earlier epoch of this stage, left off; the model's part apart.

        Raises:
            CheckpointError: it does not fit the loss of this stage.
        """
        facts = checkpoint.facts
        loss_state = {n.removeprefix("loss."): t for n, t in checkpoint.state.items() if n.startswith("loss.")}
        load_into(self._stage.task.loss, loss_state, "the loss in state.safetensors")
        unflatten_state(self._optimizer, checkpoint.state)
        self._scaler.load_state_dict(facts["scaler"])
        self._stage.schedule.load_state_dict(facts["schedule"])
        self._stage.sampler.load_state_dict(facts["sampler"])

    def _run_epoch(self, bar: Bar) -> None:
        clock, stage = self._clock, self._stage
        torch.manual_seed(self._seed * 1_000_003 + clock.epoch)  # for components that draw in their forward pass
        sampling_since = time.perf_counter()
        batches = stage.sampler.batches(clock.stage_epoch, self._class_distances)
        clock.seconds += time.perf_counter() - sampling_since
        tally = Tally(num_workers=self._num_workers)
        self._set_mode()
        loader = self._data.load(batches, stage.transform, Epoch(self._seed, clock.epoch, self._num_workers))
        waiting_since = time.perf_counter()
        for step, batch in enumerate(loader):
            wait_s = time.perf_counter() - waiting_since
            set_lr_factor(self._optimizer, stage.schedule.factor(clock.stage_epoch + step / len(batches)))
            loss, accuracy = self._train_step(batch)
            tally.add(loss, accuracy, len(batch.label_B), wait_s=wait_s, read_s=batch.read_s)
            self._show_step(bar, tally)
            waiting_since = time.perf_counter()
        self._end_epoch(tally)

    def _set_mode(self) -> None:
        self._stage.task.train()
        if self._model.backbone is not None and self._stage.backbone_mode == "eval":
            self._model.backbone.eval()
        if self._model.norms is not None and "encoder" in self._stage.frozen:
            self._model.norms.eval()  # it has no parameters to tell by
        for module in self._model.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()  # a batch norm's statistics would move

    def _train_step(self, batch: TrainBatch) -> tuple[float | None, float]:
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

    def _class_distances(self, representatives: Sequence[int]) -> Tensor:
        clock = self._clock
        graph = class_distances(
            self._model,
            [self._data.records[index] for index in representatives],
            Extraction(num_workers=self._num_workers, precision=self._stage.precision, states="bfloat16"),
            folder=self._checkpoints.parent,
            progress=self._progress,
        )
        self._log.write(
            "graph",
            step=clock.step + 1,  # so that an epoch trained again replaces it
            stage=clock.stage,
            epoch=clock.epoch + 1,
            num_pids=len(representatives),
            extract_s=graph.extract_s,
            score_s=graph.score_s,
        )
        self._progress.say(
            f"epoch {clock.epoch + 1}: graph of {len(representatives):,} identities, {graph.extract_s:.1f} s for their "
            f"states, {graph.score_s:.1f} s to compare them"
        )
        return graph.distance_CC

    def _show_step(self, bar: Bar, tally: Tally) -> None:
        clock, facts = self._clock, tally.facts()
        clock.step += 1
        bar.advance(
            epoch=clock.epoch + 1,
            loss=f"{facts['loss']:.3f}",
            accuracy=f"{facts['accuracy']:.2f}",
            images_per_s=f"{facts['images_per_s']:.0f}",
            loader_images_per_s=f"{facts['loader_images_per_s']:.0f}",
        )
        if clock.step % LOG_EVERY == 0:
            self._write("step", facts)

    def _end_epoch(self, tally: Tally) -> None:
        clock, facts = self._clock, tally.facts()
        # a checkpoint of weights that are lost would drive out those that are not
        tensors = self._stage.task.state_dict().values()  # statistics of batch norms among them
        if tally.finite_steps == 0 or not all(tensor.isfinite().all() for tensor in tensors):
            raise TrainingError(
                f"epoch {clock.epoch + 1}: wanted finite weights and losses, found {tally.finite_steps} finite losses "
                f"in {tally.steps} steps. Lower stage.optimizer.lr ({self._stage.optimizer.lr}) or set clip_norm, in a "
                "new run; checkpoints of earlier epochs are intact."
            )
        self._stage.schedule.observe(clock.stage_epoch, facts["loss"])
        clock.epoch += 1
        clock.stage_epoch += 1
        clock.stage_done = clock.stage_epoch >= self._stage.schedule.num_epochs
        clock.images += tally.images
        clock.seconds += tally.seconds
        self._write("epoch", {**facts, "skipped_steps": tally.steps - tally.finite_steps})
        self._tell_of_waiting(facts)
        self._save()

    def _tell_of_waiting(self, facts: dict[str, float]) -> None:
        model, loader = facts["model_images_per_s"], facts["loader_images_per_s"]
        if facts["loader_wait_share"] > _STARVED and loader < model and not self._starved:
            self._starved = True
            self._progress.say(
                f"the model waited for images {facts['loader_wait_share']:.0%} of the time: it takes {model:.0f} a "
                f"second, the loader gives {loader:.0f}. More workers help where there are cores (--workers)."
            )

    def _write(self, event: str, facts: dict[str, float]) -> None:
        clock = self._clock
        epoch = clock.epoch + (event == "step")  # counted from 1; the clock counts finished ones
        lr = self._optimizer.param_groups[-1]["lr"]
        self._log.write(event, step=clock.step, stage=clock.stage, epoch=epoch, lr=lr, **facts)

    def _save(self) -> None:
        loss_state = {f"loss.{name}": tensor for name, tensor in self._stage.task.loss.state_dict().items()}
        facts = {
            "clock": asdict(self._clock),
            "scaler": self._scaler.state_dict(),
            "schedule": self._stage.schedule.state_dict(),
            "sampler": self._stage.sampler.state_dict(),
        }
        state = {**loss_state, **flatten_state(self._optimizer)}
        checkpoint = Checkpoint(self._model.state_dict(), state, facts)
        save_checkpoint(epoch_folder(self._checkpoints, self._clock.epoch), checkpoint)
        keep_latest(self._checkpoints, self._checkpoints_kept)
