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

from reid.errors import CheckpointError, StorageError
from reid.files import atomic_folder, write_json
from reid.nn.state_dict import misfits

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
    with atomic_folder(folder, flush=True) as temporary:
        (temporary / _MODEL).write_bytes(safetensors.save(_plain(checkpoint.model)))
        (temporary / _STATE).write_bytes(safetensors.save(_plain(checkpoint.state)))
        write_json(temporary / _FACTS, {"schema": SCHEMA, **checkpoint.facts})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder, tensors on the CPU.

    Raises:
        CheckpointError: a file is missing, cut off or of a newer schema.
    """
    return Checkpoint(load_weights(folder), _read_tensors(folder / _STATE), load_facts(folder))


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Read the model's part of a checkpoint folder, on the CPU.

    Raises:
        CheckpointError: the file is missing or cut off.
    """
    return _read_tensors(folder / _MODEL)


def load_facts(folder: Path) -> dict[str, Any]:
    """Read what is no tensor in a checkpoint folder.

    Raises:
        CheckpointError: the file is missing, damaged or of a newer schema.
    """
    path = folder / _FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        schema = facts["schema"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(path, error) from error
    if schema != SCHEMA:
        raise CheckpointError(f"{path}: wanted schema {SCHEMA}, found {schema}. Use the reid that wrote it.")
    return dict(facts)


def load_into(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state`` into ``module``; names and shapes must agree exactly.

    Raises:
        CheckpointError: they do not; the message names some that are missing, unexpected or of another shape.
    """
    problems = misfits(module, state)
    if problems:
        raise CheckpointError(
            f"{where}: made for another architecture: {problems}. Use the configuration it was trained with."
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
    """Delete all but the ``number`` latest checkpoints, ``number`` >= 1, and what is left of unfinished ones.

    Raises:
        StorageError: one cannot be deleted.
    """
    begun = checkpoints.glob(".epoch_*")  # a process was killed while it wrote them
    for folder in [*begun, *(epoch_folder(checkpoints, epoch) for epoch in saved_epochs(checkpoints)[:-number])]:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be deleted: {error.strerror}. Check its permissions.") from error


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.load(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return CheckpointError(f"{path}: cannot be read: {error.strerror}. Check its permissions and the disk.")
    problem = "no such file" if isinstance(error, FileNotFoundError) else f"damaged or cut off ({error})"
    return CheckpointError(
        f"{path}: {problem}. Remove {path.parent.name} to go back to the checkpoint before it, where there is one."
    )
