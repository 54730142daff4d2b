"""Shared ground of the pictures: colours that colour-blind readers can tell apart, and atomic PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reid.files import atomic_file

# Okabe and Ito, Color Universal Design, 2008.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY = "#CC79A7", "#56B4E9"
BLACK, GREY = "#000000", "#8A8A8A"
LINE_COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
LINE_STYLES = ("-", "--", "-.", ":")


def save_png(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Draw ``figure`` into a PNG file, atomically. Raises StorageError."""
    FigureCanvasAgg(figure)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi)


def literal(text: str) -> str:
    """``text`` as matplotlib prints it unchanged: names of data sets may hold dollar signs, which begin formulas."""
    return text.replace("$", r"\$")


def plain(axes: Axes) -> None:
    """Take away what carries no number: upper and right spine; leave a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
