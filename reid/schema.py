"""What can stand in an experiment file: its tables, but for those of components, which each component's file has."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from reid.config import Config
from reid.data.pairs import ViewsConfig
from reid.data.transforms import AugmentConfig
from reid.engine.optimizer import OptimizerConfig
from reid.engine.precision import Precision
from reid.engine.schedule import ScheduleConfig, StepConfig
from reid.engine.tasks.pairs import Negatives
from reid.types import StatePrecision

Table = dict[str, Any]


class StageConfig(Config):
    """One training stage; the defaults are TransMatcher's published recipe."""

    task: Literal["block", "pairs", "correspondence"] = Field(
        "block",
        description="'block': all pairs of a batch; 'pairs': some, for matchers too costly for all; 'correspondence': "
        "where two views match",
    )
    max_pairs: PositiveInt = Field(512, description="pairs a step, of task pairs")
    negatives: Negatives = Field(
        "random", description="of those pairs: strangers at random, or what looks most alike as a whole"
    )
    epochs: PositiveInt = Field(description="how many; the sampler says how many batches one has")
    sampler: Table = Field(description="table of a sampler: what a batch is made of")
    loss: Table = Field(description="table of a loss, one for the task")
    auxiliary: Table | None = Field(
        None, description="table of a loss beside that on pairs: of the attention that chooses local features"
    )
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="stage.optimizer")
    schedule: ScheduleConfig = Field(StepConfig(), description="its name chooses one; stage.schedule")
    augment: AugmentConfig = Field(AugmentConfig(), description="stage.augment")
    views: ViewsConfig = Field(ViewsConfig(), description="task correspondence only, instead of augment; stage.views")
    precision: Precision = Field("float32", description="of the training step's products; weights are float32 always")
    backbone_mode: Literal["eval", "train"] = Field(
        "eval", description="'eval': pretrained batch statistics stay; 'train': from scratch"
    )
    frozen: tuple[Literal["backbone", "encoder", "decoder", "head"], ...] = Field(
        (), description="parts of the model that are not trained"
    )
    cache_maps: bool = Field(
        False, description="compute a frozen backbone's maps once; mirroring is the only augmentation then"
    )

    @model_validator(mode="after")
    def _only_maps_that_stay_can_be_kept(self) -> Self:
        if self.cache_maps and self.task == "correspondence":
            raise ValueError(
                "cache_maps: wanted task block or pairs, found correspondence, which makes new views every epoch. "
                "Leave it out"
            )
        if self.cache_maps and "backbone" not in self.frozen:
            raise ValueError(
                'cache_maps: wanted the backbone among frozen, found it is trained. Set frozen = ["backbone"]'
            )
        return self


Fusion = Literal["replace", "lerp"]
"""replace: the second stage's scores alone. lerp: a mean of both, weighted by what is best on the validation split."""


class FirstStageConfig(Config):
    """What proposes the images that this experiment's matcher puts in order."""

    run: str = Field(description="folder of the run, such as runs/synthped_embedding; it is trained already")
    top_k: PositiveInt = Field(100, description="gallery images a query that are proposed")
    fusion: Fusion = Field(
        "replace",
        description="'replace': the second stage's scores alone; 'lerp': a mean of both, weighted by what is best on "
        "the validation split",
    )
    share_backbone: bool = Field(
        False, description="take its backbone, frozen: images go through it once for both stages"
    )


class EvaluationConfig(Config):
    """How targets are tested."""

    precision: Precision = Field("float32", description="of backbone and encoder; scores are float32 always")
    state_precision: StatePrecision = Field(
        "bfloat16", description="of maps that wait to be scored; float32 is exact, and slower"
    )
    key_rank: PositiveInt | None = Field(None, description="compare positions in so few channels; none: in all, exact")
    int8_products: bool = Field(False, description="multiply 8-bit integers on a CPU with AMX, faster than bfloat16")
    memory_gib: float = Field(
        4.0,
        gt=0,
        allow_inf_nan=False,
        description="for states and scores of a target; Market-1501's fit. Beyond it they go to files",
    )
    batch_size: PositiveInt = Field(64, description="images a batch")
    camera_rule: bool = Field(True, description="leave out gallery images of the query's identity and camera")
    rerank: tuple[Table, ...] = Field(
        (), description='classical re-rankers, one behind another, such as [{ name = "k_reciprocal" }]'
    )
    ap_rule: Literal["finite_sum", "trapezoid"] = Field(
        "finite_sum", description="average precision: the field's, or the Market-1501 authors'"
    )


class Experiment(Config):
    """The whole file. One that begins with ``base = "other.toml"`` holds only what differs from the file beside it."""

    title: str = Field(description="what tables call it")
    seed: int = Field(0, ge=0, lt=2**32, description="of everything that is drawn at random")
    image_size: tuple[PositiveInt, PositiveInt] = Field((384, 128), description="height, width in pixels")
    source: tuple[Table, ...] = Field((), description="tables of data sets to train on")
    target: tuple[Table, ...] = Field((), description="tables of data sets to test on")
    validation_pids: NonNegativeInt = Field(
        0, description="identities kept out of the sources' training images, tested as a target"
    )
    first_stage: FirstStageConfig | None = Field(
        None, description="none: the matcher is compared with the whole gallery"
    )
    backbone: Table | None = Field(None, description="table of a backbone; none: the matcher reads images")
    center_maps: bool = Field(
        False,
        description="subtract their mean over images from the backbone's maps: cells may differ by place above all",
    )
    matcher: Table = Field(description="table of a matcher")
    stage: tuple[StageConfig, ...] = Field((), description="one after another; none: the untrained model is tested")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how targets are tested")
    checkpoints_kept: PositiveInt = Field(2, description="how many of the latest stay on disk")
