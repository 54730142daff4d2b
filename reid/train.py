"""Train an experiment, stage by stage, into a run folder; load the model that a run has trained."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import torch

from reid.build import build_loss, build_model, build_sampler
from reid.data.transforms import TrainTransform
from reid.domains import open_domains
from reid.engine.checkpoint import (
    Checkpoint,
    epoch_folder,
    latest,
    load_checkpoint,
    load_into,
    load_weights,
    save_checkpoint,
    saved_epochs,
)
from reid.engine.log import TrainingLog
from reid.engine.model import Model
from reid.engine.schedule import build_schedule
from reid.engine.tally import Clock
from reid.engine.tasks.block import BlockTask
from reid.engine.trainer import Stage, Trainer, TrainingSet
from reid.experiment import Experiment, StageConfig
from reid.losses._base import LossSpec
from reid.progress import Progress
from reid.runs import RunFolder, Session


def train(run: RunFolder, session: Session) -> Model:
    """Train the experiment of ``run``, from its latest checkpoint where it has one.

    Returns:
        the model after the last epoch, which is the result.

    Raises:
        ReidError: data, weights, checkpoint or disk are not as they should be; finished epochs are kept.
    """
    experiment = run.experiment()
    domains = open_domains(experiment, session)  # what is missing must show before anything is saved
    resumed = load_checkpoint(latest(run.checkpoints)) if saved_epochs(run.checkpoints) else None
    model = _starting_model(experiment, resumed, session)
    if experiment.stage:
        _train_stages(run, experiment, model, domains.training_set(), resumed, session)
    elif resumed is None:
        untrained = Checkpoint(model.state_dict(), {}, {"clock": asdict(Clock())})
        save_checkpoint(epoch_folder(run.checkpoints, 0), untrained)
    return model


def load_model(run: RunFolder, device: torch.device | str = "cpu") -> Model:
    """The model of a run's last checkpoint, in eval mode; pretrained weights need not be there.

    Raises:
        CheckpointError: the folder is no run, has no checkpoint, or the checkpoint is damaged.
    """
    experiment = run.experiment()
    model = build_model(experiment.backbone, experiment.matcher, experiment.image_size, pretrained=False)
    checkpoint = latest(run.checkpoints)
    load_into(model, load_weights(checkpoint), str(checkpoint))
    return model.to(device).eval()


def fresh_model(experiment: Experiment, progress: Progress | None = None) -> Model:
    """The model as training starts with it: pretrained where the experiment says so, the rest drawn by its seed."""
    torch.manual_seed(experiment.seed)
    return build_model(experiment.backbone, experiment.matcher, experiment.image_size, progress=progress)


def _starting_model(experiment: Experiment, resumed: Checkpoint | None, session: Session) -> Model:
    if resumed is None:
        return fresh_model(experiment, session.progress).to(session.device)
    model = build_model(experiment.backbone, experiment.matcher, experiment.image_size, pretrained=False)
    load_into(model, resumed.model, "the latest checkpoint")
    return model.to(session.device)


def _train_stages(
    run: RunFolder,
    experiment: Experiment,
    model: Model,
    data: TrainingSet,
    resumed: Checkpoint | None,
    session: Session,
) -> None:
    clock = Clock(**resumed.facts["clock"]) if resumed else Clock()
    if clock.stage_done:
        clock.next_stage()
        resumed = None  # its optimiser is that of a stage that has ended
    with closing(TrainingLog(run.path, last_step=clock.step)) as log:
        while clock.stage < len(experiment.stage):
            trainer = Trainer(
                _build_stage(experiment, experiment.stage[clock.stage], model, data),
                data,
                clock=clock,
                checkpoints=run.checkpoints,
                log=log,
                seed=experiment.seed,
                num_workers=session.num_workers,
                checkpoints_kept=experiment.checkpoints_kept,
                progress=session.progress,
            )
            if resumed:
                trainer.resume(resumed)
                resumed = None
            trainer.fit()
            clock.next_stage()


def _build_stage(experiment: Experiment, config: StageConfig, model: Model, data: TrainingSet) -> Stage:
    torch.manual_seed(experiment.seed)  # a loss with parameters starts alike whether training was resumed or not
    spec = LossSpec(num_pids=max(data.labels) + 1, embedding_dim=model.matcher.info.embedding_dim)
    return Stage(
        task=BlockTask(model, build_loss(config.loss, spec).to(model.device)),
        sampler=build_sampler(config.sampler, list(data.labels), experiment.seed),
        transform=TrainTransform(config.augment, experiment.image_size),
        optimizer=config.optimizer,
        schedule=build_schedule(config.schedule, config.epochs),
        precision=config.precision,
        backbone_mode=config.backbone_mode,
        frozen=config.frozen,
    )
