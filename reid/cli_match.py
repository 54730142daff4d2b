"""The verb ``reid match``."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from reid.cli_options import DATA_ROOT, Device, open_session
from reid.errors import ConfigError
from reid.match import match_images
from reid.report.correspondences import KINDS, draw_pair
from reid.runs import RunFolder

QueryFile = Annotated[Path, typer.Argument(metavar="QUERY", help="An image file: a person, cut out.")]
GalleryFile = Annotated[Path, typer.Argument(metavar="GALLERY", help="The image file to compare it with.")]
Run = Annotated[
    Path,
    typer.Option(
        "--run",
        metavar="RUN",
        help="Run folder whose trained model compares, such as runs/synthped_transmatcher. Its matcher must tell where "
        "images correspond: transmatcher, qaconv, superglue and roma do, embeddings and attention maps do not.",
    ),
]
OutPng = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.png",
        help="The picture. Default: RUN/figures/match_QUERY_GALLERY.png, with a number behind it where that is taken.",
    ),
]

_LONGEST = 36  # characters of an image's name: a file's name has room for twice as many of any script


def match_command(
    query: QueryFile, gallery: GalleryFile, run_path: Run, out: OutPng = None, device: Device = ""
) -> None:
    """Show where two images match: print their score, and draw lines between the places that correspond.

    Scores are comparable within a run only; the same person scores higher than another, on average. Lines are no proof
    that two images show one person: they say which places look alike to the matcher, and best ones always exist.
    """
    run = RunFolder(run_path)
    file = _free(run.figures, f"match_{query.stem[:_LONGEST]}_{gallery.stem[:_LONGEST]}") if out is None else out
    if file.suffix.lower() != ".png":
        raise ConfigError(f"--out {file}: wanted a file named .png, found {file.suffix or 'no suffix'}. Name it so.")
    if any(file.exists() and image.exists() and file.samefile(image) for image in (query, gallery)):
        raise ConfigError(f"--out {file}: wanted a file beside the two images, found one of them. Choose another.")
    pair = match_images(query, gallery, run, open_session(DATA_ROOT, device, 0).device)
    experiment = run.experiment()
    draw_pair(pair, file, title=f"{experiment.title}, seed {experiment.seed}")
    typer.echo(f"score: {pair.score:.4g} (higher = more alike)")
    typer.echo(f"correspondences: {len(pair.found.query_N2)}, kind {pair.found.kind}: {KINDS[pair.found.kind]}")
    typer.echo(f"picture: {file}")


def _free(folder: Path, name: str) -> Path:
    """``name.png``, or the first of ``name_2.png``, ``name_3.png`` ... that is not taken: images may share names."""
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(file for each in names if not (file := folder / f"{each}.png").exists())
