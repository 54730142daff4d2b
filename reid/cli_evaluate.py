"""``reid evaluate``: test a run, alone or with what puts its first places in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from reid.build import component_names
from reid.cli_options import DATA_ROOT, DataRoot, Device, EvaluationKeys, RunPath, Workers, open_session
from reid.cli_results import PUBLISHED, tell_of_stages
from reid.config import nearest
from reid.errors import ConfigError
from reid.evaluate import keep, measure
from reid.pictures import draw_pictures
from reid.pipeline import Pipeline, own_pipeline
from reid.report.table import read_published, table
from reid.runs import RunFolder
from reid.schema import Fusion

TOP_K = 100

OutFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="New results file; pictures go into a folder of its name. Default: RUN/results.json, with --set, "
        "--rerank, --top-k or --fusion the next free RUN/results_2.json.",
    ),
]
Rerank = Annotated[
    str | None,
    typer.Option(
        metavar="RUN2",
        help="Let the matcher of this run put the first places in order: any run will do. Or a classical re-ranker: "
        f"{', '.join(component_names('reranker'))}; with + between them, one behind another.",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="How many gallery images a query the second stage puts in order. Default: top_k of the experiment's "
        f"[first_stage], else {TOP_K}.",
    ),
]
FusionOption = Annotated[
    Fusion | None,
    typer.Option(
        help="The second stage's scores alone (replace), or a mean with the first stage's (lerp), weighted by what is "
        "best on identities held out of both trainings (validation_pids). Default: the experiment's, else replace."
    ),
]


def evaluate_command(  # noqa: PLR0913, PLR0917 - a parameter an option
    run_path: RunPath,
    data: DataRoot = DATA_ROOT,
    out: OutFile = None,
    assignments: EvaluationKeys = None,
    device: Device = "",
    workers: Workers = None,
    rerank: Rerank = None,
    top_k: TopK = None,
    fusion: FusionOption = None,
) -> None:
    """Test the model of a run on its targets; results and pictures are written anew.

    With --set other targets or rules can be tried, with --rerank a second stage; the run's own results stay as they
    are.
    """
    folder = RunFolder(run_path)
    classical = _classical(rerank)
    if classical and (top_k, fusion) != (None, None):
        raise ConfigError("--top-k, --fusion: wanted a second stage, found a classical re-ranker. Leave them out.")
    pipeline = None if classical else _pipeline(folder, rerank, top_k, fusion)
    assignments = [*classical, *(assignments or ())]
    if out is not None and (out.suffix != ".json" or out.exists()):
        raise ConfigError(f"--out {out}: wanted a new file named .json, found another name or an existing file.")
    session = open_session(data, device, workers)
    result, tests = measure(folder, session, assignments=assignments, pipeline=pipeline)
    file = keep(folder, result, out, apart=bool(assignments) or pipeline is not None)
    draw_pictures(folder, result, tests, folder.figures if file == folder.results else file.with_suffix(""))
    typer.echo("\n" + table([result], read_published(PUBLISHED)) + f"\n\nresults: {file}")
    tell_of_stages([result])


def _classical(rerank: str | None) -> list[str]:
    """``--rerank`` as an assignment, where it names re-rankers and no folder."""
    if rerank is None or (rerank and Path(rerank).exists()):
        return []
    known, names = component_names("reranker"), rerank.split("+")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"--rerank {rerank!r}: wanted the folder of a run, or re-rankers with + between them, found no such folder "
            f"and no re-ranker {unknown[0]!r}. {nearest(unknown[0], known)}"
        )
    return [f"evaluation.rerank=[{', '.join(f'{{name={name!r}}}' for name in names)}]"]


def _pipeline(run: RunFolder, rerank: str | None, top_k: int | None, fusion: Fusion | None) -> Pipeline | None:
    """The two stages that the options ask for; None: what the run itself says."""
    if rerank is not None:
        return Pipeline(run, RunFolder(Path(rerank)), top_k or TOP_K, fusion or "replace")
    if top_k is None and fusion is None:
        return None
    own = own_pipeline(run, run.experiment())
    if own is None:
        raise ConfigError(
            f"--top-k, --fusion: wanted a second stage, found {run.path}, which has no first stage before it, and no "
            "--rerank RUN2. Name one, or leave them out."
        )
    return replace(own, top_k=top_k or own.top_k, fusion=fusion or own.fusion)
