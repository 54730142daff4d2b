"""Pictures and tables of quality over time: one line a second stage, one point a length of the shortlist."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, pairwise, product
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from tabulate import tabulate

from reid.evaluation.curve import Curve, Curves
from reid.evaluation.reranked import Figures
from reid.report._canvas import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, literal, plain, save_png

HEADERS = (
    "Test",
    "Second stage",
    "k",
    "Rank-1 / mAP",
    "Perfect order",
    "ms a query",
    "of it second stage",
    "us a pair",
)

Spot = NDArray[np.float64]
"""(x, y) in pixels of the picture."""

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
MARKERS = "osD^v"
POINTS = 72.0
FONT_SIZE = 8.0
RINGS = (10.0, 18.0, 27.0, 36.0, 46.0)
"""How far from its point a label may stand, in points; beyond the first ring a thin line leads to it."""
DIRECTIONS = (90, 270, 0, 180, 45, 135, 315, 225, 68, 112, 292, 248, 22, 158, 338, 202)
"""Where it may stand there, in degrees; tried in turn. Sideways it stands further off: text is wide."""
STEP = 4.0
"""Points between the places of a line that labels keep clear of."""


def curve_table(curves: Curves) -> str:
    """Lay out all points as a GitHub table; Rank-1 and mAP in percent. The first stage alone is k = 0."""
    rows = []
    for curve in curves.curves:
        rows.append((curve.target, "-", "0", _shown(curve.first), "-", f"{1e3 * curve.first_s:.3g}", "-", "-"))
        for line in curve.lines:
            for point in line.points:
                cost = f"{1e3 * point.query_s:.3g}", f"{1e3 * point.rescore_s:.3g}"
                pair = f"{1e6 * point.rescore_s / point.top_k:.3g}"
                shown = _shown(point.figures), _shown(point.oracle)
                rows.append((curve.target, line.method, str(point.top_k), *shown, *cost, pair))
    return tabulate(rows, HEADERS, "github", disable_numparse=True)


def draw_curve(curve: Curve, path: Path, *, method: str) -> None:
    """Draw mAP over milliseconds a query into one PNG file.

    Args:
        curve: one target.
        path: the PNG file.
        method: what the first stage is.

    Raises:
        StorageError: the file cannot be written.
    """
    figure = Figure(figsize=(7.2, 4.4 + 0.2 * len(curve.lines)), layout="constrained")
    axes = figure.add_subplot(xscale="log")
    for line, marker, colour in zip(curve.lines, cycle(MARKERS), cycle(COLOURS), strict=False):
        x = [1e3 * point.query_s for point in line.points]
        y = [point.figures.mAP for point in line.points]
        axes.plot(x, y, marker=marker, color=colour, markersize=4.5, linewidth=1.6, label=literal(line.method))
    first, longest = curve.first, max((point for line in curve.lines for point in line.points), key=lambda p: p.top_k)
    axes.axhline(longest.oracle.mAP, color=BLACK, linestyle=":", linewidth=1.2)
    axes.lines[-1].set_label(f"perfect order of the best {longest.top_k} images of the first stage")
    axes.axhline(first.mAP, color=GREY, linestyle="--", linewidth=1.2)
    axes.plot([1e3 * curve.first_s], [first.mAP], "X--", color=GREY, markersize=7)
    axes.lines[-1].set_label(literal(f"first stage alone: {method}"))
    axes.set(xlabel="Milliseconds a query, one at a time", ylabel="mAP")
    axes.set_title(literal(f"{curve.target}: k images of the first stage put in order by a second"), fontsize="medium")
    _scale(axes)
    plain(axes)
    figure.legend(loc="outside lower center", fontsize="small", frameon=False)
    _label_points(figure, axes, curve)
    save_png(figure, path)


def _shown(figures: Figures) -> str:
    return f"{100 * figures.rank1:.1f} / {100 * figures.mAP:.1f}"


def _scale(axes: Axes) -> None:
    """Milliseconds as plain numbers, at least an octave of them; mAP in percent, with room for labels."""
    low, high = axes.get_xlim()
    middle, half = (low * high) ** 0.5, max((1.1 * high / low) ** 0.5, 2**0.5)
    axes.set_xlim(middle / half, middle * half)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(y=0.12)


def _label_points(figure: Figure, axes: Axes, curve: Curve) -> None:
    """Write k beside every point, clear of lines, points and other labels where there is room."""
    figure.draw_without_rendering()  # only now it is known where points are
    pixels = figure.dpi / POINTS
    courses = [axes.transData.transform(line.get_xydata()) for line in axes.lines[: len(curve.lines)]]
    taken = [_around(spot, 2.5 * pixels, 2.5 * pixels) for course in courses for spot in _along(course, STEP * pixels)]
    inside = axes.get_window_extent()
    for line, drawn, course in zip(curve.lines, axes.lines, courses, strict=False):
        for point, spot in zip(line.points, course, strict=True):
            text = f"k={point.top_k}" if point is curve.lines[0].points[0] else str(point.top_k)
            size = 0.33 * FONT_SIZE * len(text) * pixels, 0.5 * FONT_SIZE * pixels
            place, ring = _free_place(spot, size, taken, inside, pixels)
            taken.append(_around(place, *size))
            lead = {"arrowstyle": "-", "color": drawn.get_color(), "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
            axes.annotate(
                *(text, (1e3 * point.query_s, point.figures.mAP), tuple((place - spot) / pixels)),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=FONT_SIZE,
                color=drawn.get_color(),
                path_effects=[withStroke(linewidth=2, foreground="white")],
                arrowprops=lead if ring > RINGS[0] else None,
            ).set_in_layout(False)


def _free_place(
    spot: Spot, size: tuple[float, float], taken: Sequence[Bbox], inside: Bbox, pixels: float
) -> tuple[Spot, float]:
    """Centre of a label and its ring; the first ring's first place if none is free."""
    for ring, direction in product(RINGS, DIRECTIONS):
        angle = np.deg2rad(direction)
        far = np.array((ring * pixels + size[0] / 2, ring * pixels))
        place = spot + far * np.array((np.cos(angle), np.sin(angle)))
        box = _around(place, *size)
        within = inside.contains(box.x0, box.y0) and inside.contains(box.x1, box.y1)
        if within and not any(box.overlaps(other) for other in taken):
            return place, ring
    return spot + np.array((0.0, RINGS[0] * pixels)), RINGS[0]


def _along(course: NDArray[np.float64], step: float) -> list[Spot]:
    """Places on a line, not further than ``step`` from each other."""
    spots = list(course[:1])
    for start, stop in pairwise(course):
        number = int(np.hypot(*(stop - start)) / step) + 1
        spots += [start + (stop - start) * part / number for part in range(1, number + 1)]
    return spots


def _around(spot: Spot, half_width: float, half_height: float) -> Bbox:
    x, y = spot
    return Bbox.from_extents(x - half_width, y - half_height, x + half_width, y + half_height)
