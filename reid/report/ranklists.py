"""A sheet of rank lists: some queries with what the matcher puts first, right and wrong marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reid.errors import ShapeError
from reid.evaluation.labels import Labels, Truth
from reid.evaluation.ranking import Ranking, Scores, top_k
from reid.images import read_image
from reid.report._canvas import BLACK, GREEN, GREY, RED, literal, save_png
from reid.types import ImageRecord

Verdict = Literal["right", "wrong", "distractor"]

_FRAMES = {"right": (GREEN, "-"), "wrong": (RED, "--"), "distractor": (GREY, ":")}
_MARKS = {"right": "✓", "wrong": "✗", "distractor": "–"}


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a rank list: the gallery image, its score, and whether it shows the query's person.

    ``score`` is None where an order was imposed on the scores, which then say nothing else.
    """

    image: ImageRecord
    score: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RankList:
    """A query image and the first places of its ranking, junk and its own camera left out as in the metrics."""

    query: ImageRecord
    places: tuple[Place, ...]


def pick_queries(ranking: Ranking, num: int) -> list[int]:
    """Choose queries to show, always the same: half with a wrong first place if there are so many, the rest right.

    Both halves are spread evenly over the query set, wrong ones after right ones.

    Args:
        ranking: of all queries.
        num: how many, at least 1.
    """
    first = {idx: rank_M[0] for idx, rank_M in enumerate(ranking.rank_Q) if len(rank_M)}
    right = [idx for idx, rank in first.items() if rank == 1]
    wrong = [idx for idx, rank in first.items() if rank > 1]
    num_wrong = min(len(wrong), max(num // 2, num - len(right)))
    return _spread(right, num - num_wrong) + _spread(wrong, num_wrong)


def rank_lists(
    score_QG: Scores,
    query: Sequence[ImageRecord],
    gallery: Sequence[ImageRecord],
    query_idx: Sequence[int],
    *,
    top: int = 10,
    camera_rule: bool = True,
    order_alone: bool = False,
) -> list[RankList]:
    """Take the first places of some queries out of the scores.

    Args:
        score_QG: scores of all queries, [Q, G], finite.
        query: the Q query images.
        gallery: the G gallery images.
        query_idx: which queries, in order.
        top: places a query, at least 1.
        camera_rule: as for the metrics.
        order_alone: leave scores out: they are no matcher's, but hold an order, see
            :func:`~reid.evaluation.shortlist.place_above`.

    Raises:
        ShapeError: scores and images differ in number.
    """
    if tuple(score_QG.shape) != (len(query), len(gallery)):
        raise ShapeError(f"rank_lists: wanted scores [{len(query)}, {len(gallery)}], found {list(score_QG.shape)}.")
    truth = Truth(Labels.of(query), Labels.of(gallery), camera_rule=camera_rule)
    lists = []
    for idx in query_idx:
        row = truth[idx]
        best_K = top_k(score_QG[idx : idx + 1], top, [row.removed_R])[0]
        matches = set(row.match_M.tolist())
        places = [
            Place(
                gallery[best],
                None if order_alone else float(score_QG[idx, best]),
                _verdict(gallery[best], best in matches),
            )
            for best in best_K[best_K >= 0].tolist()
        ]
        lists.append(RankList(query[idx], tuple(places)))
    return lists


def draw_rank_lists(lists: Sequence[RankList], path: Path, *, title: str) -> None:
    """Draw rank lists into one PNG file, a query a row.

    Args:
        lists: what to draw, at least one.
        path: the PNG file.
        title: data set, matcher and metric.

    Raises:
        ShapeError: there is no list.
        ImageError: an image is missing or damaged.
        StorageError: the file cannot be written.
    """
    if not lists:
        raise ShapeError("draw_rank_lists: wanted at least one rank list, found none.")
    columns = 1 + max(len(entry.places) for entry in lists)
    figure = Figure(figsize=(1.0 * columns + 0.3, 2.4 * len(lists) + 0.8), layout="constrained")
    figure.suptitle(literal(title), fontsize=11)
    grid = figure.subplots(len(lists), columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for row, entry in zip(grid, lists, strict=True):
        _tile(row[0], entry.query, f"query\n{_who(entry.query)}", BLACK, "-")
        for rank, (axes, place) in enumerate(zip(row[1:], entry.places, strict=False), start=1):
            score = "" if place.score is None else f"  {place.score:.3g}"
            caption = f"{rank} {_MARKS[place.verdict]}{score}\n{_who(place.image)}"
            _tile(axes, place.image, caption, *_FRAMES[place.verdict])
    figure.supxlabel(_legend(lists), fontsize=8)
    save_png(figure, path)


def _legend(lists: Sequence[RankList]) -> str:
    colours = (
        "query: black   right person: green, ✓   wrong person: orange-red, dashed, ✗   distractor: grey, dotted, –"
    )
    scored = any(place.score is not None for entry in lists for place in entry.places)
    return f"{colours}\nabove each image: rank, mark{', score' if scored else ''}; identity, camera (from 0)"


def _tile(axes: Axes, image: ImageRecord, caption: str, colour: str, style: str) -> None:
    axes.axis("on")
    axes.imshow(np.asarray(read_image(image.path)), aspect="auto")
    axes.set(xticks=[], yticks=[], box_aspect=2.0)
    axes.set_title(caption, fontsize=7, color=colour, pad=3)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.5, linestyle=style)


def _who(image: ImageRecord) -> str:
    person = f"id {image.pid}" if image.role == "person" else image.role
    return person if image.camid is None else f"{person}, c{image.camid}"


def _verdict(image: ImageRecord, match: bool) -> Verdict:
    if image.role == "distractor":
        return "distractor"
    return "right" if match else "wrong"


def _spread(items: Sequence[int], num: int) -> list[int]:
    num = min(num, len(items))
    return [items[(2 * idx + 1) * len(items) // (2 * num)] for idx in range(num)]
