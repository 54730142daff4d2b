"""Shared ground of the matchers that read feature maps: what they accept."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from reid.errors import ConfigError, ShapeError
from reid.types import FeatureSpec, ImageState


def map_shape(features: FeatureSpec, stride: int, matcher: str) -> tuple[int, int, int]:
    """(C, H, W) of the map that ``matcher`` reads.

    Raises:
        ConfigError: the backbone has no map of this stride.
    """
    if stride not in features.maps:
        raise ConfigError(
            f"matcher {matcher}: wanted a feature map of stride {stride}, the backbone gives {sorted(features.maps)}. "
            "Change the matcher's stride or the backbone's layers."
        )
    return features.maps[stride]


def read_map(maps: Mapping[int, Tensor], stride: int, shape: tuple[int, int, int], matcher: str) -> Tensor:
    """The map of ``stride``, [B, C, H, W].

    Raises:
        ShapeError: it is missing or is not [B, *shape].
    """
    found = tuple(maps[stride].shape) if stride in maps else None
    if found is None or len(found) != 4 or found[1:] != shape:
        raise ShapeError(
            f"{matcher}: wanted a map of stride {stride} of shape [B, {', '.join(map(str, shape))}], found "
            f"{list(found) if found else f'strides {sorted(maps)}'}. Images must have the size the model was built for."
        )
    return maps[stride]


def read_field(state: ImageState, name: str, shape: tuple[int, ...], matcher: str) -> Tensor:
    """A state's tensor, [N, *shape].

    Raises:
        ShapeError: the field is missing or has another shape: the state is another matcher's.
    """
    if name not in state.tensors or state[name].shape[1:] != shape:
        found = {key: list(tensor.shape) for key, tensor in state.tensors.items()}
        raise ShapeError(
            f"{matcher}: wanted states with {name} [N, {', '.join(map(str, shape))}], found {found}. "
            "Encode both sides with this matcher."
        )
    return state[name]
