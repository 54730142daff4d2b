"""Weights from the network: downloaded once, verified by SHA-256, kept as safetensors."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from reid.backbones._state_dict import ORIGIN_KEY, SUFFIXES, file_sha256, origin_sha256, read_state
from reid.errors import ConfigError, StorageError, WeightsError
from reid.files import atomic_file
from reid.progress import Progress

_CHUNK_BYTES = 2**20
_TIMEOUT_S = 30


def weights_folder() -> Path:
    """Where downloads are kept: the environment variable REID_WEIGHTS, or ``~/.cache/reid/weights``.

    Raises:
        WeightsError: neither the variable nor a home folder is known.
    """
    try:
        return Path(os.environ.get("REID_WEIGHTS") or "~/.cache/reid/weights").expanduser()
    except RuntimeError as error:
        raise WeightsError(
            f"weights: wanted a folder to keep them in, found none ({error}). Set REID_WEIGHTS."
        ) from None


def fetch_state(url: str, sha256: str, progress: Progress) -> dict[str, Tensor]:
    """Read the state dict published at ``url``, downloading it the first time.

    A ``.pth`` is unpickled once, right after its hash was verified, and written as ``.safetensors`` beside it,
    which later calls read. A file that was put into :func:`weights_folder` by hand is verified in the same way.

    Args:
        url: http or https; its last part is the file's name.
        sha256: of the file, lower-case hex, or its first digits.
        progress: where a download reports to.

    Raises:
        ConfigError: the URL does not end in the name of a weights file.
        WeightsError: not downloadable, cut short, of another hash, or not a state dict.
        StorageError: the folder cannot be written.
    """
    original = weights_folder() / Path(urllib.parse.urlsplit(url).path).name
    if original.suffix not in SUFFIXES:
        raise ConfigError(f"{url}: wanted a URL ending in {', '.join(SUFFIXES)}, found {original.suffix!r}.")
    kept = original.with_suffix(".safetensors")
    if kept != original and kept.is_file() and origin_sha256(kept).startswith(sha256):
        return read_state(kept)
    if not original.is_file():
        _download(url, sha256, original, progress)
    found = file_sha256(original)
    if not found.startswith(sha256):
        raise WeightsError(f"{original}: wanted SHA-256 {sha256}..., found {found}. Delete it; it comes from {url}.")
    state = read_state(original)
    if kept != original:
        _keep(state, kept, found)
    return state


def _keep(state: dict[str, Tensor], kept: Path, sha256: str) -> None:
    # safetensors refuses tensors that share memory or have gaps, both of which a .pth may hold
    plain = {key: tensor.clone().contiguous() for key, tensor in state.items()}
    try:
        with atomic_file(kept) as temporary:
            save_file(plain, temporary, metadata={ORIGIN_KEY: sha256})
    except (StorageError, SafetensorError) as error:
        raise _unwritable(kept, error) from error


def _download(url: str, sha256: str, path: Path, progress: Progress) -> None:
    digest = hashlib.sha256()
    try:
        with atomic_file(path) as temporary:
            with temporary.open("wb") as file:
                for chunk in _chunks(url, path, progress):
                    digest.update(chunk)
                    file.write(chunk)
            found = digest.hexdigest()
            if not found.startswith(sha256):
                raise WeightsError(
                    f"{url}: wanted SHA-256 {sha256}..., found {found}. The file there has changed, or something"
                    " between here and there answers in its place. Nothing was kept."
                )
    except StorageError as error:
        raise _unwritable(path, error) from error


def _chunks(url: str, path: Path, progress: Progress) -> Iterator[bytes]:
    num_received = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - http(s) only, see the caller
            num_bytes = response.length
            total = None if num_bytes is None else -(-num_bytes // _CHUNK_BYTES)
            with progress.bar(f"download {path.name}", total, "MiB") as bar:
                while chunk := response.read(_CHUNK_BYTES):
                    num_received += len(chunk)
                    yield chunk
                    bar.advance()
        if num_bytes is not None and num_received < num_bytes:
            raise HTTPException(f"connection ended after {num_received} of {num_bytes} bytes")
    except (OSError, HTTPException, ValueError) as error:
        raise WeightsError(
            f"{url}: cannot be downloaded ({error}). Try again; or, without a network, fetch that file elsewhere"
            f" and put it at {path} (another folder: environment variable REID_WEIGHTS)."
        ) from error


def _unwritable(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"{path}: downloaded weights cannot be kept there ({error.__cause__ or error})."
        " Free some space, or name another folder in the environment variable REID_WEIGHTS."
    )
