"""The training log: one JSON object a line, and the same numbers as TensorBoard events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from reid.errors import StorageError

_CURVES = ("loss", "accuracy", "lr", "images_per_s")


class TrainingLog:
    """Appends to ``log.jsonl`` and ``events/`` of a run folder.

    A line is ``{"event": "step" | "epoch", "stage", "epoch", "step", ...}``. Lines of steps after ``last_step``
    are what an interrupted epoch left behind; they are removed, since that epoch is trained again.

    Args:
        folder: the run folder.
        last_step: steps that the checkpoint being resumed has behind it; 0 for a new run.
    """

    def __init__(self, folder: Path, last_step: int = 0) -> None:
        self._path = folder / "log.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            kept = [line for line in self._lines() if json.loads(line)["step"] <= last_step]
            self._path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
            self._file = self._path.open("a", encoding="utf-8")
            self._events = SummaryWriter(folder / "events", purge_step=last_step + 1 if last_step else None)
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}. Choose another --out.") from error

    def write(self, event: str, *, step: int, **facts: Any) -> None:
        """Append one line; ``loss``, ``accuracy``, ``lr`` and ``images_per_s`` become curves as well."""
        try:
            self._file.write(json.dumps({"event": event, "step": step, **facts}) + "\n")
            self._file.flush()
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be written: {error.strerror}. Free some space.") from error
        for name in _CURVES:
            if facts.get(name) is not None:
                self._events.add_scalar(f"{event}/{name}", facts[name], step)

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._events.close()

    def _lines(self) -> list[str]:
        if not self._path.exists():
            return []
        # a line that was being written when the machine stopped has no closing newline
        return self._path.read_text(encoding="utf-8").split("\n")[:-1]
