"""Train an experiment, stage by stage, into a run folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

from reid.domains import open_domains
from reid.engine.checkpoint import (
    Checkpoint,
    epoch_folder,
    latest,
    load_checkpoint,
    save_checkpoint,
    saved_epochs,
)
from reid.engine.log import TrainingLog
from reid.engine.model import Model
from reid.engine.tally import Clock
from reid.engine.trainer import Trainer
from reid.engine.training_set import TrainingSet
from reid.errors import CheckpointError
from reid.models import starting_model
from reid.runs import RunFolder, Session
from reid.schema import Experiment
from reid.staging import Staging
from reid.trained_on import inherited_domains


def train(run: RunFolder, session: Session) -> Model:
    """Train the experiment of ``run``, from its latest checkpoint where it has one.

    Returns:
        the model after the last epoch, which is the result.

    Raises:
        ReidError: data, weights, checkpoint or disk are not as they should be; finished epochs are kept.
    """
    experiment = run.experiment()
    domains = open_domains(experiment, session)  # what is missing must show before anything is saved
    inherited_domains(experiment, session)  # nor may a backbone that is taken over know a target
    resumed = _resumed(run, experiment)
    model = starting_model(experiment, resumed, session)
    if experiment.stage:
        _train_stages(run, experiment, model, domains.training_set(), resumed, session)
    elif resumed is None:
        untrained = Checkpoint(model.state_dict(), {}, {"clock": asdict(Clock())})
        save_checkpoint(epoch_folder(run.checkpoints, 0), untrained)
    return model


def _resumed(run: RunFolder, experiment: Experiment) -> Checkpoint | None:
    if not saved_epochs(run.checkpoints):
        return None
    folder = latest(run.checkpoints)
    found = load_checkpoint(folder)
    if experiment.stage and "scaler" not in found.facts:  # every step of training leaves its state
        raise CheckpointError(
            f"{folder}: wanted a state to go on training from, found weights alone, as reid convert leaves them. "
            f"Test them: reid evaluate {run.path}, or train anew with another --out."
        )
    return found


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
    staging = Staging(run, experiment, model, data, session)
    with closing(TrainingLog(run.path, last_step=clock.step)) as log:
        while clock.stage < len(experiment.stage):
            config = experiment.stage[clock.stage]
            trainer = Trainer(
                staging.stage(config),
                staging.seen(config),
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
