"""The file-name form of RandPerson and ClonedPerson: ``000000_s00_c00_f000228.jpg``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from reid.datasets._listing import image_files, unreadable_names

FRAMES_PER_S = 24.0

_NAME = re.compile(r"(-1|\d+)_s(\d+)_c(\d+)_f(\d+)[_.]")


class SyntheticName(NamedTuple):
    """What a file name tells: identity (-1: junk), scene, camera within the scene, frame."""

    path: Path
    pid: int
    scene: int
    camera: int
    frame: int


def read_synthetic_names(source: str, folder: Path) -> list[SyntheticName]:
    """Read all names in ``folder``, sorted.

    Raises:
        DatasetError: the folder is missing, or a file name does not follow the form.
    """
    files = image_files(source, folder)
    matches = [_NAME.match(path.name) for path in files]
    strange = [path.name for path, match in zip(files, matches, strict=True) if match is None]
    if strange:
        raise unreadable_names(source, folder, strange, "names such as 000000_s00_c00_f000228.jpg")
    return [
        SyntheticName(path, *(int(part) for part in match.groups()))
        for path, match in zip(files, matches, strict=True)
        if match is not None
    ]
