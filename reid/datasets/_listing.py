"""Finding a data set's folder and listing its files, with errors that say what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reid.errors import DatasetError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
"""What operating systems leave in folders; dotfiles are ignored too."""


def find(root: Path | None, data_root: Path, folders: Sequence[str], marker: str) -> Path | None:
    """The folder :func:`locate` finds, or None."""
    bases = [root] if root is not None else [data_root / folder for folder in folders]
    places = (place for base in bases for place in (base, *(base / folder for folder in folders)))
    return next((place for place in places if (place / marker).exists()), None)


def locate(name: str, root: Path | None, data_root: Path, folders: Sequence[str], marker: str) -> Path:
    """Find the folder of a data set.

    Args:
        name: the set's component name, for the message.
        root: the folder the user named, or None.
        data_root: where ``folders`` are looked for if ``root`` is None.
        folders: known names of the set's folder, the usual one first; each may also lie inside another.
        marker: a file or folder that the right folder contains.

    Raises:
        DatasetError: no candidate contains ``marker``.
    """
    place = find(root, data_root, folders, marker)
    if place is None:
        raise DatasetError(_not_found(name, root, data_root, folders, marker))
    return place


def _not_found(name: str, root: Path | None, data_root: Path, folders: Sequence[str], marker: str) -> str:
    if root is not None:
        found = "which does not exist" if not root.exists() else f"which holds {_contents(root)}"
        return (
            f"{name}: wanted a folder that contains {marker}, found root = {root}, {found}. "
            "Correct the path; datasets/README.md shows the expected tree."
        )
    others = f" (or {', '.join(folders[1:])})" if len(folders) > 1 else ""
    return (
        f"{name}: wanted a folder {folders[0]}{others} containing {marker} in {data_root}, "
        f"found {_contents(data_root)}. Unpack the data set there, name another data root with --data, "
        "or give the set its own root; datasets/README.md shows the expected tree and where to ask for it."
    )


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return f"no folder {folder}"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"only {examples(names, limit=6)}" if names else "nothing"


def require_folder(name: str, folder: Path) -> Path:
    """``folder`` itself. Raises DatasetError if it is not there."""
    if not folder.is_dir():
        raise DatasetError(
            f"{name}: wanted the folder {folder}, found {_contents(folder.parent)} in {folder.parent}. "
            "Unpack the data set again; datasets/README.md shows the expected tree."
        )
    return folder


def image_files(name: str, folder: Path) -> list[Path]:
    """All image files directly in ``folder``, sorted by name.

    Raises:
        DatasetError: the folder is missing, or holds a file that is no image.
    """
    try:
        with os.scandir(require_folder(name, folder)) as entries:
            names = sorted(entry.name for entry in entries if not entry.is_dir() and not is_litter(entry.name))
    except OSError as error:
        raise DatasetError(f"{name}: {folder} cannot be listed: {error.strerror}. Check its permissions.") from None
    strange = [file for file in names if Path(file).suffix.lower() not in IMAGE_SUFFIXES]
    if strange:
        raise unreadable_names(name, folder, strange, "image files only (jpg, png, bmp, webp)")
    return [folder / file for file in names]


def is_litter(file_name: str) -> bool:
    """Whether an operating system, not the data set, put this file there."""
    return file_name.startswith(".") or file_name.lower() in LITTER


def unreadable_names(name: str, folder: Path, files: Sequence[str], wanted: str) -> DatasetError:
    """The error for file names that do not follow the set's form."""
    return DatasetError(
        f"{name}: wanted {wanted} in {folder}, found {len(files):,} other name{'s' if len(files) > 1 else ''}: "
        f"{examples(files)}. Move or remove what does not belong to the data set, or unpack it again."
    )


def examples(names: Sequence[str], limit: int = 3) -> str:
    """The first few of ``names``, and how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"
