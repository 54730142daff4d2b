"""Shared ground of pictures of correspondences: what stands side by side, and the lines between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from reid.evaluation.baselines import grid_points
from reid.evaluation.correspondences import Floats, as_array, found_at
from reid.report._canvas import BLACK
from reid.types import Correspondences

Picture = NDArray[np.uint8]
"""RGB, [H, W, 3]."""

# Told apart without colour vision and as shades of grey; without the darkest, which are lost on dark clothes.
COLOURS = ListedColormap(colormaps["viridis"](np.linspace(0.15, 1.0, 256)))
_GAP = 0.5
"""White space between query and gallery image, over their width: lines are seen best there."""
_MARGIN = 0.12
_DROP = 0.18
"""How much lower the gallery image stands, over its height: lines along a row of cells would hide each other."""
_NAMES = 0.1
"""Room for the names above the panels, over the height of all."""
_APART = 0.9
"""How far from each other lines start, over the side of a square that is a line's share of the query image."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One picture among others.

    Attributes:
        name: what stands above it.
        picture: the picture.
        left: where it begins, in pixels of the images.
        top: likewise.
    """

    name: str
    picture: Picture
    left: float
    top: float = 0.0

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.left + len(self.picture[0])

    @property
    def bottom(self) -> float:
        """Where it ends."""
        return self.top + len(self.picture)


def panels_of(query: Picture, gallery: Picture, found: Correspondences) -> list[Panel]:
    """Both images; for maxima also the confidence; for warps also the warp at work, and its certainty."""
    first = Panel("query", query, 0.0)
    second = Panel("gallery", gallery, (1 + _GAP) * query.shape[1], _DROP * gallery.shape[0])
    panels = [first, second]
    if len(found.query_N2):
        for name, picture in _shown(query, gallery, found):
            panels.append(Panel(name, picture, panels[-1].right + _MARGIN * query.shape[1]))
    return panels


def extent_of(panels: list[Panel]) -> tuple[float, float]:
    """Width and height of all panels, in pixels of the images."""
    return panels[-1].right, max(panel.bottom for panel in panels)


def norm_of(found: Correspondences) -> Normalize:
    """From the lowest to the highest confidence; constant ones are all high."""
    confidence_N = as_array(found.confidence_N)
    low, high = (confidence_N.min(), confidence_N.max()) if len(confidence_N) else (0.0, 1.0)
    return Normalize(low, high) if high > low else Normalize(high - 1.0, high)


def strongest(found: Correspondences, num: int, apart_px: float) -> NDArray[np.int64]:
    """Choose correspondences to show: all if they are few, else the most confident, none that starts close to another.

    Args:
        found: correspondences of one pair.
        num: at most so many.
        apart_px: how far their query positions are from each other at least.

    Returns:
        their indices by falling confidence; equal confidences in the given order.
    """
    query_N2, confidence_N = as_array(found.query_N2), as_array(found.confidence_N)
    order_N = np.argsort(-confidence_N, kind="stable")
    if len(order_N) <= num:
        return order_N
    free_N = np.ones(len(order_N), dtype=bool)
    chosen: list[int] = []
    for idx in order_N:
        if len(chosen) == num:
            break
        if free_N[idx]:
            chosen.append(int(idx))
            free_N &= np.linalg.norm(query_N2 - query_N2[idx], axis=1) >= apart_px
    return np.array(chosen, dtype=np.int64)


def draw_panels(axes: Axes, panels: list[Panel], found: Correspondences, num_lines: int) -> int:
    """Draw panels, and lines between the first two of them.

    Returns:
        how many lines it came to: more than ``num_lines`` are thinned out, spread over the query image.
    """
    width, height = extent_of(panels)
    for panel in panels:
        extent = panel.left, panel.right, panel.bottom, panel.top
        axes.imshow(panel.picture, extent=extent, interpolation="bilinear")
        place = (panel.left + panel.right) / 2, panel.top - 0.01 * height
        axes.text(*place, panel.name, ha="center", va="bottom", fontsize=8)
    axes.set(xlim=(-0.01 * width, 1.01 * width), ylim=(1.01 * height, -_NAMES * height), aspect="equal")
    axes.axis("off")
    query, gallery = panels[:2]
    apart_px = _APART * (query.picture.shape[0] * query.picture.shape[1] / max(1, num_lines)) ** 0.5
    idx_L = strongest(found, num_lines, apart_px)[::-1]  # the most confident are drawn last, on top
    start_L2 = as_array(found.query_N2)[idx_L]
    stop_L2 = as_array(found.gallery_N2)[idx_L] + (gallery.left, gallery.top)
    colour_L4 = COLOURS(norm_of(found)(as_array(found.confidence_N)[idx_L]))
    outline = [withStroke(linewidth=2.4, foreground=BLACK)]
    for start, stop, colour in zip(start_L2, stop_L2, colour_L4, strict=True):
        ends = (start[0], stop[0]), (start[1], stop[1])
        axes.plot(*ends, "o-", color=tuple(colour), linewidth=1.3, markersize=3.2, path_effects=outline)
    return len(idx_L)


def _shown(query: Picture, gallery: Picture, found: Correspondences) -> list[tuple[str, Picture]]:
    if found.kind == "assignment":
        return []
    height, width = query.shape[:2]
    there_S2, confidence_S = found_at(found, as_array(grid_points((height, width))))
    shade_HWC = COLOURS(norm_of(found)(confidence_S.reshape(height, width)))
    certainty = np.round(255 * shade_HWC[..., :3]).astype(np.uint8)
    if found.kind == "maximum":
        return [("confidence of\nquery places", certainty)]
    moved = _fetched(gallery, there_S2).reshape(height, width, 3)
    overlay = (0.5 * query + 0.5 * moved).astype(np.uint8)
    return [
        ("gallery moved\nonto query", moved),
        ("both, half\nand half", overlay),
        ("certainty of\nquery pixels", certainty),
    ]


def _fetched(picture: Picture, at_M2: Floats) -> Picture:
    """Colours of the pixels in which positions lie, [M, 3]; white outside."""
    height, width = picture.shape[:2]
    x_M, y_M = np.floor(at_M2).astype(np.int64).T
    inside_M = (x_M >= 0) & (x_M < width) & (y_M >= 0) & (y_M < height)
    colour_M3 = picture[y_M.clip(0, height - 1), x_M.clip(0, width - 1)]
    return np.where(inside_M[:, None], colour_M3, np.uint8(255))
