"""State dicts: read from a file without running anything in it, and loaded with every key accounted for."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from reid.errors import WeightsError
from reid.nn.state_dict import misfits

SUFFIXES = (".safetensors", ".pth", ".pt")
ORIGIN_KEY = "source_sha256"
"""Metadata of our own copies: the hash of the file they were made from."""


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a flat state dict, on the CPU.

    Args:
        path: a ``.safetensors``, ``.pth`` or ``.pt`` file.

    Raises:
        WeightsError: the file is missing, damaged, of another kind, or holds anything but names and tensors.
    """
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"{path}: wanted a file ending in {', '.join(SUFFIXES)}, found {path.suffix!r}.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_pth(path)
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: wanted a state dict (name -> tensor), found a {type(content).__name__}.")
    others = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if others or not content:
        raise WeightsError(
            f"{path}: wanted a state dict (name -> tensor), found {len(content)} entries, no tensors:"
            f" {others[:5]}. If one of these is the state dict, save it alone and name that file."
        )
    return content


def read_pth(path: Path) -> Any:
    """Read what ``torch.save`` wrote: tensors, numbers, strings and containers of them, on the CPU.

    Raises:
        WeightsError: the file is missing, damaged, or holds other Python objects, which are never run.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except pickle.UnpicklingError as error:
        # PyTorch's own text advises to switch the protection off; only the reason underneath is worth showing
        reason = str(error.__context__ or error).partition("Please use")[0].partition("\n")[0].strip()
        raise WeightsError(
            f"{path}: wanted tensors only, found what PyTorch's safe loader refuses: {reason} Either the file is"
            " damaged, or it was saved as a whole object: save its state_dict() instead."
        ) from None
    except Exception as error:  # the reader of a damaged file fails in whatever way its bytes lead to
        raise WeightsError(f"{path}: damaged or no PyTorch file ({type(error).__name__}). Get it again.") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged or no safetensors file ({error}). Delete it and get it again.") from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, 64 lower-case hex digits. Raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}).") from None


def origin_sha256(path: Path) -> str:
    """SHA-256 of the file that ``path`` was made from, if it says so, as our own copies of downloads do; else its own.

    Raises:
        WeightsError: it cannot be read.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise WeightsError(
                f"{path}: cannot be read ({error}). Delete it; it is made anew from a download."
            ) from None
        if ORIGIN_KEY in metadata:
            return metadata[ORIGIN_KEY]
    return file_sha256(path)


def load_matching(module: nn.Module, state: Mapping[str, Tensor], *, where: str, ignore: Sequence[str] = ()) -> None:
    """Load ``state`` into ``module``, every key accounted for.

    Batch counters (``num_batches_tracked``) may be missing: files older than PyTorch 0.4.1 have none, and a batch
    norm with a fixed momentum does not use them.

    Args:
        module: any module.
        state: key -> tensor; values take the dtype and device of the module's.
        where: what the message starts with, such as the file.
        ignore: prefixes of keys to leave out, known not to belong to ``module``.

    Raises:
        WeightsError: keys are missing or unexpected, or a shape differs; ``module`` is unchanged.
    """
    wanted = module.state_dict()
    given = {key: tensor for key, tensor in state.items() if not key.startswith(tuple(ignore))}
    problems = misfits(module, given, optional=("num_batches_tracked",))
    if problems:
        raise WeightsError(
            f"{where}: weights of another architecture: wanted the {len(wanted)} entries of"
            f" {type(module).__name__}, found {len(given)}; {problems}."
            " Use the architecture (name, depth, ibn) that the weights were made with."
        )
    module.load_state_dict({**wanted, **given})
