"""The file-name form of Market-1501 (``0002_c1s1_000451_03.jpg``), which CUHK03-NP and synthped share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from reid.datasets._listing import image_files, unreadable_names
from reid.types import ImageRecord, Role

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
FRAMES_PER_S = 25.0
JUNK_PID = -1
DISTRACTOR_PID = 0

_NAME = re.compile(r"(-1|\d+)_c(\d+)(?:s(\d+)_(\d+))?[_.]")


class _Name(NamedTuple):
    path: Path
    pid: int
    camid: int
    sequence: int | None
    frame: int


def read_market_folder(
    folder: Path, source: str, *, released_times: bool = False, frames_per_s: float = FRAMES_PER_S
) -> dict[str, list[ImageRecord]]:
    """Read a folder that holds ``bounding_box_train``, ``query`` and ``bounding_box_test``.

    A name is ``PID_cCAMERA[sSEQUENCE_FRAME]_REST``; identity -1 becomes the role junk, 0 the role distractor,
    both with pid -1. Cameras count from 0. Where names have sequence and frame, the sequences of a camera are
    laid end to end: a sequence begins at the last frame of the one before it. Images of the training folder
    that are no person are left out, for nothing can be learned from them.

    Args:
        folder: the folder of the three.
        source: name of the data set, for the records and for messages.
        released_times: start each sequence where QAConv's released code does: it adds the previous sequence's
            start twice. Published TLift results depend on it.
        frames_per_s: frame rate of the clock.

    Returns:
        split -> records sorted by file name, for ``train``, ``query`` and ``gallery``.

    Raises:
        DatasetError: a folder is missing, or a file name does not follow the form.
    """
    names = {split: _read_names(source, folder / name) for split, name in FOLDERS.items()}
    starts = _sequence_starts((name for split in names.values() for name in split), double=released_times)

    def record(name: _Name) -> ImageRecord:
        role: Role = "junk" if name.pid == JUNK_PID else "distractor" if name.pid == DISTRACTOR_PID else "person"
        time_s = None
        if name.sequence is not None:
            time_s = (starts[name.camid, name.sequence] + name.frame) / frames_per_s
        return ImageRecord(name.path, name.pid if role == "person" else -1, name.camid, time_s, role, source)

    splits = {split: [record(name) for name in names[split]] for split in names}
    splits["train"] = [entry for entry in splits["train"] if entry.role == "person"]
    return splits


def _read_names(source: str, folder: Path) -> list[_Name]:
    files = image_files(source, folder)
    matches = [_NAME.match(path.name) for path in files]
    strange = [path.name for path, match in zip(files, matches, strict=True) if match is None]
    if strange:
        raise unreadable_names(source, folder, strange, "names such as 0002_c1s1_000451_03.jpg or 0002_c1_3.png")
    return [_parse(path, match) for path, match in zip(files, matches, strict=True) if match is not None]


def _parse(path: Path, match: re.Match[str]) -> _Name:
    pid, camera, sequence, frame = match.groups()
    return _Name(path, int(pid), int(camera) - 1, None if sequence is None else int(sequence), int(frame or 0))


def _sequence_starts(names: Iterable[_Name], *, double: bool) -> Mapping[tuple[int, int], int]:
    """(camera, sequence) -> first frame of the sequence on the camera's clock."""
    last_frame: dict[int, dict[int, int]] = defaultdict(dict)
    for name in names:
        if name.sequence is not None:
            frames = last_frame[name.camid]
            # The released code never reads junk, so junk does not lengthen a sequence.
            frame = 0 if name.pid == JUNK_PID else name.frame
            frames[name.sequence] = max(frames.get(name.sequence, 0), frame)
    starts: dict[tuple[int, int], int] = {}
    for camid, frames in last_frame.items():
        start = 0
        for sequence in sorted(frames):
            starts[camid, sequence] = start
            start += frames[sequence] + (start if double else 0)
    return starts
