"""Checkpoints: safetensors and JSON, written whole or not at all, read without pickle."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from reid.errors import CheckpointError
from reid.files import atomic_folder, write_json

SCHEMA = 1
_MODEL, _STATE, _FACTS = "model.safetensors", "state.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """All that training needs to go on.

    Attributes:
        model: the model's state dict.
        state: tensors of the loss and the optimiser.
        facts: epoch, step, schedule, sampler and the like, JSON-ready.
    """

    model: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint folder; if it fails, nothing is left at ``folder`` that was not there before.

    Raises:
        StorageError: the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        (temporary / _MODEL).write_bytes(safetensors.save(_plain(checkpoint.model)))
        (temporary / _STATE).write_bytes(safetensors.save(_plain(checkpoint.state)))
        write_json(temporary / _FACTS, {"schema": SCHEMA, **checkpoint.facts})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder, tensors on the CPU.

    Raises:
        CheckpointError: a file is missing, cut off or of a newer schema.
    """
    facts = _read_facts(folder / _FACTS)
    return Checkpoint(read_tensors(folder / _MODEL), read_tensors(folder / _STATE), facts)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        return safetensors.load(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; the checkpoint is incomplete. Use an earlier one.") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: damaged or cut off ({error}). Use an earlier checkpoint.") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state`` into ``module``; names and shapes must agree exactly.

    Raises:
        CheckpointError: they do not; the message names some that are missing, unknown or of another shape.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    reshaped = [
        f"{n} {found[n]} instead of {wanted[n]}" for n in sorted(wanted.keys() & found) if wanted[n] != found[n]
    ]
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unknown": sorted(found.keys() - wanted.keys()),
        "of another shape": reshaped,
    }
    texts = [f"{len(names)} {kind} ({', '.join(names[:3])})" for kind, names in problems.items() if names]
    if texts:
        raise CheckpointError(
            f"{where}: made for another architecture: {'; '.join(texts)}. Use the configuration it was trained with."
        )
    module.load_state_dict(state)


def epoch_folder(checkpoints: Path, epoch: int) -> Path:
    """Folder of the checkpoint after ``epoch`` epochs."""
    return checkpoints / f"epoch_{epoch}"


def saved_epochs(checkpoints: Path) -> list[int]:
    """Epochs that have a checkpoint, ascending; empty where there is none."""
    folders = checkpoints.iterdir() if checkpoints.is_dir() else ()
    found = (re.fullmatch(r"epoch_(\d+)", folder.name) for folder in folders)
    return sorted(int(match[1]) for match in found if match)


def latest(checkpoints: Path) -> Path:
    """The checkpoint of the last epoch.

    Raises:
        CheckpointError: there is none.
    """
    epochs = saved_epochs(checkpoints)
    if not epochs:
        raise CheckpointError(f"{checkpoints}: wanted a folder epoch_N, found none. Train first: reid train.")
    return epoch_folder(checkpoints, epochs[-1])


def keep_latest(checkpoints: Path, number: int) -> None:
    """Delete all but the ``number`` latest checkpoints."""
    for epoch in saved_epochs(checkpoints)[:-number]:
        shutil.rmtree(epoch_folder(checkpoints, epoch))


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: missing or damaged ({error}). Use an earlier checkpoint.") from error
    if facts.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path}: wanted schema {SCHEMA}, found {facts.get('schema')}. Use the reid that wrote it."
        )
    return facts
