"""Pretrained weights: which there are, how their images were normalised, and how a backbone gets them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import nn

from reid.backbones._base import BackboneConfig
from reid.backbones._download import fetch_state
from reid.backbones._state_dict import load_matching, origin_sha256, read_state
from reid.config import nearest
from reid.errors import ConfigError, WeightsError
from reid.progress import Progress

Normalization = Literal["none", "imagenet", "half"]
Statistics = tuple[tuple[float, ...] | None, tuple[float, ...] | None]

STATISTICS: Mapping[Normalization, Statistics] = {
    "none": (None, None),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Name -> (mean, standard deviation) per RGB channel, of images in [0, 1]."""


class PretrainedConfig(BackboneConfig):
    """What every backbone with pretrained weights is asked.

    A file or URL that is not in :data:`RECORDS` cannot tell how images were normalised, so it has to be written out.
    """

    weights: str = Field(
        "none",
        description="'none' (random), 'imagenet' (downloaded once), a .pth or .safetensors file, or 'URL#sha256=64 hex "
        "digits'",
    )
    normalization: Literal["auto", "none", "imagenet", "half"] = Field(
        "auto",
        description="of the images, before the first layer. 'auto': as the weights were made, which a file or URL of "
        "your own cannot tell; none for random ones. The published TransMatcher and QAConv numbers were made with "
        "ImageNet weights and 'none'",
    )


@dataclass(frozen=True, slots=True)
class WeightsRecord:
    """One published file of pretrained weights.

    Attributes:
        name: the architecture.
        url: where it is published.
        sha256: first 8 hex digits of the file's SHA-256, which PyTorch and IBN-Net publish in its name.
        normalization: of the images it was trained on.
        source: who made it, and the licence.
    """

    name: str
    url: str
    sha256: str
    normalization: Normalization
    source: str


def _records(folder_url: str, source: str, names: Sequence[str]) -> list[WeightsRecord]:
    parts = [name.rsplit("-", 1) for name in names]
    return [WeightsRecord(name, f"{folder_url}/{name}-{sha}.pth", sha, "imagenet", source) for name, sha in parts]


_TORCHVISION = _records(
    "https://download.pytorch.org/models",
    "torchvision, IMAGENET1K_V1, BSD-3-Clause",
    [
        "resnet18-f37072fd",
        "resnet34-b627a593",
        "resnet50-0676ba61",
        "resnet101-63fe2227",
        "resnet152-394f9c45",
        "mobilenet_v2-b0353104",
    ],
)
_IBN_NET = _records(
    "https://github.com/XingangPan/IBN-Net/releases/download/v1.0",
    "Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, ECCV 2018, MIT",
    [
        "resnet18_ibn_a-2f571257",
        "resnet34_ibn_a-94bc1577",
        "resnet50_ibn_a-d9d0bb7b",
        "resnet101_ibn_a-59ea0ac6",
        "resnet18_ibn_b-bc2f3c11",
        "resnet34_ibn_b-04134c37",
        "resnet50_ibn_b-9ca61e85",
        "resnet101_ibn_b-c55f6dba",
    ],
)
RECORDS: Mapping[str, WeightsRecord] = {record.name: record for record in (*_TORCHVISION, *_IBN_NET)}
"""ImageNet weights by architecture."""


def normalization_of(config: PretrainedConfig, imagenet: WeightsRecord) -> Normalization:
    """Decide how images are normalised before the first layer.

    Args:
        config: what the user wrote.
        imagenet: what ``weights = "imagenet"`` means for this architecture.

    Raises:
        ConfigError: ``auto`` cannot tell, or ``weights`` cannot be read as written.
        WeightsError: the file that ``auto`` has to look at is missing.
    """
    if config.normalization != "auto":
        return config.normalization
    if config.weights == "none":
        return "none"
    if config.weights == "imagenet":
        return imagenet.normalization
    sha256 = _split_url(config.weights)[1] if _is_url(config.weights) else origin_sha256(_existing_file(config.weights))
    known = [record for record in RECORDS.values() if sha256.startswith(record.sha256)]
    if not known:
        raise ConfigError(
            f"weights = {config.weights!r}: reid does not know this file, so how its images were normalised has to"
            f" be written: normalization = one of {', '.join(STATISTICS)}; found 'auto'."
        )
    return known[0].normalization


def load_pretrained(
    module: nn.Module, config: PretrainedConfig, *, imagenet: WeightsRecord, ignore: Sequence[str], progress: Progress
) -> None:
    """Load what ``config.weights`` names into ``module``; nothing for ``none``.

    Args:
        module: the backbone.
        config: what the user wrote.
        imagenet: what ``weights = "imagenet"`` means for this architecture.
        ignore: key prefixes of layers that the full network has and ``module`` was built without.
        progress: where a download reports to.

    Raises:
        ConfigError: ``weights`` cannot be read as written.
        WeightsError: missing, not downloadable, damaged, or of another architecture.
        StorageError: a download cannot be kept.
    """
    weights = config.weights
    if weights == "none":
        return
    if weights == "imagenet":
        state = fetch_state(imagenet.url, imagenet.sha256, progress)
    elif _is_url(weights):
        state = fetch_state(*_split_url(weights), progress)
    else:
        state = read_state(_existing_file(weights))
    load_matching(module, state, where=weights, ignore=ignore)


def _is_url(weights: str) -> bool:
    return weights.startswith(("http://", "https://"))


def _split_url(weights: str) -> tuple[str, str]:
    url, _, fragment = weights.partition("#")
    found = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if found is None:
        raise ConfigError(f"weights = {weights!r}: wanted URL#sha256=64 hex digits, found {fragment!r} after the URL.")
    return url, found[1].lower()


def _existing_file(weights: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"weights = {weights!r}: wanted none, imagenet, a .pth or .safetensors file, or URL#sha256=64 hex digits;"
            f" found no such file in {path.absolute().parent}. {nearest(weights, ('none', 'imagenet'))}"
        )
    return path
