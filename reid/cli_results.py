"""The verbs ``reid table`` and ``reid record``: results of runs, printed and kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from reid.errors import ConfigError
from reid.evaluation.correspondence_results import read_correspondences, write_correspondences
from reid.evaluation.results import RunResult, read_results, write_results
from reid.report.correspondence_summary import correspondence_summary
from reid.report.margins import margins
from reid.report.stages import stages_table
from reid.report.summary import overview as overview_table
from reid.report.summary import summary
from reid.report.table import read_published, table
from reid.runs import CHECKOUT, RunFolder

RunPaths = Annotated[
    list[Path], typer.Argument(help="Run folders, or result files such as experiments/results/*.json.")
]
Mean = Annotated[bool, typer.Option("--mean", help="One row for runs that differ by their seed only.")]
Overview = Annotated[bool, typer.Option("--overview", help="As --mean, short: a column for each test, Rank-1 / mAP.")]
Where = Annotated[bool, typer.Option("--correspondences", help="What reid correspond measured, one row for all seeds.")]

PUBLISHED = CHECKOUT / "experiments" / "published.toml"
RECORDED = CHECKOUT / "experiments" / "results"


def table_command(
    runs: RunPaths, mean: Mean = False, overview: Overview = False, correspondences: Where = False
) -> None:
    """Print the results of runs beside the published numbers, and how far the first is ahead of the others."""
    if mean + overview + correspondences > 1:
        raise ConfigError("table: wanted one of --mean, --overview and --correspondences, found several. Choose one.")
    if correspondences:
        typer.echo(correspondence_summary([read_correspondences(path) for path in runs]))
    elif mean:
        typer.echo(summary([read_results(path) for path in runs]))
    elif overview:
        typer.echo(overview_table([read_results(path) for path in runs]))
    else:
        compare(runs)


def record_command(runs: RunPaths) -> None:
    """Keep the results of runs beside the experiments, in experiments/results/RUN.json, without per-query data.

    What reid correspond measured goes to experiments/results/correspondences/RUN.json.
    """
    files = [file for path in runs for file in _result_files(path)]
    kept = [_kept(file) for file in files]
    twice = next((path for path in kept if kept.count(path) > 1), None)
    if twice is not None:
        both = " and ".join(str(file) for file, path in zip(files, kept, strict=True) if path == twice)
        raise ConfigError(
            f"record: wanted results of different names, found two {twice.stem!r}: {both}. Rename a run's folder, or a "
            "file."
        )
    for file, path in zip(files, kept, strict=True):
        if path.parent == RECORDED:
            write_results(path, read_results(file).without_per_query())
        else:
            write_correspondences(path, read_correspondences(file))
        typer.echo(f"recorded: {path}")


def compare(runs: Iterable[Path]) -> None:
    """Print results beside the published numbers, what second stages gained, and how far the first is ahead."""
    results = [read_results(path) for path in runs]
    typer.echo(table(results, read_published(PUBLISHED)))
    tell_of_stages(results)
    if len(results) > 1:
        typer.echo("\n" + margins(results))


def tell_of_stages(results: Sequence[RunResult]) -> None:
    """Print what second stages gained, where there was one."""
    told = stages_table(results)
    if told is not None:
        typer.echo("\n" + told)


def _result_files(path: Path) -> list[Path]:
    """Of a folder both kinds of results, as far as they are there; another path stands for itself."""
    if not path.is_dir():
        return [path]
    run = RunFolder(path)
    return [file for file in (run.results, run.correspondences) if file.exists()] or [run.results]


def _kept(file: Path) -> Path:
    """Where a file is kept: a run's under its folder's name, ``results_2`` behind it; another one under its own."""
    file = file.resolve()
    name = file.stem
    if file.name in {"results.json", "correspondences.json"}:
        name = file.parent.name
    elif re.fullmatch(r"results_\d+", file.stem):
        name = f"{file.parent.name}_{file.stem}"
    places = file.name == "correspondences.json" or file.parent.name == "correspondences"
    return (RECORDED / "correspondences" if places else RECORDED) / f"{name}.json"
