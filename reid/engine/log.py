"""The training log: one JSON object a line, and the same numbers as TensorBoard events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from reid.errors import CheckpointError
from reid.files import storage_error, write_text

Event = Mapping[str, Any]
"""One line of the log: ``event`` (step, epoch or graph), ``step``, and its numbers."""

_CURVES = ("loss", "accuracy", "lr", "images_per_s", "loader_images_per_s", "model_images_per_s")


def read_log(path: Path) -> list[Event]:
    """Read a training log.

    The last line is left out where it has no newline: it was being written when the machine stopped.

    Args:
        path: ``log.jsonl`` of a run.

    Raises:
        CheckpointError: it is missing, or a line is damaged; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"{path}: the training log cannot be read ({reason}).") from None
    return [_event(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


class TrainingLog:
    """Appends to ``log.jsonl`` and ``events/`` of a run folder.

    A line is ``{"event": "step" | "epoch" | "graph", "stage", "epoch", "step", ...}``. Lines of steps after
    ``last_step`` are what an interrupted epoch left behind; they are removed, since that epoch is trained again.

    Args:
        folder: the run folder.
        last_step: steps that the checkpoint being resumed has behind it; 0 for a new run.

    Raises:
        CheckpointError: a line of an earlier log is damaged.
        StorageError: the log cannot be written; so do :meth:`write` and :meth:`close`.
    """

    def __init__(self, folder: Path, last_step: int = 0) -> None:
        self._path = folder / "log.jsonl"
        with self._writing():
            events = read_log(self._path) if self._path.exists() else []
            kept = [event for event in events if event["step"] <= last_step]
            write_text(self._path, "".join(json.dumps(event) + "\n" for event in kept))
            self._file = self._path.open("a", encoding="utf-8")
            self._events = SummaryWriter(folder / "events", purge_step=last_step + 1 if last_step else None)

    def write(self, event: str, *, step: int, **facts: Any) -> None:
        """Append one line; loss, accuracy, rates and the learning rate become curves as well."""
        with self._writing():
            self._file.write(json.dumps({"event": event, "step": step, **facts}) + "\n")
            self._file.flush()
            for name in _CURVES:
                if facts.get(name) is not None:
                    self._events.add_scalar(f"{event}/{name}", facts[name], step)

    def close(self) -> None:
        """Flush and close both files."""
        with self._writing():
            self._file.close()
            self._events.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise storage_error(self._path, error) from error


def _event(line: str, where: str) -> Event:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise CheckpointError(f"{where}: wanted a JSON object, found: {error}. Remove the line.") from None
    if not isinstance(event, dict) or "event" not in event or not isinstance(event.get("step"), int):
        raise CheckpointError(
            f"{where}: wanted a JSON object with 'event' and a whole 'step', found {line!r}. Remove the line."
        )
    return event
