"""The verbs of ``reid data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from tabulate import tabulate

from reid.build import component_config, component_module, component_names
from reid.cli_options import DATA_ROOT, DataRoot, set_option
from reid.config import set_value
from reid.datasets._base import DatasetConfig
from reid.datasets._checks import check
from reid.errors import ConfigError
from reid.progress import Terminal

data_app = typer.Typer(help="List, check and make data sets.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="A data set; 'reid data list' shows all.")]
DatasetKeys = Annotated[list[str] | None, set_option("a key of the data set", "expected_counts=none")]


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
    assignments: DatasetKeys = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also decode every image.")] = False,
) -> None:
    """Compare a data set with the published counts; say what is wrong, why, and what to do."""
    _report(name, data, assignments, root=root, deep=deep)


@data_app.command("make")
def make_command(name: Name, data: DataRoot = DATA_ROOT, assignments: DatasetKeys = None) -> None:
    """Draw or convert a data set now instead of on first use, and show what it holds."""
    _report(name, data, assignments)


def _report(
    name: str, data: Path, assignments: list[str] | None, *, root: Path | None = None, deep: bool = False
) -> None:
    """Show what a data set holds; exit with 2 where something is wrong with it."""
    table: dict[str, Any] = {"name": name}
    for assignment in assignments or ():
        set_value(table, assignment)
    if root is not None:
        table["root"] = root.resolve()
    elif "root" in table:  # as in an experiment file: a relative one is below the data root
        table["root"] = data / str(table["root"])
    config = component_config("dataset", table, "data")
    if not isinstance(config, DatasetConfig):
        raise ConfigError(f"{name}: its Config is no DatasetConfig.")
    dataset_class = component_module("dataset", str(table["name"]), "data").COMPONENT
    report = check(dataset_class, config, data, deep=deep, progress=Terminal())
    typer.echo(report.text())
    if not report.ok:
        raise typer.Exit(2)
