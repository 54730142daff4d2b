"""Where two image files correspond, by the model of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from reid.data.transforms import TestTransform
from reid.engine.model import Model
from reid.errors import ConfigError
from reid.images import read_image
from reid.models import load_model
from reid.report.correspondences import MatchedPair
from reid.runs import RunFolder

_WHY_NOT = {
    "embedding": "compares one vector an image, which knows of no places",
    "top_k": "has attention maps, and those are not correspondences",
    "all_pairs": "takes means over all places instead of maxima",
}


def match_images(query: Path, gallery: Path, run: RunFolder, device: torch.device) -> MatchedPair:
    """Compare two image files.

    Args:
        query: the image that is asked about.
        gallery: the image that is looked at.
        run: whose trained model compares them.
        device: where.

    Raises:
        CheckpointError: the folder is no run, or has no checkpoint.
        ConfigError: its matcher does not tell where images correspond.
        ImageError: an image is missing or damaged.
    """
    return _matched(query, gallery, matching_model(run, device))


def matching_model(run: RunFolder, device: torch.device) -> Model:
    """The model of a run whose matcher tells where images correspond.

    Raises:
        CheckpointError: the folder is no run, or has no checkpoint.
        ConfigError: its matcher does not tell that.
    """
    model = load_model(run, device)
    if not model.matcher.info.has_correspondences:
        raise ConfigError(
            f"{run.path}: wanted a matcher that tells where images correspond, such as transmatcher or superglue, "
            f"found {run.experiment().matcher['name']}: it {_WHY_NOT[model.matcher.info.kind]}. Name another run."
        )
    return model


@torch.no_grad()
def _matched(query: Path, gallery: Path, model: Model) -> MatchedPair:
    resize = TestTransform(model.image_size)
    image_BCHW = torch.stack([resize(read_image(path)) for path in (query, gallery)])
    state = model.encode(image_BCHW)
    (found,) = model.matcher.correspond(state[:1], state[1:])
    first, second = image_BCHW.permute(0, 2, 3, 1).numpy()
    return MatchedPair(
        query=first,
        gallery=second,
        found=found,
        score=model.score(state[:1], state[1:]).item(),
        caption=f"{query.name}  →  {gallery.name}",
    )
