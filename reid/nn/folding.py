"""Batch norms made part of the convolutions before them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

M = TypeVar("M", bound=nn.Module)
Pair = tuple[nn.Conv2d, nn.BatchNorm2d]


@torch.no_grad()
def folded(module: M, example: Tensor) -> M:
    """A copy, for use without gradients, that computes the same but for rounding: at most 1e-4 of a map's spread.

    Args:
        module: in eval mode. A convolution whose output a batch norm reads must have no other reader.
        example: an input; which batch norm reads which convolution's output is seen from what it does.
    """
    copied = copy.deepcopy(module)
    for convolution, norm in _pairs(copied, example):
        _replace(copied, convolution, fuse_conv_bn_eval(convolution, norm))
        _replace(copied, norm, nn.Identity())
    return copied


def _pairs(module: nn.Module, example: Tensor) -> list[Pair]:
    written: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: list[Pair] = []

    def note_output(convolution: nn.Conv2d) -> Callable[..., None]:
        return lambda _module, _inputs, output: written.append((convolution, output))

    def note_input(norm: nn.BatchNorm2d) -> Callable[..., None]:
        def note(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            pairs.extend((convolution, norm) for convolution, output in written if output is inputs[0])

        return note

    hooks = [part.register_forward_hook(note_output(part)) for part in module.modules() if isinstance(part, nn.Conv2d)]
    hooks += [
        part.register_forward_pre_hook(note_input(part))
        for part in module.modules()
        if isinstance(part, nn.BatchNorm2d)
    ]
    module(example)
    for hook in hooks:
        hook.remove()
    return pairs


def _replace(module: nn.Module, part: nn.Module, replacement: nn.Module) -> None:
    for parent in module.modules():
        for name, child in parent.named_children():
            if child is part:
                setattr(parent, name, replacement)
