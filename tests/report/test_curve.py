from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from reid.evaluation.curve import Curve, Curves, Line, Point
from reid.evaluation.reranked import Figures
from reid.report import curve as drawing
from reid.report._canvas import BLUE, GREEN, ORANGE
from reid.report.curve import curve_table, draw_curve
from tests.report.test_charts import pixels_of

KS = (1, 2, 5, 10, 20, 50, 100)


def line(method, encode_ms, pair_ms, gained):
    """A second stage that gains more with more images, and loses some at the end."""
    points = []
    for number, k in enumerate(KS):
        figures = Figures(rank1=0.6 + 0.02 * number, mAP=0.4 + gained * np.sin(0.3 * number))
        oracle = Figures(rank1=0.9, mAP=0.5 + 0.05 * number)
        rescore_s = 1e-3 * pair_ms * k
        points.append(
            Point(top_k=k, figures=figures, oracle=oracle, rescore_s=rescore_s, query_s=encode_ms / 1e3 + rescore_s)
        )
    return Line(method=method, encode_s=encode_ms / 1e3, one_backbone=True, points=tuple(points))


def curve(*lines, target="market1501"):
    facts = {"counts_checked": True, "camera_rule": "on", "num_query": 8, "num_gallery": 100}
    first = Figures(rank1=0.6, mAP=0.4)
    return Curve(target=target, first=first, encode_s=0.03, score_s=0.001, lines=lines, **facts)


SLOW, FAST = line("RRT $x$, seed 0", 40.0, 12.0, 0.2), line("TransMatcher, seed 0", 60.0, 0.11, 0.3)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw, and hand over the figure."""
    figures = []
    save = drawing.save_png
    monkeypatch.setattr(drawing, "save_png", lambda figure, path: (figures.append(figure), save(figure, path)))

    def draw(*lines) -> Figure:
        draw_curve(curve(*lines), tmp_path / "figures" / "curve.png", method="an embedding, seed 0")
        return figures[-1]

    return draw


def test_every_second_stage_has_a_line_of_its_own_colour(drawn, tmp_path):
    drawn(SLOW, FAST)
    path = tmp_path / "figures" / "curve.png"
    assert all(pixels_of(path, colour).sum() > 300 for colour in (BLUE, ORANGE))
    assert pixels_of(path, GREEN).sum() == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["curve.png"]


def test_points_are_where_the_numbers_are(drawn):
    (axes,) = drawn(SLOW, FAST).axes
    assert axes.get_xscale() == "log"
    for shown, wanted in zip(axes.lines[:2], (SLOW, FAST), strict=True):
        np.testing.assert_allclose(shown.get_xdata(), [1e3 * point.query_s for point in wanted.points])
        np.testing.assert_allclose(shown.get_ydata(), [point.figures.mAP for point in wanted.points])
    perfect, alone, mark = axes.lines[2:]
    assert set(perfect.get_ydata()) == {SLOW.points[-1].oracle.mAP}
    assert set(alone.get_ydata()) == set(mark.get_ydata()) == {0.4}
    assert mark.get_xdata() == pytest.approx([31.0])


CROWDED = line("close together", 60.0, 0.01, 0.01)


@pytest.mark.parametrize("lines", [(SLOW, FAST), (CROWDED,)], ids=["two", "crowded"])
def test_every_point_is_labelled_and_no_two_labels_meet(drawn, lines):
    figure = drawn(*lines)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["k=1", *map(str, (KS * len(lines))[1:])]
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert not any(one.shrunk(0.9, 0.6).overlaps(two) for one, two in combinations(boxes, 2))
    own = axes.get_window_extent()
    assert all(own.x0 <= box.x0 and box.x1 <= own.x1 and own.y0 <= box.y0 and box.y1 <= own.y1 for box in boxes)


def test_one_point_can_be_drawn(drawn):
    only = SLOW.model_copy(update={"points": SLOW.points[:1]})
    low, high = drawn(only).axes[0].get_xlim()
    assert high / low >= 1.99


def test_the_table_has_a_row_a_point():
    facts = {"method": "first", "precision": "float32", "state_precision": "float32", "machine": "2 cores"}
    text = curve_table(Curves(curves=(curve(SLOW, FAST),), **facts))
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()[2:]]
    assert rows[0] == ["market1501", "-", "0", "60.0 / 40.0", "-", "31", "-", "-"]
    assert rows[1] == ["market1501", "RRT $x$, seed 0", "1", "60.0 / 40.0", "90.0 / 50.0", "52", "12", "1.2e+04"]
    assert len(rows) == 1 + 2 * len(KS)
