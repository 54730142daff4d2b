"""reid: train a person matcher on one domain, test it on others, and trust the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from reid.engine.model import Model

__all__ = ["load"]


def load(run: Path | str, device: torch.device | str = "cpu") -> Model:
    """Load the trained model of a run folder.

    Args:
        run: the run folder, such as ``runs/synthped_transmatcher``.
        device: where to put it.

    Returns:
        a model whose ``encode(images)`` gives states and whose ``score(query, gallery)`` compares them.

    Raises:
        CheckpointError: the folder is no run folder, or its checkpoint is missing or damaged.
        ConfigError: the device cannot be used here.
    """
    from reid.engine.device import usable_device  # noqa: PLC0415 - importing reid must not import torch
    from reid.models import load_model  # noqa: PLC0415
    from reid.runs import RunFolder  # noqa: PLC0415

    return load_model(RunFolder(Path(run)), usable_device(device))
