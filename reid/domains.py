"""An experiment's data sets, opened: what is trained on, what is tested, and that the two do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reid.build import build_dataset, component_config
from reid.data.holdout import hold_out
from reid.data.surface_images import SurfaceImages, draw_surface_images
from reid.datasets._base import DataSet
from reid.datasets.synthped import Config as SynthpedConfig
from reid.datasets.synthped import people_of
from reid.engine.training_set import TrainingSet
from reid.errors import ConfigError, DatasetError
from reid.files import file_name
from reid.protocols._leaks import refuse_leaks
from reid.runs import Session
from reid.schema import Experiment, Table
from reid.types import ImageRecord

VALIDATION = "validation"


@dataclass(frozen=True, slots=True)
class Target:
    """What is tested.

    Attributes:
        label: data set and variant; ``validation`` for identities held out from the sources.
        query: query images.
        gallery: gallery images, distractors and junk among them.
        counts_checked: whether the data set's counts agreed with the published ones.
    """

    label: str
    query: Sequence[ImageRecord]
    gallery: Sequence[ImageRecord]
    counts_checked: bool

    @property
    def file_name(self) -> str:
        """The label as a part of a file's name."""
        return file_name(self.label)


@dataclass(frozen=True, slots=True)
class Domains:
    """An experiment's images.

    Attributes:
        sources: labels of the data sets trained on.
        sources_counts_checked: whether the counts of all of them agreed with the published ones.
        train: training images of all sources, validation identities apart.
        targets: what is tested.
    """

    sources: tuple[str, ...]
    sources_counts_checked: bool
    train: Sequence[ImageRecord]
    targets: tuple[Target, ...]

    def training_set(self) -> TrainingSet:
        """Training images with one class a person, classes in the order of (data set, identity).

        Raises:
            DatasetError: there are none.
        """
        if not self.train:
            raise DatasetError(
                f"[[source]]: wanted images to train on, found none in {len(self.sources)} sources. Add a source that "
                "has training images."
            )
        persons = sorted({(record.source, record.pid) for record in self.train})
        label_of = {person: label for label, person in enumerate(persons)}
        return TrainingSet(self.train, [label_of[record.source, record.pid] for record in self.train])


def open_domains(experiment: Experiment, session: Session) -> Domains:
    """Open all sources and targets of an experiment.

    Raises:
        ConfigError: two targets have the same label.
        DatasetError: a data set is missing or incomplete, or a target has no query or gallery images.
        SamplingError: too few identities would be left to train on.
        ProtocolError: a target image or identity is trained on.
    """
    sources = [_open(table, session) for table in experiment.source]
    records = [record for source in sources for record in source.train if record.role == "person"]
    held = hold_out(records, experiment.validation_pids, experiment.seed)
    opened = [_open(table, session) for table in experiment.target]
    targets = [_target(data.label, data.query, data.gallery, checked=data.counts_checked) for data in opened]
    for target in targets:
        refuse_leaks(records, [*target.query, *target.gallery])
    checked = all(source.counts_checked for source in sources)
    if experiment.validation_pids:
        targets.append(_target(VALIDATION, held.query, held.gallery, checked=checked))
    _refuse_namesakes(targets)
    return Domains(tuple(source.label for source in sources), checked, held.train, tuple(targets))


def training_surfaces(experiment: Experiment, train: Sequence[ImageRecord], session: Session) -> SurfaceImages:
    """Renderings of the training people of the first synthped source, with their true surface points.

    Args:
        experiment: its sources.
        train: training images; people held out of them are left out here as well.
        session: where to report.

    Raises:
        ConfigError: there is no such source.
    """
    for table in experiment.source:
        config = component_config("dataset", table, "[[source]]")
        if isinstance(config, SynthpedConfig):
            drawn = draw_surface_images(
                config, config.num_train_pids, image_size=experiment.image_size, progress=session.progress
            )
            source = people_of(config)
            return drawn.of_people({record.pid for record in train if record.source == source})
    raise ConfigError(
        "stage.views.surface_share: wanted a [[source]] named synthped, whose true surfaces are known, found "
        f"{', '.join(repr(table['name']) for table in experiment.source)}. Set surface_share = 0 or add one."
    )


def _open(table: Table, session: Session) -> DataSet:
    dataset = build_dataset(table, session.data_root, session.progress)
    data = dataset.load(session.data_root)
    return data if dataset.config.label is None else replace(data, label=dataset.config.label)


def _refuse_namesakes(targets: Sequence[Target]) -> None:
    names = [target.file_name for target in targets]  # also of pictures
    twice = [target.label for target in targets if names.count(target.file_name) > 1]
    if twice:
        held = f" ({VALIDATION} is the name of held-out identities)" if VALIDATION in twice else ""
        raise ConfigError(
            f"[[target]]: found two targets named {twice[0]!r}, or nearly so{held}. Give one of them another label."
        )


def _target(label: str, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord], *, checked: bool) -> Target:
    if not query or not gallery:
        raise DatasetError(
            f"{label}: wanted query and gallery images to test on, found {len(query)} and {len(gallery)}. A set for "
            "training only cannot be a [[target]]; validation needs two images of a person in one camera."
        )
    return Target(label, query, gallery, checked)
