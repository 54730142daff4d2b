"""The command line: verbs, and all that a user sees."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tabulate import tabulate

from reid.build import component_config, component_module, component_names, find_protocol
from reid.config import set_value
from reid.data.loader import default_workers
from reid.datasets._base import DatasetConfig
from reid.datasets._checks import CheckReport, check
from reid.errors import ConfigError, ReidError
from reid.evaluate import evaluate, finished
from reid.evaluation.results import read_results, write_results
from reid.experiment import Experiment, on_transfer, read_experiment
from reid.pictures import draw_pictures
from reid.progress import Terminal
from reid.report.margins import margins
from reid.report.summary import summary
from reid.report.table import read_published, table
from reid.runs import CHECKOUT, RunFolder, Session, create_run, free_run_path, resume_run
from reid.train import train

app = typer.Typer(
    help="Train a person matcher on one domain, test it on others, and trust the numbers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="List, check and make data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Files = Annotated[list[Path], typer.Argument(help="Experiment files, such as experiments/synthped_transmatcher.toml.")]
File = Annotated[Path, typer.Argument(help="An experiment file, such as experiments/synthped_transmatcher.toml.")]
RunPath = Annotated[Path, typer.Argument(help="A run folder, such as runs/synthped_transmatcher.")]
RunPaths = Annotated[
    list[Path], typer.Argument(help="Run folders, or result files such as experiments/results/*.json.")
]
Name = Annotated[str, typer.Argument(help="A data set; 'reid data list' shows all.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key, such as stage.0.epochs=3. May be repeated."),
]
DataRoot = Annotated[
    Path, typer.Option("--data", envvar="REID_DATA", metavar="FOLDER", help="Folder that holds the data sets.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Run folder; of several runs, their parent. Default: a new one in runs/."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.", show_default="cuda where there is one")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that decode images. Default: one less than the cores, at most 8.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out from its latest checkpoint.")]

DATA_ROOT = CHECKOUT / "datasets"
PUBLISHED = CHECKOUT / "experiments" / "published.toml"
RECORDED = CHECKOUT / "experiments" / "results"
RUNS = Path("runs")


@app.command()
def run(
    experiments: Files,
    data: DataRoot = DATA_ROOT,
    out: Out = None,
    assignments: Assignments = None,
    device: Device = "",
    workers: Workers = None,
    resume: Resume = False,
    protocol: Annotated[
        str | None, typer.Option(help="Repeat each experiment on every source and target of this protocol.")
    ] = None,
) -> None:
    """Train, test and report: the main job.

    Each experiment is trained on its sources, tested on its targets, and leaves a run folder with results, pictures
    and the trained model. Several experiments are compared: the first with each of the others on the same queries.
    """
    session = _session(data, device, workers)
    planned = [plan for path in experiments for plan in _plans(path, assignments, protocol)]
    several = len(planned) > 1
    folders = [
        _open_run(name, experiment, out / name if out and several else out, resume=resume)
        for name, experiment in planned
    ]
    for folder in folders:
        typer.echo(f"\n{folder.experiment().title}")
        if not finished(folder):
            train(folder, session)
            draw_pictures(folder, *evaluate(folder, session))
    results = [read_results(folder.results) for folder in folders]
    typer.echo("\n" + table(results, read_published(PUBLISHED)))
    if several:
        typer.echo("\n" + margins(results))
    for folder in folders:
        typer.echo(f"\nresults, pictures and the trained model: {folder.path}", nl=False)
    typer.echo()


@app.command("train")
def train_command(
    experiment: File,
    data: DataRoot = DATA_ROOT,
    out: Out = None,
    assignments: Assignments = None,
    device: Device = "",
    workers: Workers = None,
    resume: Resume = False,
) -> None:
    """Train an experiment, without testing it."""
    session = _session(data, device, workers)
    settings = read_experiment(experiment, assignments or ())
    folder = _open_run(experiment.stem, settings, out, resume=resume)
    train(folder, session)
    typer.echo(f"trained: {folder.path}\ntest it: reid evaluate {folder.path}")


@app.command("evaluate")
def evaluate_command(
    run_path: RunPath,
    data: DataRoot = DATA_ROOT,
    assignments: Assignments = None,
    device: Device = "",
    workers: Workers = None,
) -> None:
    """Test the model of a run on its targets; results and pictures are written anew.

    With --set other targets or rules can be tried, such as --set evaluation.camera_rule=false.
    """
    folder = RunFolder(run_path)
    experiment = folder.experiment(assignments or ())
    result, tests = evaluate(folder, _session(data, device, workers), experiment)
    draw_pictures(folder, result, tests)
    typer.echo("\n" + table([result], read_published(PUBLISHED)))


@app.command("table")
def table_command(
    runs: RunPaths,
    mean: Annotated[bool, typer.Option("--mean", help="One row for runs that differ by their seed only.")] = False,
) -> None:
    """Print the results of runs beside the published numbers, and how far the first is ahead of the others."""
    results = [read_results(path) for path in runs]
    if mean:
        typer.echo(summary(results))
        return
    typer.echo(table(results, read_published(PUBLISHED)))
    if len(results) > 1:
        typer.echo("\n" + margins(results))


@app.command("record")
def record_command(runs: RunPaths) -> None:
    """Keep the results of runs beside the experiments, in experiments/results/RUN.json, without per-query data."""
    for path in runs:
        target = RECORDED / f"{path.stem if path.is_file() else path.resolve().name}.json"
        write_results(target, read_results(path).without_per_query())
        typer.echo(f"recorded: {target}")


@data_app.command("list")
def list_command() -> None:
    """List all data sets: what they are and where to ask for them."""
    infos = {name: component_module("dataset", name, "data").COMPONENT.info for name in component_names("dataset")}
    rows = [(name, info.title, info.licence, info.where) for name, info in infos.items()]
    typer.echo(tabulate(rows, ["name", "data set", "licence", "where to get it"], maxcolwidths=[None, 30, 30, 40]))


@data_app.command("check")
def check_command(
    name: Name,
    data: DataRoot = DATA_ROOT,
    root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="The set's own folder.")] = None,
    assignments: Assignments = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every image.")] = False,
) -> None:
    """Compare a data set with the published counts; say what is wrong, why, and what to do."""
    table_: dict[str, Any] = {"name": name}
    if root is not None:
        table_["root"] = root.resolve()
    for assignment in assignments or ():
        set_value(table_, assignment)
    report = _check(table_, data, deep=deep)
    typer.echo(report.text())
    if not report.ok:
        raise typer.Exit(2)


@data_app.command("make")
def make_command(name: Name, data: DataRoot = DATA_ROOT, assignments: Assignments = None) -> None:
    """Draw or convert a data set now instead of on first use, and show what it holds."""
    table_: dict[str, Any] = {"name": name}
    for assignment in assignments or ():
        set_value(table_, assignment)
    typer.echo(_check(table_, data, deep=False).text())


def main() -> None:
    """Entry point of the ``reid`` command: what a user can cause ends with a message and exit code 2."""
    try:
        app()
    except ReidError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        sys.exit(2)


def _session(data: Path, device: str, workers: int | None) -> Session:
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen).item()  # some that can be named cannot compute
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name}: cannot be used here ({reason}). Use --device cpu.") from None
    return Session(data, chosen, default_workers() if workers is None else workers, Terminal())


def _plans(path: Path, assignments: list[str] | None, protocol: str | None) -> list[tuple[str, Experiment]]:
    """(name of the run, experiment): one, or one for every source and target of a protocol."""
    experiment = read_experiment(path, assignments or ())
    if protocol is None:
        if not experiment.target and not experiment.validation_pids:
            raise ConfigError(
                f"{path}: wanted at least one [[target]] to test on, found none. Add one, or: reid train."
            )
        return [(path.stem, experiment)]
    transfers = find_protocol(protocol).transfers
    return [(f"{path.stem}_{transfer.name}", on_transfer(experiment, transfer)) for transfer in transfers]


def _open_run(name: str, experiment: Experiment, out: Path | None, *, resume: bool) -> RunFolder:
    if resume:
        return resume_run(out or RUNS / name, experiment)
    return create_run(out or free_run_path(RUNS, name), experiment)


def _check(table_: dict[str, Any], data: Path, *, deep: bool) -> CheckReport:
    if "root" in table_:  # as in an experiment file: a relative one is below the data root
        table_ = {**table_, "root": data / str(table_["root"])}
    config = component_config("dataset", table_, "data")
    if not isinstance(config, DatasetConfig):
        raise ConfigError(f"{table_['name']}: its Config is no DatasetConfig.")
    dataset_class = component_module("dataset", str(table_["name"]), "data").COMPONENT
    return check(dataset_class, config, data, deep=deep, progress=Terminal())


if __name__ == "__main__":
    main()
