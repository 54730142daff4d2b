"""The verb ``reid correspond``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reid.cli_options import DATA_ROOT, DataRoot, Device, EvaluationKeys, RunPath, Workers, open_session
from reid.correspond import correspond
from reid.errors import ConfigError
from reid.report.correspondence_table import correspondence_table, identity_table
from reid.runs import RunFolder

OutJson = Annotated[
    Path | None, typer.Option(metavar="FILE.json", help="Where the numbers go. Default: RUN/correspondences.json.")
]
Pairs = Annotated[int, typer.Option("--pairs", min=1, metavar="N", help="At most this many pairs of each kind.")]


def correspond_command(
    run_path: RunPath,
    pairs: Pairs = 500,
    data: DataRoot = DATA_ROOT,
    out: OutJson = None,
    assignments: EvaluationKeys = None,
    device: Device = "",
    workers: Workers = None,
) -> None:
    """Measure where a run's matcher finds correspondences, on its targets.

    Views of held-out images at three levels of difficulty, and of synthped, renderings of one person in other poses and
    of different persons: their true correspondences are known. Beside the matcher stand the same place (crops come
    aligned) and nearest neighbours, which learn nothing. Also how well its scores tell one person from two.
    """
    run = RunFolder(run_path)
    file = run.correspondences if out is None else out
    if file.suffix.lower() != ".json" or file.is_dir():
        raise ConfigError(f"--out {file}: wanted a file named .json, found another name or a folder. Name it so.")
    session = open_session(data, device, workers)
    result = correspond(run, session, num_pairs=pairs, assignments=assignments or (), file=file)
    typer.echo(f"\n{correspondence_table(result)}\n\n{identity_table(result)}\n\nnumbers: {file}")
