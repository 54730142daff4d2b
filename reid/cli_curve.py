"""The verb ``reid curve``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from reid.cli_options import DATA_ROOT, DataRoot, Device, EvaluationKeys, RunPath, Workers, open_session
from reid.curve import measure_curves
from reid.errors import ConfigError
from reid.files import write_json
from reid.report.curve import curve_table, draw_curve
from reid.runs import RunFolder

SeveralReranks = Annotated[
    list[Path],
    typer.Option(
        "--rerank", metavar="RUN2", help="Let the matcher of this run put the first places in order. May be repeated."
    ),
]
TopKs = Annotated[str, typer.Option("--top-k", metavar="K,K,...", help="Lengths of the shortlist, such as 1,10,100.")]
OutFolder = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Where curve.json and figures/ go. Default: RUN.")
]


def curve_command(
    run_path: RunPath,
    rerank: SeveralReranks,
    top_k: TopKs = "1,2,5,10,20,50,100",
    data: DataRoot = DATA_ROOT,
    out: OutFolder = None,
    assignments: EvaluationKeys = None,
    device: Device = "",
    workers: Workers = None,
) -> None:
    """Draw mAP over the milliseconds that a query takes, for second stages and lengths of the shortlist.

    Every pair is compared once, for the longest shortlist; times are taken of one query at a time. Numbers go into
    curve.json, pictures into figures/curve_TARGET.png; those of an earlier call are replaced.
    """
    first, seconds, lengths = RunFolder(run_path), [RunFolder(path) for path in rerank], _lengths(top_k)
    session = open_session(data, device, workers)
    curves = measure_curves(first, seconds, session, top_ks=lengths, assignments=assignments or ())
    folder = RunFolder(run_path if out is None else out)
    write_json(folder.path / "curve.json", curves.model_dump(mode="json"))
    typer.echo("\n" + curve_table(curves))
    for curve in curves.curves:
        picture = folder.figures / f"curve_{curve.file_name}.png"
        draw_curve(curve, picture, method=curves.method)
        typer.echo(f"\npicture: {picture}", nl=False)
    typer.echo(f"\nnumbers: {folder.path / 'curve.json'}")


def _lengths(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[1-9]\d*", word) for word in words):
        raise ConfigError(f"--top-k {text}: wanted numbers from 1 with commas between them, such as 1,10,100.")
    return [int(word) for word in words]
