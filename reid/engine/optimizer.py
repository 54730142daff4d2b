"""Optimiser, learning-rate groups and gradient clipping, by the released cut of the parameters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from reid.config import Config
from reid.engine.model import Model
from reid.errors import ConfigError

Groups = dict[str, list[nn.Parameter]]

_CLIPPED_TOGETHER = (("backbone", "encoder"), ("decoder", "head"))  # the released 'model' and 'criterion'


class OptimizerConfig(Config):
    """Optimiser and learning rates; the defaults are TransMatcher's."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="which optimiser")
    lr: PositiveFloat = Field(0.005, description="learning rate of what is not the backbone's")
    backbone_lr_factor: NonNegativeFloat = Field(0.1, description="pretrained layers move slowly; 1 from scratch")
    momentum: NonNegativeFloat = Field(0.9, description="sgd only, with Nesterov's correction")
    weight_decay: NonNegativeFloat = Field(5e-4, description="on every parameter, as released")
    clip_norm: NonNegativeFloat = Field(0.0, description="gradient norm of each clipping group; 0 is off")


def parameter_groups(model: Model, loss: nn.Module, frozen: Collection[str] = ()) -> Groups:
    """Parameters to train by role: ``backbone`` and the matcher's; the loss's own count as ``decoder``'s.

    Parameters of the roles in ``frozen`` are told to need no gradient, all others to need one. A loss's are never
    frozen: a classifier that stays as it was drawn teaches nothing.

    Raises:
        ConfigError: a role is to be frozen that the model does not have, or nothing is left to train.
    """
    groups: Groups = {} if model.backbone is None else {"backbone": list(model.backbone.parameters())}
    groups |= {group.role: list(group.parameters) for group in model.matcher.parameter_groups()}
    unknown = sorted(set(frozen) - groups.keys() - {"backbone"})
    if unknown:
        raise ConfigError(
            f"stage.frozen: wanted some of {', '.join(groups)}, which {type(model.matcher).__name__} has, found "
            f"{', '.join(unknown)}. Leave it out."
        )
    for role, parameters in groups.items():
        for parameter in parameters:
            parameter.requires_grad_(role not in frozen)
    kept = {role: parameters for role, parameters in groups.items() if role not in frozen}
    if not any(kept.values()):
        raise ConfigError("stage: wanted parameters to train, found none: all are frozen. Take a role out of frozen.")
    kept["decoder"] = [*kept.get("decoder", ()), *loss.parameters()]
    return kept


def build_optimizer(config: OptimizerConfig, groups: Groups) -> Optimizer:
    """One optimiser over all groups; each remembers its starting rate as ``initial_lr``."""
    tables = []
    for role, parameters in groups.items():
        lr = config.lr * (config.backbone_lr_factor if role == "backbone" else 1.0)
        if parameters:
            tables.append({"params": parameters, "lr": lr, "initial_lr": lr, "role": role})
    if config.name == "adamw":
        return AdamW(tables, lr=config.lr, weight_decay=config.weight_decay)
    nesterov = config.momentum > 0
    return SGD(tables, lr=config.lr, momentum=config.momentum, nesterov=nesterov, weight_decay=config.weight_decay)


def set_lr_factor(optimizer: Optimizer, factor: float) -> None:
    """Set each rate to ``factor`` times its starting value; nothing accumulates, so resuming cannot decay twice."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def clip_gradients(groups: Groups, clip_norm: float) -> None:
    """Clip the gradient norm of each clipping group to ``clip_norm``; 0 leaves them alone."""
    if clip_norm == 0:
        return
    for roles in _CLIPPED_TOGETHER:
        torch.nn.utils.clip_grad_norm_([p for role in roles for p in groups.get(role, ())], clip_norm)


def flatten_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors by name, ``optimizer.<parameter number>.<key>``; rates come from the configuration."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
        if isinstance(value, Tensor)
    }


def unflatten_state(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give ``optimizer`` back what :func:`flatten_state` took; other names are ignored.

    What has a parameter's shape gets its memory layout too, in which it was before: a step goes through both together.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = _laid_out_as(parameters[int(index)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor
