"""Train an experiment, stage by stage, into a run folder; load the model that a run has trained."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from reid.build import build_loss, build_model, build_sampler
from reid.data.samplers._base import Layout, Neighbours
from reid.data.transforms import TrainTransform
from reid.domains import open_domains, training_surfaces
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
from reid.engine.extract import Extraction
from reid.engine.log import TrainingLog
from reid.engine.model import Model
from reid.engine.neighbours import nearest_others
from reid.engine.schedule import build_schedule
from reid.engine.tally import Clock
from reid.engine.tasks.block import BlockTask
from reid.engine.tasks.correspondence import CorrespondenceTask
from reid.engine.tasks.pairs import PairsTask
from reid.engine.trainer import Stage, Trainer
from reid.engine.training_set import PairedTrainingSet, TrainingSet, cache_maps
from reid.errors import ConfigError
from reid.experiment import Experiment, FirstStageConfig, StageConfig
from reid.losses._base import AuxiliaryLoss, CorrespondenceLoss, Loss, LossSpec, PairLoss
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
    model = _build(experiment, pretrained=False)
    checkpoint = latest(run.checkpoints)
    load_into(model, load_weights(checkpoint), str(checkpoint))
    return model.to(device).eval()


def fresh_model(experiment: Experiment, progress: Progress | None = None) -> Model:
    """The model as training starts with it: pretrained where the experiment says so, the rest drawn by its seed."""
    first = experiment.first_stage
    shared = first if first is not None and first.share_backbone else None
    torch.manual_seed(experiment.seed)
    model = _build(experiment, pretrained=shared is None, progress=progress)
    if shared is not None:
        _take_backbone(model, shared)
    return model


def _build(experiment: Experiment, *, pretrained: bool, progress: Progress | None = None) -> Model:
    return build_model(
        experiment.backbone,
        experiment.matcher,
        experiment.image_size,
        standardize_maps=experiment.standardize_maps,
        pretrained=pretrained,
        progress=progress,
    )


def _starting_model(experiment: Experiment, resumed: Checkpoint | None, session: Session) -> Model:
    if resumed is None:
        return fresh_model(experiment, session.progress).to(session.device)
    model = _build(experiment, pretrained=False)
    load_into(model, resumed.model, "the latest checkpoint")
    return model.to(session.device)


def first_stage_model(first: FirstStageConfig, device: torch.device) -> Model:
    """The trained model that proposes. Raises CheckpointError where its folder is no run or has no checkpoint."""
    return load_model(RunFolder(Path(first.run)), device)


def _take_backbone(model: Model, first: FirstStageConfig) -> None:
    backbone = first_stage_model(first, torch.device("cpu")).backbone
    if backbone is not None and model.backbone is not None:
        load_into(model.backbone, backbone.state_dict(), f"the backbone of {first.run}")


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
            config = experiment.stage[clock.stage]
            seen = _seen(run, experiment, config, model, data, session)
            trainer = Trainer(
                _build_stage(run, experiment, config, model, data, session),
                seen,
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


def _seen(
    run: RunFolder, experiment: Experiment, config: StageConfig, model: Model, data: TrainingSet, session: Session
) -> TrainingSet:
    """What a stage loads: the images, the maps of a frozen backbone, or pairs of views."""
    if config.cache_maps:
        if model.matcher.info.reads_pixels:
            raise ConfigError(
                f"[stage] cache_maps: wanted a matcher that reads maps alone, found {type(model.matcher).__name__}, "
                "which looks at pixels too. Leave cache_maps out."
            )
        return _cached(run, model, data, session)
    if config.task == "correspondence":
        surfaces = training_surfaces(experiment, data.records, session) if config.views.surface_share else None
        return PairedTrainingSet(data.records, data.labels, experiment.image_size, config.views, surfaces)
    return data


def _cached(run: RunFolder, model: Model, data: TrainingSet, session: Session) -> TrainingSet:
    file = run.path / "maps.states"
    return cache_maps(model, data, num_workers=session.num_workers, file=file, progress=session.progress)


def _build_stage(
    run: RunFolder, experiment: Experiment, config: StageConfig, model: Model, data: TrainingSet, session: Session
) -> Stage:
    first = experiment.first_stage
    find = None if first is None else partial(_neighbours, run, first, data, session)
    sampler = build_sampler(config.sampler, list(data.labels), experiment.seed, find)
    torch.manual_seed(experiment.seed)  # a loss with parameters starts alike whether training was resumed or not
    info = model.matcher.info
    spec = LossSpec(max(data.labels) + 1, info.embedding_dim, info.attended_dim)
    return Stage(
        task=_task(config, model, spec, sampler.layout).to(model.device),
        sampler=sampler,
        transform=TrainTransform(config.augment, experiment.image_size),
        optimizer=config.optimizer,
        schedule=build_schedule(config.schedule, config.epochs),
        precision=config.precision,
        backbone_mode=config.backbone_mode,
        frozen=config.frozen,
    )


def _neighbours(run: RunFolder, first: FirstStageConfig, data: TrainingSet, session: Session, k: int) -> Neighbours:
    how = Extraction(num_workers=session.num_workers)
    proposer = first_stage_model(first, session.device)
    return nearest_others(proposer, data.records, k, how, folder=run.path, progress=session.progress)


def _task(
    config: StageConfig, model: Model, spec: LossSpec, layout: Layout
) -> BlockTask | PairsTask | CorrespondenceTask:
    loss = build_loss(config.loss, spec)
    auxiliary = None if config.auxiliary is None else build_loss(config.auxiliary, spec)
    if spec.attended_dim is not None and auxiliary is None:
        raise ConfigError(
            f"[stage]: wanted a loss for the attention that chooses local features of {type(model.matcher).__name__}, "
            'found none. Set auxiliary = { name = "attention" }, or num_locals = 0 in [matcher] to keep all of them.'
        )
    if config.task == "pairs" and isinstance(loss, PairLoss) and isinstance(auxiliary, AuxiliaryLoss | None):
        return PairsTask(
            model, loss, layout, max_pairs=config.max_pairs, negatives=config.negatives, auxiliary=auxiliary
        )
    if config.task == "correspondence" and isinstance(loss, CorrespondenceLoss) and auxiliary is None:
        return CorrespondenceTask(model, loss)
    if config.task == "block" and isinstance(loss, Loss) and auxiliary is None and layout == "any":
        return BlockTask(model, loss)
    raise ConfigError(
        '[stage]: wanted task = "pairs" with a loss on pairs such as pair_bce, "correspondence" with a loss on where '
        'views match such as assignment, or "block" with a loss on all pairs and a sampler of identities, '
        f"found {config.task} with {config.loss['name']} and {config.sampler['name']}."
    )
