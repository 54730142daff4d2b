"""Training of one stage: epochs of batches, a checkpoint after each, resumable to the bit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from reid.engine.checkpoint import Checkpoint, epoch_folder, keep_latest, save_checkpoint
from reid.engine.extract import Extraction
from reid.engine.graph import class_distances
from reid.engine.log import TrainingLog
from reid.engine.precision import dtype_of
from reid.engine.tally import Clock, Tally
from reid.engine.train_step import Stage, TrainStep
from reid.engine.training_set import Epoch, TrainingSet
from reid.errors import TrainingError
from reid.kernels.simmax import describe
from reid.progress import Bar, Progress

LOG_EVERY = 10  # steps between two lines of the log
_STARVED = 0.2  # share of time waiting for images from which on the user is told


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
        self._stage, self._data = stage, data
        self._train_step = TrainStep(stage)
        self._clock, self._checkpoints, self._log = clock, checkpoints, log
        self._seed, self._num_workers, self._progress = seed, num_workers, progress
        self._checkpoints_kept = checkpoints_kept
        self._starved = False

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
        self._train_step.load(checkpoint.state, checkpoint.facts)
        self._stage.schedule.load_state_dict(checkpoint.facts["schedule"])
        self._stage.sampler.load_state_dict(checkpoint.facts["sampler"])

    def _run_epoch(self, bar: Bar) -> None:
        clock, stage = self._clock, self._stage
        torch.manual_seed(self._seed * 1_000_003 + clock.epoch)  # for components that draw in their forward pass
        sampling_since = time.perf_counter()
        batches = stage.sampler.batches(clock.stage_epoch, self._class_distances)
        clock.seconds += time.perf_counter() - sampling_since
        tally = Tally(num_workers=self._num_workers)
        self._train_step.set_mode()
        loader = self._data.load(batches, stage.transform, Epoch(self._seed, clock.epoch, self._num_workers))
        waiting_since = time.perf_counter()
        for step, batch in enumerate(loader):
            wait_s = time.perf_counter() - waiting_since
            self._train_step.set_lr_factor(stage.schedule.factor(clock.stage_epoch + step / len(batches)))
            loss, accuracy = self._train_step(batch)
            tally.add(loss, accuracy, len(batch.label_B), wait_s=wait_s, read_s=batch.read_s)
            self._show_step(bar, tally)
            waiting_since = time.perf_counter()
        self._end_epoch(tally)

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
        self._log.write(event, step=clock.step, stage=clock.stage, epoch=epoch, lr=self._train_step.lr, **facts)

    def _save(self) -> None:
        facts = {
            **self._train_step.facts(),
            "clock": asdict(self._clock),
            "schedule": self._stage.schedule.state_dict(),
            "sampler": self._stage.sampler.state_dict(),
        }
        checkpoint = Checkpoint(self._model.state_dict(), self._train_step.state(), facts)
        save_checkpoint(epoch_folder(self._checkpoints, self._clock.epoch), checkpoint)
        keep_latest(self._checkpoints, self._checkpoints_kept)
