"""Options that several verbs share, and what they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from reid.data.loader import default_workers
from reid.engine.device import usable_device
from reid.progress import Terminal
from reid.runs import CHECKOUT, Session

DATA_ROOT = CHECKOUT / "datasets"

DataRoot = Annotated[
    Path, typer.Option("--data", envvar="REID_DATA", metavar="FOLDER", help="Folder that holds the data sets.")
]
RunPath = Annotated[Path, typer.Argument(help="A run folder, such as runs/synthped_transmatcher.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", show_default="cuda where there is one")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that decode images. Default: one less than the cores, at most 8.")
]


def set_option(what: str, example: str) -> Any:
    """The option ``--set`` of a verb: what it overrides, and an example."""
    return typer.Option("--set", metavar="KEY=VALUE", help=f"Override {what}, such as {example}. May be repeated.")


EvaluationKeys = Annotated[
    list[str] | None, set_option("a key of target or evaluation", "evaluation.camera_rule=false")
]


def open_session(data: Path, device: str, workers: int | None) -> Session:
    """What a command works with, reporting to the terminal.

    Raises:
        ConfigError: the device cannot be used here.
    """
    chosen = usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Session(data, chosen, default_workers() if workers is None else workers, Terminal())
