"""The verb ``reid keys``."""

from __future__ import annotations

from typing import Annotated

import typer
from tabulate import tabulate

from reid.keys import key_table
from reid.reference import find_tables, tables

Place = Annotated[
    str | None, typer.Argument(metavar="TABLE", help="Such as stage, stage.optimizer, matcher or matcher.qaconv.")
]


def keys_command(place: Place = None) -> None:
    """Show which keys an experiment file can have, with their values and defaults; without TABLE, which tables."""
    if place is None:
        rows = [(table.place, table.meaning) for table in tables()]
        typer.echo(tabulate(rows, ["table", "what it is for"], maxcolwidths=[None, 80]))
        return
    for table in find_tables(place):
        typer.echo(f"{table.place}: {table.meaning}")
        shown = key_table(table.keys, "simple", [None, 28, 18, 60]) if table.keys else "Nothing to set."
        typer.echo(f"\n{shown}\n")
