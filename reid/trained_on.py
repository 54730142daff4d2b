"""What the weights of a model were trained on, in all trainings behind them, and which targets are new to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from reid.domains import Domains, Target, open_domains
from reid.errors import CheckpointError, ConfigError
from reid.progress import Progress
from reid.runs import RunFolder, Session
from reid.schema import Experiment
from reid.types import ImageRecord


def training_domains(experiment: Experiment, session: Session) -> list[Domains]:
    """Of every training whose weights the model has: its own, if it has stages, and those behind a shared backbone.

    All are opened with the targets of ``experiment``; none for an untrained model.

    Raises:
        CheckpointError: the run that the backbone comes from is not there any more.
        ProtocolError: a target's image or identity was trained on.
        ReidError: see :func:`open_domains`.
    """
    own = [open_domains(experiment, session)] if experiment.stage else []
    return [*own, *inherited_domains(experiment, session)]


def inherited_domains(experiment: Experiment, session: Session) -> list[Domains]:
    """As :func:`training_domains`, of the trainings behind a shared backbone alone; none where it is not shared."""
    return [
        open_domains(before.model_copy(update={"target": experiment.target}), session)
        for before in _behind(experiment)
        if before.stage
    ]


def new_to(others: Sequence[Domains], targets: Iterable[Target]) -> list[Target]:
    """The targets none of whose query persons ``others`` were trained on: held-out identities of one run may be."""
    return _without({person for domains in others for person in _people(domains.train)}, targets)


def apart_from(seen: Target, targets: Iterable[Target]) -> list[Target]:
    """The targets none of whose query persons are in ``seen``, whose labels have been looked at."""
    return _without(_people(seen.query), targets)


def new_targets(where: Path, trained: Sequence[Domains], targets: Sequence[Target], progress: Progress) -> list[Target]:
    """As :func:`new_to`; the user is told what is left out.

    Args:
        where: the run, for the error.
        trained: of all trainings behind the weights that are tested.
        targets: what was asked for.
        progress: where to report.

    Raises:
        ConfigError: nothing is left to test.
    """
    if not targets:
        raise ConfigError(f"{where}: wanted at least one [[target]] to test on, found none.")
    found = new_to(trained, targets)
    labels = {target.label for target in found}
    for target in targets:
        if target.label not in labels:
            progress.say(f"{target.label}: left out, since weights that are tested were trained on its people")
    if not found:
        raise ConfigError(
            f"{where}: wanted a [[target]] that the model was not trained on, found none among {len(targets)}. Set "
            "another, such as --set 'target=[{name=\"synthped\"}]'."
        )
    return found


def _people(records: Iterable[ImageRecord]) -> set[tuple[str, int]]:
    return {(record.source, record.pid) for record in records}


def _without(people: set[tuple[str, int]], targets: Iterable[Target]) -> list[Target]:
    return [target for target in targets if people.isdisjoint(_people(target.query))]


def _behind(experiment: Experiment) -> list[Experiment]:
    """The experiments that a shared backbone has gone through before, the latest first."""
    first = experiment.first_stage
    if first is None or not first.share_backbone:
        return []
    run = RunFolder(Path(first.run))
    if not run.config.is_file():
        raise CheckpointError(
            f"{run.path}: wanted the run that {experiment.title!r} has its backbone from, to see what it was trained "
            "on, found none. Put its folder back there."
        )
    before = run.experiment()
    return [before, *_behind(before)]
