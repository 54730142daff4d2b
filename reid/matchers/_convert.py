"""Checkpoints of the released TransMatcher and QAConv code.

They hold ``model`` (``base.*``: a ResNet as torchvision names it; ``neck_*`` and ``encoder.*``) and ``criterion``
(``matcher.*``). Our matchers keep the released names of their own parts, so a conversion is a change of prefixes.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reid.errors import CheckpointError
from reid.matchers._base import Matcher
from reid.nn.state_dict import misfits, some

_PROTOTYPE = "decoder_layer."  # TransMatcher registers the layer that its decoder's layers were copied from, unused


@dataclass(frozen=True, slots=True)
class ReleasedWeights:
    """State dicts of the two halves of a model.

    Attributes:
        backbone: of the whole ResNet, torchvision's names, with the unused ``layer4`` and ``fc``.
        matcher: of :class:`Matcher` (neck, encoder and head).
    """

    backbone: Mapping[str, Tensor]
    matcher: Mapping[str, Tensor]


def read_released(path: Path) -> ReleasedWeights:
    """Read a released ``checkpoint.pth.tar``; nothing in it is executed.

    Raises:
        CheckpointError: the file is missing, damaged, or no checkpoint of the released code.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file. Wanted a released checkpoint.pth.tar.") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: not readable as weights ({reason}). Download it again.") from None
    return split_released(checkpoint, str(path))


def split_released(checkpoint: Any, where: str) -> ReleasedWeights:
    """Sort the entries of a released checkpoint into backbone and matcher.

    Args:
        checkpoint: what the file held.
        where: what an error message starts with.

    Raises:
        CheckpointError: ``model`` or ``criterion`` is missing, or an entry belongs to neither half.
    """
    keys = sorted(map(str, checkpoint)) if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
    if not isinstance(checkpoint, Mapping) or not {"model", "criterion"} <= checkpoint.keys():
        raise CheckpointError(f"{where}: wanted entries 'model' and 'criterion' of the released code, found {keys}.")
    backbone, matcher, unknown = dict[str, Tensor](), dict[str, Tensor](), list[str]()
    for name, value in checkpoint["model"].items():
        if name.startswith("base."):
            backbone[name.removeprefix("base.")] = value
        else:
            matcher[name] = value
    for name, value in checkpoint["criterion"].items():
        part = name.removeprefix("matcher.")
        if part == name:
            unknown.append(name)
        elif not part.startswith(_PROTOTYPE):
            matcher[part] = value
    if unknown:
        raise CheckpointError(f"{where}: wanted only matcher.* in 'criterion', found also {some(unknown)}.")
    return ReleasedWeights(backbone, matcher)


def load_matcher(matcher: Matcher, weights: Mapping[str, Tensor], where: str) -> None:
    """Copy a converted state dict into a matcher; on an error the matcher is unchanged.

    Raises:
        CheckpointError: entries are missing, unexpected or of another shape; the message names some.
    """
    problems = misfits(matcher, weights)
    if problems:
        raise CheckpointError(
            f"{where}: does not fit {type(matcher).__name__} as configured; {problems}. "
            "Check dim, num_layers, feedforward and the image size."
        )
    matcher.load_state_dict(weights)
