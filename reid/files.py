"""Writing files so that a reader never sees half of one: temporary name, flush, rename."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from reid.errors import StorageError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes ``path``'s place when the block ends well.

    Raises:
        StorageError: the folder cannot be made, or the file cannot be written or renamed. Whatever stood at
            ``path`` before is untouched, and the temporary file is gone.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def claimed_name(path: Path, first: int = 1) -> Iterator[Path]:
    """Yield the first of ``path``, ``NAME_2``, ``NAME_3`` ... that is free, held by an empty file; gone if it fails.

    Of two processes that ask at the same time each gets a name of its own.

    Args:
        path: the name that is wanted.
        first: the number to begin with; 2 leaves ``path`` itself alone.

    Raises:
        StorageError: the folder cannot be made, or no file can be made in it.
    """
    claimed = next(name for number in count(first) if _claimed(name := _numbered(path, number)))
    try:
        yield claimed
    except BaseException:
        claimed.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path, *, flush: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it takes ``path``'s place when the block ends well.

    With ``flush`` its files are on the disk by then, which takes time where there are thousands. A folder that stood at
    ``path`` before is replaced, and is kept as it was if the block fails.

    Raises:
        StorageError: as :func:`atomic_file`.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield temporary
        for file in temporary.rglob("*") if flush else ():
            if file.is_file():
                _flush(file)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            outgoing = temporary.with_name(temporary.name + ".old")
            path.rename(outgoing)
            temporary.rename(path)
            shutil.rmtree(outgoing)
        else:
            temporary.rename(path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def file_name(label: str) -> str:
    """A label as a part of a file's name."""
    return re.sub(r"\W+", "_", label).strip("_")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, atomically. Raises StorageError."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with a closing newline, atomically. Raises StorageError."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def claim_space(path: Path, num_bytes: int) -> None:
    """Make a file of ``num_bytes`` zeros, to be mapped into memory; one that stands there is replaced.

    The space is taken at once: writing to a mapped file on a full disk kills the process instead of raising an error.

    Raises:
        StorageError: the file cannot be made, or the disk is too small; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # whoever has it mapped keeps it as it is
        free = shutil.disk_usage(path.parent).free
        if num_bytes > free:
            raise StorageError(
                f"{path}: wanted {num_bytes / 2**20:,.0f} MiB of disk, found {free / 2**20:,.0f} MiB free. Free some "
                "space there, or choose another folder."
            )
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError:
    """What to raise where ``path`` cannot be written: the reason, and what helps against it."""
    folder = next((parent for parent in path.parents if os.path.exists(parent)), path)  # noqa: PTH110 - never raises
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = f"Check the permissions of {folder}, or choose another folder."
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(folder).free / 2**20
        advice = f"{free:,.0f} MiB are free in {folder}. Free some space there, or choose another folder."
    else:
        advice = f"Make sure that {folder} is a folder that files can be made in, or choose another."
    return StorageError(f"{path}: cannot be written: {error.strerror or error}. {advice}")


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_stem(f"{path.stem}_{number}")


def _claimed(path: Path) -> bool:
    """Whether a file could be made that was not there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
    except OSError as error:
        if not path.exists():
            raise storage_error(path, error) from error
        return False
    return True


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
