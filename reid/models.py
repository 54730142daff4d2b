"""The models of runs: as training starts with them, and as it has left them."""

from __future__ import annotations

from pathlib import Path

import torch

from reid.build import build_model
from reid.engine.checkpoint import Checkpoint, latest, load_into, load_weights
from reid.engine.model import Model
from reid.progress import Progress
from reid.runs import RunFolder, Session
from reid.schema import Experiment, FirstStageConfig


def load_model(run: RunFolder, device: torch.device | str = "cpu") -> Model:
    """The model of a run's last checkpoint, in eval mode; pretrained weights need not be there.

    Raises:
        CheckpointError: the folder is no run, has no checkpoint, or the checkpoint is damaged.
    """
    experiment = run.experiment()
    model = bare_model(experiment)
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


def bare_model(experiment: Experiment) -> Model:
    """The model with whatever weights: for what it is like, not for what it computes."""
    return _build(experiment, pretrained=False)


def _build(experiment: Experiment, *, pretrained: bool, progress: Progress | None = None) -> Model:
    return build_model(
        experiment.backbone,
        experiment.matcher,
        experiment.image_size,
        center_maps=experiment.center_maps,
        pretrained=pretrained,
        progress=progress,
    )


def starting_model(experiment: Experiment, resumed: Checkpoint | None, session: Session) -> Model:
    """The model as training goes on with it: from a checkpoint, or :func:`fresh_model`; on the session's device."""
    if resumed is None:
        return fresh_model(experiment, session.progress).to(session.device)
    model = bare_model(experiment)
    load_into(model, resumed.model, "the latest checkpoint")
    return model.to(session.device)


def first_stage_model(first: FirstStageConfig, device: torch.device) -> Model:
    """The trained model that proposes. Raises CheckpointError where its folder is no run or has no checkpoint."""
    return load_model(RunFolder(Path(first.run)), device)


def _take_backbone(model: Model, first: FirstStageConfig) -> None:
    backbone = first_stage_model(first, torch.device("cpu")).backbone
    if backbone is not None and model.backbone is not None:
        load_into(model.backbone, backbone.state_dict(), f"the backbone of {first.run}")
