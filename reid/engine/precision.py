"""Arithmetic of training and extraction: float32, or mixed with 16 bits."""

from __future__ import annotations

from typing import Literal

import torch

from reid.errors import ConfigError

Precision = Literal["float32", "bf16", "fp16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of(precision: Precision) -> torch.dtype:
    """What matrix products read."""
    return _DTYPES[precision]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The autocast context of ``precision``; one that does nothing for float32."""
    if precision == "float32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=dtype_of(precision))


def check_precision(device: torch.device, precision: Precision) -> None:
    """Refuse what cannot work.

    Raises:
        ConfigError: fp16 on a CPU, where its narrow range would need the loss scaling that only CUDA has.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(f"precision 'fp16' needs CUDA, found device '{device}'. Use 'bf16' or 'float32'.")
