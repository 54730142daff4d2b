"""Devices by name, tried before they are used."""

from __future__ import annotations

import torch

from reid.errors import ConfigError


def usable_device(name: str | torch.device) -> torch.device:
    """The device of a name such as ``cpu`` or ``cuda:1``.

    Raises:
        ConfigError: there is none of this name, or it cannot compute here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # some that can be named cannot compute
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {name}: cannot be used here ({reason}). Use cpu.") from None
    return device
