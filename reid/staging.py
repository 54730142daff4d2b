"""From a ``[[stage]]`` to what a trainer takes: model and loss, batches, and what is loaded for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch

from reid.build import build_loss, build_sampler, component_config, component_module
from reid.data.samplers._base import Layout, MiningSampler, Neighbours
from reid.data.transforms import TrainTransform
from reid.domains import training_surfaces
from reid.engine.extract import Extraction
from reid.engine.model import Model
from reid.engine.neighbours import nearest_others
from reid.engine.schedule import build_schedule
from reid.engine.tasks.block import BlockTask
from reid.engine.tasks.correspondence import CorrespondenceTask
from reid.engine.tasks.pairs import PairsTask
from reid.engine.train_step import Stage
from reid.engine.training_set import PairedTrainingSet, TrainingSet, cache_maps
from reid.errors import ConfigError
from reid.losses._base import AuxiliaryLoss, CorrespondenceLoss, Loss, LossSpec, PairLoss
from reid.models import first_stage_model
from reid.runs import RunFolder, Session
from reid.schema import Experiment, FirstStageConfig, StageConfig


@dataclass(eq=False)
class Staging:
    """Prepares the stages of one training; what several of them need is computed once.

    Attributes:
        run: where files go that do not fit into memory.
        experiment: whose stages they are.
        model: what they train, one after the other.
        data: the training images.
        session: where and with what.
    """

    run: RunFolder
    experiment: Experiment
    model: Model
    data: TrainingSet
    session: Session
    _maps: TrainingSet | None = field(default=None, init=False)
    _neighbours: Neighbours | None = field(default=None, init=False)

    def stage(self, config: StageConfig) -> Stage:
        """What a trainer trains. That its parts do not fit together shows before anything is computed.

        Raises:
            ConfigError: task, losses and sampler do not fit together, or the sampler wants a first stage.
            ReidError: the first stage's run, or an image, is not as it should be.
        """
        component = component_module("sampler", config.sampler["name"], "[sampler]").COMPONENT
        torch.manual_seed(self.experiment.seed)  # a loss with parameters starts alike, resumed or not
        task = self._task(config, component.layout).to(self.model.device)
        first = self.experiment.first_stage
        find = None if first is None else partial(self._find, first)
        return Stage(
            task=task,
            sampler=build_sampler(config.sampler, list(self.data.labels), self.experiment.seed, find),
            transform=TrainTransform(config.augment, self.experiment.image_size),
            optimizer=config.optimizer,
            schedule=build_schedule(config.schedule, config.epochs),
            precision=config.precision,
            backbone_mode=config.backbone_mode,
            frozen=config.frozen,
        )

    def seen(self, config: StageConfig) -> TrainingSet:
        """What a stage loads: the images, the maps of a frozen backbone, or pairs of views.

        Raises:
            ConfigError: maps are to be kept for a matcher that looks at pixels, or there are no surfaces to draw.
            ReidError: an image is not as it should be, or a file cannot be written.
        """
        if "backbone" not in config.frozen:
            self._maps = None  # they will be others
        if config.cache_maps:
            self._maps = self._maps or self._cached()
            return self._maps
        if config.task == "correspondence":
            drawn = config.views.surface_share
            surfaces = training_surfaces(self.experiment, self.data.records, self.session) if drawn else None
            data, size = self.data, self.experiment.image_size
            return PairedTrainingSet(data.records, data.labels, size, config.views, surfaces)
        return self.data

    def _cached(self) -> TrainingSet:
        if self.model.matcher.info.reads_pixels:
            raise ConfigError(
                "[stage] cache_maps: wanted a matcher that reads maps alone, found "
                f"{type(self.model.matcher).__name__}, which looks at pixels too. Leave cache_maps out."
            )
        workers, file = self.session.num_workers, self.run.path / "maps.states"
        return cache_maps(self.model, self.data, num_workers=workers, file=file, progress=self.session.progress)

    def _find(self, first: FirstStageConfig, k: int) -> Neighbours:
        """The first stage's lists, at least ``k`` long: found once, as long as any stage wants them."""
        if self._neighbours is None:
            proposer = first_stage_model(first, self.session.device)
            how = Extraction(num_workers=self.session.num_workers)
            longest = max(k, *map(_num_neighbours, self.experiment.stage))
            self._neighbours = nearest_others(
                proposer, self.data.records, longest, how, folder=self.run.path, progress=self.session.progress
            )
        return self._neighbours

    def _task(self, config: StageConfig, layout: Layout) -> BlockTask | PairsTask | CorrespondenceTask:
        info = self.model.matcher.info
        spec = LossSpec(max(self.data.labels) + 1, info.embedding_dim, info.attended_dim)
        loss = build_loss(config.loss, spec)
        auxiliary = None if config.auxiliary is None else build_loss(config.auxiliary, spec)
        if spec.attended_dim is not None and auxiliary is None:
            raise ConfigError(
                "[stage]: wanted a loss for the attention that chooses local features of "
                f'{type(self.model.matcher).__name__}, found none. Set auxiliary = {{ name = "attention" }}, or '
                "num_locals = 0 in [matcher] to keep all of them."
            )
        if config.task == "pairs" and isinstance(loss, PairLoss) and isinstance(auxiliary, AuxiliaryLoss | None):
            max_pairs, negatives = config.max_pairs, config.negatives
            return PairsTask(self.model, loss, layout, max_pairs=max_pairs, negatives=negatives, auxiliary=auxiliary)
        if config.task == "correspondence" and isinstance(loss, CorrespondenceLoss) and auxiliary is None:
            return CorrespondenceTask(self.model, loss)
        if config.task == "block" and isinstance(loss, Loss) and auxiliary is None and layout == "any":
            return BlockTask(self.model, loss)
        found = f"{config.task} with {config.loss['name']} and {config.sampler['name']}"
        if config.auxiliary is not None:
            found += f", and {config.auxiliary['name']} as auxiliary"
        raise ConfigError(
            '[stage]: wanted task = "pairs" with a loss on pairs such as pair_bce, "correspondence" with a loss on '
            'where views match such as assignment, or "block" with a loss on all pairs and a sampler of identities; '
            f'beside "pairs" a loss on attention as auxiliary, or none; found {found}.'
        )


def _num_neighbours(config: StageConfig) -> int:
    component = component_module("sampler", config.sampler["name"], "[sampler]").COMPONENT
    if not issubclass(component, MiningSampler):
        return 0
    number: int = component.num_neighbours(component_config("sampler", config.sampler, "[sampler]"))
    return number
