"""Bring a checkpoint of the released TransMatcher or QAConv code into a run folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from reid.backbones._state_dict import load_matching
from reid.build import build_model
from reid.engine.checkpoint import Checkpoint, epoch_folder, save_checkpoint, saved_epochs
from reid.engine.tally import Clock
from reid.errors import ConfigError
from reid.matchers._convert import load_matcher, read_released
from reid.runs import RunFolder


def convert_released(checkpoint: Path, run: RunFolder) -> None:
    """Give a new run the weights of a released checkpoint, as its epoch 0; ``reid evaluate`` then tests them.

    Every weight must fit the experiment's backbone and matcher; only layers behind the backbone's cut are left out.

    Args:
        checkpoint: ``checkpoint.pth.tar`` of the released code.
        run: a run folder without checkpoints; its experiment says which model the weights are of. The file does not
            tell how images were normalised: the experiment must, as with any weights.

    Raises:
        ConfigError: the run has a model already, or its experiment has no backbone.
        CheckpointError: the file is missing, damaged, no released checkpoint, or of another matcher.
        WeightsError: it is of another backbone.
        StorageError: the run folder cannot be written.
    """
    experiment = run.experiment()
    if saved_epochs(run.checkpoints):
        raise ConfigError(f"{run.path}: wanted a run without checkpoints, found some. Choose another --out.")
    if experiment.center_maps:
        raise ConfigError(f"{run.config}: released models read maps as they are, found center_maps. Leave it out.")
    model = build_model(experiment.backbone, experiment.matcher, experiment.image_size, pretrained=False)
    if model.backbone is None:
        raise ConfigError(f"{run.config}: wanted a [backbone] for the released weights, found none. Add it.")
    released = read_released(checkpoint)
    load_matching(model.backbone, released.backbone, where=str(checkpoint), ignore=model.backbone.cut_off)
    load_matcher(model.matcher, released.matcher, str(checkpoint))
    start = Checkpoint(model.state_dict(), {}, {"clock": asdict(Clock())})
    save_checkpoint(epoch_folder(run.checkpoints, 0), start)
