"""Experiment files: read, merged with what they are based on, checked down to the last component, and changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import tomli_w

from reid.build import Kind, component_config, settled_backbone
from reid.config import parse, read_toml, set_value
from reid.errors import ConfigError
from reid.protocols._base import Transfer
from reid.schema import Experiment, Table


def read_experiment(path: Path, assignments: Sequence[str] = ()) -> Experiment:
    """Read an experiment file and apply ``--set`` assignments.

    A file that begins with ``base = "other.toml"`` holds only what differs from the file of that name beside it: tables
    are merged key by key, arrays such as ``[[stage]]`` are replaced. That file may have a base as well.

    Returns:
        the experiment with every table of every component validated and its defaults filled in.

    Raises:
        ConfigError: anything in it is misspelt, missing or does not fit.
        WeightsError: a file of weights that tells how images are normalised is missing.
    """
    table = _read_with_base(path)
    for assignment in assignments:
        set_value(table, assignment)
    return resolve(table, str(path))


def _read_with_base(path: Path, above: tuple[Path, ...] = ()) -> Table:
    table = read_toml(path)
    if "base" not in table:
        return table
    base = path.parent / str(table.pop("base"))
    read = (*above, path.resolve())
    if base.resolve() in read:
        raise ConfigError(
            f"{path}: wanted a base that stands on its own, found {base}, which has this file for a base."
        )
    return _merged(_read_with_base(base, read), table)


def _merged(beneath: Table, above: Table) -> Table:
    both = {key: _merged(beneath[key], value) for key, value in above.items() if _tables(beneath.get(key), value)}
    return {**beneath, **above, **both}


def _tables(one: object, other: object) -> bool:
    """A table that names another component is no part of the one it replaces."""
    return isinstance(one, dict) and isinstance(other, dict) and one.get("name") == other.get("name", one.get("name"))


def resolve(table: Table, where: str) -> Experiment:
    """Validate an experiment's table down to the last component; see :func:`read_experiment`."""
    experiment = parse(Experiment, table, where)

    def filled(kind: Kind, component: Table, place: str) -> Table:
        config = component_config(kind, component, f"{where} [{place}]").model_dump(mode="json", exclude_none=True)
        return settled_backbone(config) if kind == "backbone" else config

    return with_components(experiment, filled)


def with_components(experiment: Experiment, changed: Callable[[Kind, Table, str], Table]) -> Experiment:
    """The experiment with each component's table as ``changed(kind, table, place)`` makes it."""
    stages = [
        stage.model_copy(
            update={
                "sampler": changed("sampler", stage.sampler, "stage.sampler"),
                "loss": changed("loss", stage.loss, "stage.loss"),
                "auxiliary": stage.auxiliary and changed("loss", stage.auxiliary, "stage.auxiliary"),
            }
        )
        for stage in experiment.stage
    ]
    backbone, rerank = experiment.backbone, experiment.evaluation.rerank
    return experiment.model_copy(
        update={
            "source": tuple(changed("dataset", entry, "source") for entry in experiment.source),
            "target": tuple(changed("dataset", entry, "target") for entry in experiment.target),
            "backbone": None if backbone is None else changed("backbone", backbone, "backbone"),
            "matcher": changed("matcher", experiment.matcher, "matcher"),
            "stage": tuple(stages),
            "evaluation": experiment.evaluation.model_copy(
                update={"rerank": tuple(changed("reranker", entry, "evaluation.rerank") for entry in rerank)}
            ),
        }
    )


def with_shared_backbone(experiment: Experiment) -> Experiment:
    """A first stage's backbone, made a part of the experiment: its run can then be loaded without the other.

    Of the experiment's own ``[backbone]`` only ``strides`` counts: other maps may be read than the first stage reads.

    Raises:
        ConfigError: there is no such run, the backbone is not frozen, or image sizes differ.
    """
    first = experiment.first_stage
    if first is None or not first.share_backbone:
        return experiment
    thawed = [number for number, stage in enumerate(experiment.stage) if "backbone" not in stage.frozen]
    if thawed:
        raise ConfigError(
            "first_stage.share_backbone: wanted the backbone frozen in every stage, found it trained in stage "
            f'{thawed[0]}. Set frozen = ["backbone"] there, or share_backbone = false.'
        )
    config = Path(first.run) / "config.toml"
    if not config.is_file():
        raise ConfigError(
            f"first_stage.run: wanted the folder of a run that is trained already, found no {config}. Train it first "
            "(reid run), or name another with --set first_stage.run=FOLDER."
        )
    proposer = read_experiment(config)
    if proposer.image_size != experiment.image_size:
        raise ConfigError(
            f"first_stage.share_backbone: wanted images of the same size in both stages, found {proposer.image_size} "
            f"in {first.run} and {experiment.image_size} here."
        )
    theirs, own = proposer.backbone, experiment.backbone
    if theirs and own and own["name"] == theirs["name"] and "strides" in own:
        theirs = {**theirs, "strides": own["strides"]}
    return experiment.model_copy(update={"backbone": theirs})


def on_transfer(experiment: Experiment, transfer: Transfer) -> Experiment:
    """The same method on the sources and targets of a protocol's transfer."""
    changes = {
        "title": f"{experiment.title} ({transfer.name})",
        "source": tuple(dict(table) for table in transfer.sources),
        "target": tuple(dict(table) for table in transfer.targets),
    }
    return resolve({**experiment.model_dump(mode="json", exclude_none=True), **changes}, "--protocol")


def differing(one: Experiment, two: Experiment) -> list[str]:
    """Names of the tables and keys of the first level in which two experiments differ, sorted."""
    first, second = (each.model_dump(mode="json") for each in (one, two))
    return sorted(key for key in first if first[key] != second[key])


def to_toml(experiment: Experiment) -> str:
    """The experiment as TOML, with all defaults written out."""
    return tomli_w.dumps(experiment.model_dump(mode="json", exclude_none=True))
