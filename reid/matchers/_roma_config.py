"""What RoMa can be told, and what follows from it: sizes that must fit, shapes of states, memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from reid.errors import ConfigError
from reid.matchers._base import TEMPORARY_BYTES
from reid.matchers._roma_decoder import CoarseConfig
from reid.matchers._roma_features import FINE_STRIDES
from reid.matchers._roma_refiner import RefinerConfig

Levels = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class Config(CoarseConfig):
    """Defaults are those of a light model, which trains on a CPU."""

    name: Literal["roma"] = "roma"
    fine_channels: Levels = Field((16, 32, 64, 128), description="of the fine network at strides 1, 2, 4 and 8")
    fine_convs: Levels = Field((1, 1, 2, 2), description="convolutions of the fine network at strides 1, 2, 4 and 8")
    refiners: tuple[RefinerConfig, ...] = Field(
        (RefinerConfig(stride=8, dim=64), RefinerConfig(stride=4, dim=32)),
        min_length=1,
        description="one a stride, coarse to fine, the last of them finer than the coarse step",
    )
    score: Literal["logit", "certainty_sim"] = Field(
        "logit",
        description="'logit': of the evidence, by weights that a stage with identities trains; 'certainty_sim': mean "
        "certainty times mean similarity, which needs no labels",
    )
    cycle_px: PositiveFloat = Field(8.0, description="a cell that comes back this near, there and back, counts as back")


def refuse_misfits(config: Config, image_size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    """Raise ConfigError where strides, the images' (height, width) and the map's (C, H, W) do not fit together."""
    strides = [refiner.stride for refiner in config.refiners]
    known = {*FINE_STRIDES, config.stride}
    falling = strides == sorted(set(strides), reverse=True) and strides[-1] < config.stride >= strides[0]
    if not falling or not known.issuperset(strides):
        raise ConfigError(
            f"matcher roma: wanted refiners of falling strides among {sorted(known, reverse=True)}, at most the "
            f"matcher's {config.stride} and the last below it, found {strides}."
        )
    if any(side % stride for side in image_size for stride in (config.stride, *strides)):
        raise ConfigError(
            f"matcher roma: wanted images whose sides are multiples of the strides {[config.stride, *strides]}, found "
            f"{image_size[0]} x {image_size[1]}. Choose another image_size."
        )
    if shape[1:] != (image_size[0] // config.stride, image_size[1] // config.stride):
        raise ConfigError(
            f"matcher roma: wanted a map of stride {config.stride}, found one of {shape[1]} x {shape[2]} cells for "
            f"images of {image_size[0]} x {image_size[1]}."
        )
    if strides[0] == config.stride and config.refiners[0].dim != config.dim:
        raise ConfigError(
            f"matcher roma: wanted dim = {config.dim}, the coarse features', for the refiner at their stride, found "
            f"{config.refiners[0].dim}."
        )


def field_shapes(
    config: Config, image_size: tuple[int, int], shape: tuple[int, int, int]
) -> dict[str, tuple[int, ...]]:
    """Shapes of a state's fields, without the image dimension, for images of (height, width) and a map (C, H, W)."""
    cells = shape[1] * shape[2]
    shapes: dict[str, tuple[int, ...]] = {"coarse": (cells, config.dim), "weights": (cells, config.gp_dim)}
    shapes["appearance"] = shape
    for refiner in config.refiners:
        if refiner.stride != config.stride:
            sides = (image_size[0] // refiner.stride, image_size[1] // refiner.stride)
            shapes[f"fine{refiner.stride}"] = (refiner.dim, *sides)
    return shapes


def pairs_at_once(config: Config, image_size: tuple[int, int]) -> int:
    """How many pairs the layer that needs most bears together, both directions, in float32."""
    pixels = image_size[0] * image_size[1]
    floats = [pixels // config.stride**2 * (6 * (config.dim + config.gp_dim) + 2 * config.feedforward)]
    for refiner in config.refiners:
        cells = pixels // refiner.stride**2
        floats.append(cells * (4 * refiner.num_channels + (2 * cells if refiner.radius else 0)))
    return max(1, TEMPORARY_BYTES // (2 * 4 * max(floats)))
