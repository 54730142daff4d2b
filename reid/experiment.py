"""The experiment file: what is trained on what, how, and what it is tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from reid.build import Kind, component_config, settled_backbone
from reid.config import Config, parse, read_toml, set_value
from reid.data.pairs import ViewsConfig
from reid.data.transforms import AugmentConfig
from reid.engine.optimizer import OptimizerConfig
from reid.engine.precision import Precision
from reid.engine.schedule import ScheduleConfig, StepConfig
from reid.engine.tasks.pairs import Negatives
from reid.errors import ConfigError
from reid.protocols._base import Transfer
from reid.types import StatePrecision

Table = dict[str, Any]


class StageConfig(Config):
    """``[[stage]]``: one training stage; the defaults are TransMatcher's published recipe."""

    # block: all pairs of a batch; pairs: some, for matchers too costly for all; correspondence: where views match
    task: Literal["block", "pairs", "correspondence"] = "block"
    max_pairs: PositiveInt = 512  # of a step, task pairs only
    negatives: Negatives = "random"  # of those pairs: strangers at random, or what looks most alike as a whole
    epochs: PositiveInt
    sampler: Table
    loss: Table
    auxiliary: Table | None = None  # a loss beside that on pairs: of the attention that chooses local features
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = StepConfig()
    augment: AugmentConfig = AugmentConfig()
    views: ViewsConfig = ViewsConfig()  # task correspondence only: in the place of augment
    precision: Precision = "float32"
    backbone_mode: Literal["eval", "train"] = "eval"  # eval: pretrained batch statistics stay; train: from scratch
    frozen: tuple[Literal["backbone", "encoder", "decoder", "head"], ...] = ()
    cache_maps: bool = False  # compute a frozen backbone's maps once; mirroring is the only augmentation then

    @model_validator(mode="after")
    def _only_frozen_maps_can_be_kept(self) -> Self:
        if self.cache_maps and "backbone" not in self.frozen:
            raise ValueError(
                'cache_maps: wanted the backbone among frozen, found it is trained. Set frozen = ["backbone"]'
            )
        return self


Fusion = Literal["replace", "lerp"]
"""replace: the second stage's scores alone. lerp: a mean of both, weighted by what is best on the validation split."""


class FirstStageConfig(Config):
    """``[first_stage]``: what proposes the images that this experiment's matcher puts in order."""

    run: str  # folder of the run, such as runs/synthped_embedding; it is trained already
    top_k: PositiveInt = 100  # gallery images a query that are proposed
    fusion: Fusion = "replace"
    share_backbone: bool = False  # take its backbone, frozen: images go through it once for both stages


class EvaluationConfig(Config):
    """``[evaluation]``: how targets are tested."""

    precision: Precision = "float32"  # of backbone and encoder; scores are float32 always
    state_precision: StatePrecision = "bfloat16"  # of maps that wait to be scored; float32 is exact, and slower
    key_rank: PositiveInt | None = None  # compare positions in so few channels; None: in all, exact
    int8_products: bool = False  # multiply 8-bit integers on a CPU with AMX, faster than bfloat16
    memory_gib: Annotated[float, Field(gt=0, allow_inf_nan=False)] = (
        4.0  # a target, for states and scores, beyond it they go to files; Market-1501's fit
    )
    batch_size: PositiveInt = 64  # images a batch
    camera_rule: bool = True  # leave out gallery images of the query's identity and camera
    rerank: tuple[Table, ...] = ()  # classical re-rankers, one behind another, such as [{ name = "k_reciprocal" }]
    ap_rule: Literal["finite_sum", "trapezoid"] = "finite_sum"  # the field's, or the Market-1501 authors'


class Experiment(Config):
    """A whole experiment file."""

    title: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    image_size: tuple[PositiveInt, PositiveInt] = (384, 128)  # height, width in pixels
    source: tuple[Table, ...] = ()
    target: tuple[Table, ...] = ()
    validation_pids: NonNegativeInt = 0  # identities kept out of the sources' training images, tested as a target
    first_stage: FirstStageConfig | None = None  # none: the matcher is compared with the whole gallery
    backbone: Table | None = None
    center_maps: bool = False  # take away their mean over images first: cells may differ by place above all
    matcher: Table
    stage: tuple[StageConfig, ...] = ()  # none: the untrained model is tested
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoints_kept: PositiveInt = 2  # how many of the latest stay on disk


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
