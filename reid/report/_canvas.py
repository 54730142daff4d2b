"""Shared ground of the pictures: colours that colour-blind readers can tell apart, and atomic PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text

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
    for text in figure.findobj(Text):
        _spell(text)
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


def _spell(text: Text) -> None:
    """Write what the text's font has no sign for, such as a file's name in another script, as codes: not as boxes."""
    written = text.get_text()
    if not written.isascii():
        known = get_font(findfont(text.get_fontproperties())).get_charmap()
        missing = {ord(character) for character in written if character != "\n"}.difference(known)
        text.set_text(written.translate({code: chr(code).encode("unicode_escape").decode() for code in missing}))
