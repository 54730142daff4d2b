import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from reid.errors import StorageError
from reid.report import correspondences as drawing
from reid.report._panels import COLOURS, strongest
from reid.report.correspondences import KINDS, MatchedPair, draw_pair
from reid.types import Correspondences

HEIGHT, WIDTH = 48, 16


def grid(stride):
    y, x = torch.meshgrid(torch.arange(HEIGHT // stride), torch.arange(WIDTH // stride), indexing="ij")
    return (torch.stack((x, y), -1).reshape(-1, 2) + 0.5) * stride


def pair(kind, query=None, gallery=None, confidence=None, caption="1 → 2"):
    """Two flat images, red and blue, and correspondences one to one."""
    query = grid(8) if query is None else query
    gallery = query if gallery is None else gallery
    confidence = torch.linspace(0, 1, len(query)) if confidence is None else confidence
    red, blue = (np.full((HEIGHT, WIDTH, 3), colour, dtype=np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    return MatchedPair(red, blue, Correspondences(query, gallery, confidence, kind), 1.25, caption)


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draw, and hand over the figure; the picture lies in ``figures/pair.png``."""
    figures = []
    save = drawing.save_png
    monkeypatch.setattr(drawing, "save_png", lambda figure, path: (figures.append(figure), save(figure, path)))

    def draw(one, **options) -> Figure:
        draw_pair(one, tmp_path / "figures" / "pair.png", title="a $matcher$", **options)
        return figures[-1]

    return draw


def lines_of(axes):
    """(start and stop of each line, its colour)."""
    return [line.get_xydata() for line in axes.lines], [line.get_color() for line in axes.lines]


def panels_of(axes):
    return {text.get_text().replace("\n", " "): image for text, image in zip(axes.texts, axes.images, strict=True)}


def test_lines_join_what_corresponds(drawn, tmp_path):
    query = torch.tensor([[2.0, 4.0], [12.0, 40.0]])
    gallery = torch.tensor([[10.0, 8.0], [3.0, 30.0]])
    figure = drawn(pair("assignment", query, gallery, torch.tensor([0.2, 0.9])))
    axes = figure.axes[0]
    panels = panels_of(axes)
    left, right, bottom, top = panels["gallery"].get_extent()
    assert (right - left, bottom - top) == (WIDTH, HEIGHT)
    assert left > WIDTH
    segments, colours = lines_of(axes)
    np.testing.assert_allclose(segments, [[(2, 4), (left + 10, top + 8)], [(12, 40), (left + 3, top + 30)]])
    np.testing.assert_allclose(colours, [COLOURS(0.0), COLOURS(1.0)])
    assert set(panels) == {"query", "gallery"}
    assert [entry.name for entry in (tmp_path / "figures").iterdir()] == ["pair.png"]
    with Image.open(tmp_path / "figures" / "pair.png") as image:
        assert image.format == "PNG"
        shown = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour in ((200, 0, 0), (0, 0, 200)):
        assert (np.abs(shown.astype(int) - colour).max(1) <= 2).mean() > 0.02


def test_lines_along_a_row_of_cells_do_not_hide_each_other(drawn):
    (axes, *_) = drawn(pair("maximum", grid(4)), num_lines=100).axes
    segments, _ = lines_of(axes)
    heights = [np.interp(1.2 * WIDTH, *segment.T) for segment in segments]
    assert len(segments) > 40
    assert np.diff(sorted(heights)).min() > 0.2


def test_words_say_what_it_is(drawn):
    figure = drawn(pair("maximum", caption="a.jpg → b$.jpg"))
    assert figure.get_suptitle() == r"a \$matcher\$"
    assert figure.axes[0].get_title() == "a.jpg → b\\$.jpg\nscore 1.25,  12 correspondences"
    assert "kind maximum: for each place of the query image the most similar" in figure.get_supxlabel()
    assert figure.get_supxlabel().endswith("Lines: all of them.")
    assert len(figure.axes[0].lines) == 12
    fewer = drawn(pair("maximum"), num_lines=5)
    assert f"Lines: {len(fewer.axes[0].lines)} of them, each the most confident" in fewer.get_supxlabel()


@pytest.mark.filterwarnings("error")
def test_names_that_the_font_has_no_signs_for_are_written_as_codes(drawn):
    """No warning of matplotlib's, and no boxes; what the font has stays as it is."""
    figure = drawn(pair("maximum", caption="日本 Ünal.jpg → b.jpg"))
    assert figure.axes[0].get_title().splitlines()[0] == r"\u65e5\u672c Ünal.jpg → b.jpg"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_cut_off(drawn, kind):
    figure = drawn(pair(kind, grid(1)))
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    words = [*figure.texts, *figure.axes[0].texts, figure.axes[0].title]
    for box in (text.get_window_extent() for text in words):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_maxima_come_with_a_map_of_confidence(drawn):
    panels = panels_of(drawn(pair("maximum")).axes[0])
    assert list(panels) == ["query", "gallery", "confidence of query places"]
    shown = np.asarray(panels["confidence of query places"].get_array())
    first, last = (np.round(255 * np.array(COLOURS(value)[:3])) for value in (0.0, 1.0))
    assert (shown[:8, :8] == first).all()  # the first cell, the least confident
    assert (shown[-8:, -8:] == last).all()


def test_a_warp_is_shown_at_work(drawn):
    """Halved in width: the query's left half sees the gallery's left quarter, its right edge the middle."""
    centres = grid(1)
    one = pair("warp", centres, centres * torch.tensor([0.5, 1.0]))
    one.gallery[:, : WIDTH // 4] = (0, 200, 0)
    panels = panels_of(drawn(one).axes[0])
    assert list(panels) == [
        "query",
        "gallery",
        "gallery moved onto query",
        "both, half and half",
        "certainty of query pixels",
    ]
    moved = np.asarray(panels["gallery moved onto query"].get_array())
    assert (moved[:, : WIDTH // 2] == (0, 200, 0)).all()
    assert (moved[:, WIDTH // 2 :] == (0, 0, 200)).all()
    half = np.asarray(panels["both, half and half"].get_array())
    assert (half[:, : WIDTH // 2] == (100, 100, 0)).all()


def test_a_warp_out_of_the_gallery_shows_white(drawn):
    centres = grid(1)
    panels = panels_of(drawn(pair("warp", centres, centres + torch.tensor([WIDTH / 2, 0.0]))).axes[0])
    moved = np.asarray(panels["gallery moved onto query"].get_array())
    assert (moved[:, WIDTH // 2 :] == 255).all()
    assert (moved[:, : WIDTH // 2] == (0, 0, 200)).all()


@pytest.mark.parametrize("kind", ["maximum", "assignment", "warp"])
def test_no_correspondences_can_be_drawn(drawn, kind):
    figure = drawn(pair(kind, torch.empty(0, 2)))
    assert len(lines_of(figure.axes[0])[0]) == 0
    assert "0 correspondences" in figure.axes[0].get_title()
    assert "Lines: none" in figure.get_supxlabel()


def test_constant_confidence_can_be_drawn(drawn):
    _, colours = lines_of(drawn(pair("maximum", confidence=torch.ones(12))).axes[0])
    assert set(colours) == {COLOURS(1.0)}


def test_the_strongest_are_spread():
    line = torch.stack((torch.arange(10.0), torch.zeros(10)), 1)
    confidence = torch.tensor([0.0, 0.1, 0.9, 1.0, 0.8, 0.2, 0.3, 0.95, 0.5, 0.5])
    found = Correspondences(line, line, confidence, "maximum")
    assert strongest(found, 9, 2.0).tolist() == [3, 7, 9, 5, 1]
    assert strongest(found, 2, 2.0).tolist() == [3, 7]
    assert strongest(found, 9, 0.0).tolist() == [3, 7, 2, 4, 8, 9, 6, 5, 1]
    assert strongest(found, 10, 2.0).tolist() == [3, 7, 2, 4, 8, 9, 6, 5, 1, 0]  # few enough to show them all


def test_what_cannot_be_drawn(tmp_path):
    (tmp_path / "in_the_way").write_text("")
    with pytest.raises(StorageError):
        draw_pair(pair("maximum"), tmp_path / "in_the_way" / "x.png", title="")
