"""The command line: verbs, and all that a user sees."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reid.build import component_names, find_protocol
from reid.cli_correspond import correspond_command
from reid.cli_curve import curve_command
from reid.cli_data import data_app
from reid.cli_evaluate import evaluate_command
from reid.cli_keys import keys_command
from reid.cli_match import match_command
from reid.cli_options import DATA_ROOT, DataRoot, Device, Workers, open_session, set_option
from reid.cli_results import compare, record_command, table_command
from reid.convert import convert_released
from reid.errors import ConfigError, ReidError
from reid.evaluate import evaluate, finished
from reid.experiment import on_transfer, read_experiment
from reid.memory import keep_freed_memory
from reid.pictures import draw_pictures, drawn
from reid.pipeline import refuse_untestable
from reid.runs import RunFolder, create_run, discard_unbegun, free_run_path, resume_run
from reid.schema import Experiment
from reid.train import train

app = typer.Typer(
    help="Train a person matcher on one domain, test it on others, and trust the numbers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")

Files = Annotated[list[Path], typer.Argument(help="Experiment files, such as experiments/synthped_transmatcher.toml.")]
File = Annotated[Path, typer.Argument(help="An experiment file, such as experiments/synthped_transmatcher.toml.")]
ExperimentKeys = Annotated[list[str] | None, set_option("a key of the experiment", "stage.0.epochs=3")]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Run folder. Default: a new one in runs/.")]
OutOfSeveral = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Run folder; of several runs, their parent. Default: a new one in runs/."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Continue the run in --out (default: runs/NAME) from its latest checkpoint."),
]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Repeat each experiment on every source and target of a protocol: "
        f"{', '.join(component_names('protocol'))}.",
    ),
]

RUNS = Path("runs")


@app.command()
def run(
    experiments: Files,
    data: DataRoot = DATA_ROOT,
    out: OutOfSeveral = None,
    assignments: ExperimentKeys = None,
    device: Device = "",
    workers: Workers = None,
    resume: Resume = False,
    protocol: ProtocolName = None,
) -> None:
    """Train, test and report: the main job.

    Each experiment is trained on its sources, tested on its targets, and leaves a run folder with results, pictures
    and the trained model. Several experiments are compared: the first with each of the others on the same queries.
    """
    session = open_session(data, device, workers)
    planned = [plan for path in experiments for plan in _plans(path, assignments, protocol)]
    with _opened(planned, out, resume=resume) as folders:
        for folder in folders:
            typer.echo(f"\n{folder.experiment().title}")
            if not (finished(folder) and drawn(folder)):  # pictures are of scores, which are not kept
                refuse_untestable(folder, session)
                train(folder, session)
                draw_pictures(folder, *evaluate(folder, session))
    typer.echo()
    compare(folder.results for folder in folders)
    for folder in folders:
        typer.echo(f"\nresults, pictures and the trained model: {folder.path}", nl=False)
    typer.echo()


@app.command("train")
def train_command(
    experiment: File,
    data: DataRoot = DATA_ROOT,
    out: Out = None,
    assignments: ExperimentKeys = None,
    device: Device = "",
    workers: Workers = None,
    resume: Resume = False,
) -> None:
    """Train an experiment, without testing it."""
    session = open_session(data, device, workers)
    plan = experiment.stem, read_experiment(experiment, assignments or ())
    with _opened([plan], out, resume=resume) as (folder,):
        train(folder, session)
    typer.echo(f"trained: {folder.path}\ntest it: reid evaluate {folder.path}")


app.command("evaluate")(evaluate_command)
app.command("curve")(curve_command)
app.command("match")(match_command)
app.command("correspond")(correspond_command)
app.command("keys")(keys_command)
app.command("table")(table_command)
app.command("record")(record_command)


@app.command("convert")
def convert_command(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pth.tar of the released TransMatcher or QAConv code.")],
    experiment: File,
    out: Out = None,
    assignments: ExperimentKeys = None,
) -> None:
    """Turn a checkpoint of the released codes into a run that evaluate, table and reid.load() take.

    The experiment says which model the weights are of, and what they are tested on.
    """
    plan = experiment.stem, read_experiment(experiment, assignments or ())
    with _opened([plan], out, resume=False) as (folder,):
        convert_released(checkpoint, folder)
    typer.echo(f"converted: {folder.path}\ntest it: reid evaluate {folder.path}")


def main() -> None:
    """Entry point of the ``reid`` command: what a user can cause ends with a message and exit code 2."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that temporary files are cleared away
    keep_freed_memory()
    try:
        app()
    except ReidError as error:
        typer.secho(f"{type(error).__name__}: {error}", fg="red", err=True)
        sys.exit(2)
    except PermissionError as error:  # asking whether a file is there can be forbidden, anywhere
        typer.secho(f"StorageError: {error.filename}: {error.strerror}. Check the permissions.", fg="red", err=True)
        sys.exit(2)


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


@contextmanager
def _opened(
    planned: Sequence[tuple[str, Experiment]], out: Path | None, *, resume: bool
) -> Iterator[Sequence[RunFolder]]:
    """All run folders, before anything is trained; a new one whose training fails before it saves anything goes."""
    folders: list[RunFolder] = []
    try:
        for name, experiment in planned:
            path = out / name if out and len(planned) > 1 else out
            if resume:
                folders.append(resume_run(path or RUNS / name, experiment))
            else:
                folders.append(create_run(path or free_run_path(RUNS, name), experiment))
        yield folders
    except Exception:
        for folder in () if resume else folders:
            discard_unbegun(folder)
        raise
