"""From names in a TOML file to components: imports ``reid.<folder>.<name>`` and validates its table."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from reid.backbones._base import Backbone
from reid.config import Config, nearest, parse
from reid.data.samplers._base import MiningSampler, Neighbours, Sampler
from reid.datasets._base import Dataset
from reid.engine.model import Model
from reid.errors import ConfigError
from reid.losses._base import AuxiliaryLoss, CorrespondenceLoss, Loss, LossSpec, PairLoss
from reid.matchers._base import Matcher
from reid.nn.map_norm import MapNorms
from reid.progress import Progress
from reid.protocols._base import Protocol
from reid.reranking._base import Reranker
from reid.types import FeatureSpec

Kind = Literal["dataset", "backbone", "matcher", "loss", "sampler", "reranker", "protocol"]
Table = Mapping[str, Any]

_FOLDERS: Mapping[Kind, str] = {
    "dataset": "reid.datasets",
    "backbone": "reid.backbones",
    "matcher": "reid.matchers",
    "loss": "reid.losses",
    "sampler": "reid.data.samplers",
    "reranker": "reid.reranking",
    "protocol": "reid.protocols",
}


def component_names(kind: Kind) -> list[str]:
    """Names of all components of a kind: the files of its folder that do not start with an underscore."""
    folder = importlib.import_module(_FOLDERS[kind])
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__) if not module.name.startswith("_"))


def component_module(kind: Kind, name: object, where: str) -> ModuleType:
    """Import a component's file, which holds ``Config`` and ``COMPONENT``.

    Raises:
        ConfigError: there is no component of that name; the message names the nearest.
    """
    names = component_names(kind)
    if name not in names:
        raise ConfigError(f"{where}: no {kind} named {name!r}. {nearest(str(name), names)}")
    return importlib.import_module(f"{_FOLDERS[kind]}.{name}")


def component_config(kind: Kind, table: Table, where: str) -> Config:
    """Validate a component's table; the result has all defaults filled in.

    Raises:
        ConfigError: the table has no name, or an unknown one, or a key or value that does not fit.
    """
    if "name" not in table:
        raise ConfigError(f"{where}: key 'name' is missing. Known: {', '.join(component_names(kind))}.")
    model: type[Config] = component_module(kind, table["name"], where).Config
    return parse(model, table, where)


def settled_backbone(table: Table) -> dict[str, Any]:
    """A backbone's table with its defaults and what ``auto`` comes to: read again, it needs no file of weights.

    Raises:
        WeightsError: ``auto`` has to look at a file of weights that is missing.
    """
    with torch.device("meta"):  # the shapes only: fast, and no random numbers
        backbone: Backbone = _build("backbone", table, pretrained=False)
    return backbone.config.model_dump(mode="json", exclude_none=True)


def _build(kind: Kind, table: Table, *parts: Any, **options: Any) -> Any:
    config = component_config(kind, table, f"[{kind}]")
    return component_module(kind, table["name"], f"[{kind}]").COMPONENT(config, *parts, **options)


def build_dataset(table: Table, data_root: Path, progress: Progress | None = None) -> Dataset:
    """The data set of a ``[[source]]`` or ``[[target]]`` table; a relative ``root`` is one below ``data_root``."""
    if "root" in table:
        table = {**table, "root": data_root / table["root"]}
    dataset: Dataset = _build("dataset", table, progress)
    return dataset


def build_sampler(
    table: Table, labels: list[int], seed: int, find: Callable[[int], Neighbours] | None = None
) -> Sampler:
    """The sampler of a ``[stage.sampler]`` table.

    Args:
        table: of the sampler.
        labels: classes of the training images.
        seed: the experiment's seed.
        find: number of neighbours -> the first stage's, of every training image; None: there is no first stage.

    Raises:
        ConfigError: the sampler mines in a first stage's neighbours, and there is none.
    """
    component = component_module("sampler", table.get("name"), "[sampler]").COMPONENT
    parts: tuple[Any, ...] = (labels, seed)
    if issubclass(component, MiningSampler):
        if find is None:
            raise ConfigError(
                f"[stage.sampler]: {table['name']} wants a [first_stage] to look for examples in. Name one."
            )
        config = component_config("sampler", table, "[sampler]")
        parts += (find(component.num_neighbours(config)),)
    sampler: Sampler = _build("sampler", table, *parts)
    return sampler


def build_loss(table: Table, spec: LossSpec) -> Loss | PairLoss | CorrespondenceLoss | AuxiliaryLoss:
    """The loss of a ``[stage.loss]`` or ``[stage.auxiliary]`` table."""
    loss: Loss | PairLoss | CorrespondenceLoss | AuxiliaryLoss = _build("loss", table, spec)
    return loss


def build_reranker(table: Table) -> Reranker:
    """One of the tables of ``evaluation.rerank``."""
    reranker: Reranker = _build("reranker", table)
    return reranker


def build_model(
    backbone_table: Table | None,
    matcher_table: Table,
    image_size: tuple[int, int],
    *,
    center_maps: bool = False,
    pretrained: bool = True,
    progress: Progress | None = None,
) -> Model:
    """Backbone and matcher together; what is not pretrained is drawn from torch's current random state.

    Args:
        backbone_table: ``[backbone]``; None for matchers that look at pixels.
        matcher_table: ``[matcher]``.
        image_size: height and width in pixels.
        center_maps: take away the mean map over images, and divide by one number, before the matcher reads maps.
        pretrained: False leaves the backbone's weights random too: the caller brings its own.
        progress: where a download of weights reports to.

    Raises:
        ConfigError: a table does not fit, or the matcher reads a stride that the backbone does not return.
        WeightsError: the pretrained weights are missing or damaged.
    """
    backbone: Backbone | None = None
    if backbone_table is not None:
        backbone = _build("backbone", backbone_table, pretrained=pretrained, progress=progress)
    features = FeatureSpec(image_size, {}) if backbone is None else backbone.spec(image_size)
    matcher: Matcher = _build("matcher", matcher_table, features)
    if not center_maps:
        return Model(backbone, matcher, image_size)
    if not matcher.info.strides:
        raise ConfigError(
            f"center_maps: wanted a matcher that reads maps, found {matcher_table['name']}. Leave it out."
        )
    norms = MapNorms({stride: features.maps[stride] for stride in matcher.info.strides})
    return Model(backbone, matcher, image_size, norms)


def find_protocol(name: str) -> Protocol:
    """The named list of sources and targets. Raises ConfigError if there is none of that name."""
    protocol: Protocol = component_module("protocol", name, "--protocol").COMPONENT
    return protocol
