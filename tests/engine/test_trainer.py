"""The trainer's own bookkeeping; whole trainings are in tests/test_train.py."""

import json
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from reid.build import build_loss, build_sampler
from reid.data.loader import train_batches
from reid.data.transforms import AugmentConfig, TrainTransform
from reid.engine import trainer as module
from reid.engine import training_set
from reid.engine.checkpoint import latest, load_checkpoint
from reid.engine.log import TrainingLog
from reid.engine.optimizer import OptimizerConfig
from reid.engine.schedule import ConstantConfig, StepConfig, build_schedule
from reid.engine.tally import Clock
from reid.engine.tasks.block import BlockTask
from reid.engine.train_step import Stage, TrainStep
from reid.engine.trainer import Trainer
from reid.engine.training_set import TrainingSet
from reid.errors import CheckpointError, StorageError, TrainingError
from reid.experiment import resolve
from reid.losses._base import LossSpec
from reid.models import fresh_model
from reid.progress import Silent
from reid.types import ImageRecord


@pytest.fixture
def data(drawn_root):
    paths = sorted((drawn_root / "market" / "bounding_box_train").iterdir())
    return TrainingSet([ImageRecord(path, pid=0) for path in paths], [n // 4 for n in range(len(paths))])


@pytest.fixture
def make(tiny, data, tmp_path):
    """A trainer and its clock."""

    def build(schedule=None, *, num_images=2, **changes):
        model = fresh_model(resolve(tiny, "a test"))
        stage = Stage(
            task=BlockTask(model, build_loss({"name": "pairwise"}, LossSpec(10, None))),
            sampler=build_sampler({"name": "pk", "num_pids": 4, "num_images": num_images}, list(data.labels), 0),
            transform=TrainTransform(AugmentConfig(), (64, 32)),
            optimizer=OptimizerConfig(lr=0.01),
            schedule=build_schedule(schedule or ConstantConfig(), 2),
        )
        clock = Clock()
        options = {"seed": 0, "num_workers": 0, "checkpoints_kept": 2, "progress": Silent(), **changes}
        log = TrainingLog(tmp_path / "run")
        return Trainer(stage, data, clock=clock, checkpoints=tmp_path / "checkpoints", log=log, **options), clock

    return build


class Recording:
    """Progress that keeps what it is told."""

    def __init__(self):
        self.bars, self.facts, self.said = [], [], []

    def bar(self, label, total, unit):
        self.bars.append((label, total, unit))
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def say(self, message):
        self.said.append(message)

    def advance(self, count=1, **facts):
        self.facts.append(facts)


def test_the_clock_counts(make, tmp_path):
    trainer, clock = make()
    trainer.fit()
    assert (clock.stage_epoch, clock.epoch, clock.step, clock.images, clock.stage_done) == (2, 2, 6, 48, True)
    assert clock.seconds > 0
    assert load_checkpoint(latest(tmp_path / "checkpoints")).facts["clock"]["step"] == 6


def test_the_bar_knows_the_steps_and_shows_how_it_goes(make):
    progress = Recording()
    trainer, _ = make(progress=progress)
    trainer.fit()
    assert progress.bars == [("train", 6, "step")]
    assert len(progress.facts) == 6
    assert progress.facts[-1].keys() == {"epoch", "loss", "accuracy", "images_per_s", "loader_images_per_s"}
    assert [facts["epoch"] for facts in progress.facts] == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(("num_images", "few"), [(4, []), (5, ["10 of 10 identities have fewer than 5 images"])])
def test_repeated_images_are_told_once(make, num_images, few):
    progress = Recording()
    make(progress=progress, num_images=num_images)[0].fit()
    way, *rest = progress.said
    assert way.startswith("pair scores: PyTorch, products in float32")
    assert [message.partition(";")[0] for message in rest] == few


def test_a_model_that_waits_for_images_is_told_of_once(make, monkeypatch):
    def slow_batches(*args, **options):
        return (replace(batch, read_s=100.0) for batch in train_batches(*args, **options))

    progress = Recording()
    monkeypatch.setattr(module, "_STARVED", -1.0)
    monkeypatch.setattr(training_set, "train_batches", slow_batches)
    make(progress=progress)[0].fit()
    _, message = progress.said
    assert re.fullmatch(
        r"the model waited for images \d+% of the time: it takes \d+ a second, the loader gives \d+\. More .*", message
    )


def test_the_log_has_the_rates_of_the_schedule(make, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "LOG_EVERY", 1)
    trainer, _ = make(StepConfig(step_epochs=1, gamma=0.5, warmup_epochs=1))
    trainer.fit()
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    rates = [line["lr"] for line in lines if line["event"] == "step"]
    assert rates == pytest.approx([0, 0.01 / 3, 0.02 / 3, 0.005, 0.005, 0.005])
    assert [line["epoch"] for line in lines] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert all(line["stage"] == 0 for line in lines)


def test_a_full_disk_keeps_the_earlier_checkpoint(make, monkeypatch, tmp_path, files_below):
    trainer, _ = make()
    save = module.save_checkpoint

    def once(folder, checkpoint):
        if folder.name == "epoch_2":
            raise StorageError(f"{folder}: no space")
        save(folder, checkpoint)

    monkeypatch.setattr(module, "save_checkpoint", once)
    with pytest.raises(StorageError):
        trainer.fit()
    assert {name.split("/")[0] for name in files_below(tmp_path / "checkpoints")} == {"epoch_1"}


def test_a_checkpoint_of_another_loss_is_refused(make, tmp_path, tiny, data):
    make()[0].fit()
    checkpoint = load_checkpoint(latest(tmp_path / "checkpoints"))
    tiny["matcher"] = {"name": "embedding", "stride": 8}
    trainer, _ = make()
    trainer._stage.task.loss = build_loss({"name": "identity_triplet"}, LossSpec(10, 128))
    with pytest.raises(CheckpointError, match=r"the loss in state\.safetensors: .*missing: classifier\.weight"):
        trainer.resume(checkpoint)


def spoiled(pixels):
    """Batches of which the second has an infinite pixel."""

    def load(*arguments, **options):
        for number, batch in enumerate(pixels(*arguments, **options)):
            if number == 1:
                image_BCHW = batch.inputs.float() / 255
                image_BCHW[0, 0, 0, 0] = torch.inf
                batch = replace(batch, inputs=image_BCHW)  # noqa: PLW2901
            yield batch

    return load


def test_a_batch_that_is_not_finite_leaves_no_trace_in_batch_norms(make, monkeypatch, tmp_path):
    monkeypatch.setattr(training_set, "train_batches", spoiled(train_batches))
    trainer, _ = make(num_images=2)
    trainer.fit()
    state = load_checkpoint(latest(tmp_path / "checkpoints")).model
    assert all(tensor.isfinite().all() for tensor in state.values())
    epochs = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any(line.get("skipped_steps") == 1 for line in epochs)


def test_statistics_that_are_not_finite_are_not_saved(make, monkeypatch, tmp_path):
    trainer, _ = make()
    norm = next(module for module in trainer._model.modules() if isinstance(module, nn.BatchNorm1d))
    step = TrainStep.__call__

    def poisoned(self, batch):
        value = step(self, batch)
        norm.running_mean.fill_(torch.nan)
        return value

    monkeypatch.setattr(TrainStep, "__call__", poisoned)
    with pytest.raises(TrainingError, match="wanted finite weights"):
        trainer.fit()
    assert not list((tmp_path / "checkpoints").glob("*"))
