"""Pictures of where two images correspond: both side by side with lines, and what a dense warp does to the gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from reid.report._canvas import literal, save_png
from reid.report._panels import COLOURS, Picture, draw_panels, extent_of, norm_of, panels_of
from reid.types import Correspondences

KINDS = {
    "maximum": "for each place of the query image the most similar place of the gallery image",
    "assignment": "a place of the query image has one partner in the gallery image, or none",
    "warp": "where the centre of each cell of the query image lies in the gallery image",
}
_INCHES_HIGH = 5.5
_WORDS_WIDE = 7.5


@dataclass(frozen=True, slots=True, eq=False)
class MatchedPair:
    """Two images as a matcher saw them, and where it found them to correspond.

    Attributes:
        query: the query image, in the pixels that ``found`` speaks of.
        gallery: the gallery image, likewise.
        found: from query to gallery.
        score: of the pair, higher = more alike.
        caption: what the pair is, in a few words.
    """

    query: Picture
    gallery: Picture
    found: Correspondences
    score: float
    caption: str


def draw_pair(pair: MatchedPair, path: Path, *, title: str, num_lines: int = 24) -> None:
    """Draw one pair into one PNG file.

    Lines join the correspondences that are the most confident of their surroundings, and colours tell how confident. A
    dense warp is also shown at work, and with its certainty; for maxima there is a map of confidence.

    Args:
        pair: what to draw.
        path: the PNG file.
        title: what found it.
        num_lines: at most so many lines.

    Raises:
        StorageError: the file cannot be written.
    """
    panels = panels_of(pair.query, pair.gallery, pair.found)
    width, height = extent_of(panels)
    wide = max(_INCHES_HIGH * width / height + 1.6, _WORDS_WIDE)
    figure = Figure(figsize=(wide, _INCHES_HIGH + 1.7), layout="constrained")
    figure.suptitle(literal(title), fontsize=11)
    axes = figure.add_subplot()
    num_drawn = draw_panels(axes, panels, pair.found, num_lines)
    axes.set_title(literal(f"{pair.caption}\n{_told(pair)}"), fontsize=10)
    bar = figure.colorbar(ScalarMappable(norm_of(pair.found), COLOURS), ax=axes, shrink=0.7, pad=0.02, panchor=False)
    bar.set_label("confidence, on the matcher's own scale", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    choice = _lines_told(num_drawn, len(pair.found.query_N2))
    figure.supxlabel(f"Correspondences of kind {pair.found.kind}: {KINDS[pair.found.kind]}.\n{choice}", fontsize=8)
    save_png(figure, path)


def _lines_told(num_drawn: int, num_found: int) -> str:
    if not num_found:
        return "Lines: none, as nothing was found to correspond."
    if num_drawn == num_found:
        return "Lines: all of them."
    return f"Lines: {num_drawn} of them, each the most confident of its surroundings in the query image."


def _told(pair: MatchedPair) -> str:
    return f"score {pair.score:.4g},  {len(pair.found.query_N2):,} correspondences"
