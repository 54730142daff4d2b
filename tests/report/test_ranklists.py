import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from reid.errors import ImageError, ShapeError
from reid.evaluation.ranking import Ranking
from reid.report import ranklists
from reid.report._canvas import GREEN, RED
from reid.report.ranklists import draw_rank_lists, pick_queries, rank_lists
from reid.types import ImageRecord


@pytest.fixture
def images(tmp_path):
    def make(name, pid, camid, role="person"):
        path = tmp_path / f"{name}.png"
        Image.new("RGB", (16, 32), (40, 60, 80)).save(path)
        return ImageRecord(path, pid, camid, role=role)

    return make


@pytest.fixture
def case(images):
    query = [images("q0", 1, 0), images("q1", 2, 0)]
    gallery = [
        images("same_camera", 1, 0),
        images("junk", -1, 0, "junk"),
        images("match", 1, 1),
        images("distractor", -1, 1, "distractor"),
        images("other", 3, 2),
    ]
    return query, gallery, np.array([[9.0, 8.0, 1.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)


def has_colour(path, colour: str) -> bool:
    image = np.asarray(Image.open(path).convert("RGB"), dtype=np.int64)
    wanted = np.round(np.array(to_rgb(colour)) * 255).astype(np.int64)
    return bool((np.abs(image - wanted) <= 1).all(axis=2).sum() > 50)


def test_lists_leave_out_what_the_metrics_leave_out(case):
    query, gallery, score_QG = case
    first, second = rank_lists(score_QG, query, gallery, [0, 1])
    assert [(place.image.path.stem, place.verdict, place.score) for place in first.places] == [
        ("distractor", "distractor", 3.0),
        ("other", "wrong", 2.0),
        ("match", "right", 1.0),
    ]
    assert [place.image.path.stem for place in second.places] == ["other", "distractor", "match", "same_camera"]
    assert first.query is query[0]


def test_without_the_camera_rule_the_own_camera_is_shown(case):
    query, gallery, score_QG = case
    (shown,) = rank_lists(score_QG, query, gallery, [0], top=1, camera_rule=False)
    assert [(place.image.path.stem, place.verdict) for place in shown.places] == [("same_camera", "right")]


def test_scores_of_other_images_are_an_error(case):
    query, gallery, score_QG = case
    with pytest.raises(ShapeError, match=r"wanted scores \[2, 4\]"):
        rank_lists(score_QG, query, gallery[1:], [0])


def test_frames_tell_right_from_wrong(case, tmp_path):
    query, gallery, score_QG = case
    lists = rank_lists(score_QG, query, gallery, [0, 1])
    draw_rank_lists(lists, tmp_path / "all.png", title="costs $1 and $2 _^")
    draw_rank_lists(lists[1:], tmp_path / "second.png", title="x")
    assert has_colour(tmp_path / "all.png", GREEN)
    assert has_colour(tmp_path / "all.png", RED)
    assert not has_colour(tmp_path / "second.png", GREEN)
    assert has_colour(tmp_path / "second.png", RED)


def test_an_imposed_order_has_no_scores(case, tmp_path, monkeypatch):
    query, gallery, score_QG = case
    drawn = []
    monkeypatch.setattr(ranklists, "save_png", lambda figure, path: drawn.append(figure))
    scored, ordered = (rank_lists(score_QG, query, gallery, [0], order_alone=alone) for alone in (False, True))
    assert [place.score for place in ordered[0].places] == [None] * 3
    assert [place.image for place in ordered[0].places] == [place.image for place in scored[0].places]
    for lists in (scored, ordered):
        draw_rank_lists(lists, tmp_path / "x.png", title="x")
    captions = [[axes.get_title() for axes in figure.axes] for figure in drawn]
    assert captions[0][1:] == ["1 –  3\ndistractor, c1", "2 ✗  2\nid 3, c2", "3 ✓  1\nid 1, c1"]
    assert captions[1][1:] == ["1 –\ndistractor, c1", "2 ✗\nid 3, c2", "3 ✓\nid 1, c1"]
    legends = [figure.get_supxlabel().splitlines()[1] for figure in drawn]
    assert legends == [
        "above each image: rank, mark, score; identity, camera (from 0)",
        "above each image: rank, mark; identity, camera (from 0)",
    ]


def test_nothing_to_draw_and_a_missing_image_are_errors(case, tmp_path):
    query, gallery, score_QG = case
    with pytest.raises(ShapeError, match="found none"):
        draw_rank_lists([], tmp_path / "x.png", title="x")
    lists = rank_lists(score_QG, query, gallery, [0])
    gallery[4].path.unlink()
    with pytest.raises(ImageError, match="other"):
        draw_rank_lists(lists, tmp_path / "x.png", title="x")
    assert not (tmp_path / "x.png").exists()


def ranking(first_ranks) -> Ranking:
    ranks = tuple(np.array([] if rank is None else [rank], dtype=np.int64) for rank in first_ranks)
    return Ranking(ranks, np.full(len(ranks), 9), {}, "on")


def test_half_of_the_picked_queries_are_wrong():
    of = ranking([1, 2, 1, 3, 1, None, 7, 1])
    picked = pick_queries(of, 4)
    assert [of.rank_Q[idx][0] == 1 for idx in picked] == [True, True, False, False]
    assert picked == pick_queries(of, 4)
    assert len(set(picked)) == 4


@pytest.mark.parametrize(
    ("first_ranks", "num", "right", "wrong"),
    [
        ([1, 1, 1], 2, 2, 0),
        ([2, 3, None], 2, 0, 2),
        ([1, 2, 2, 2], 4, 1, 3),
        ([1, 1, 1, 2], 4, 3, 1),
        ([1, 2], 9, 1, 1),
    ],
)
def test_the_other_kind_fills_up_where_one_is_rare(first_ranks, num, right, wrong):
    of = ranking(first_ranks)
    picked = pick_queries(of, num)
    hits = [of.rank_Q[idx][0] == 1 for idx in picked]
    assert (hits.count(True), hits.count(False)) == (right, wrong)
    assert len(set(picked)) == len(picked)


def test_picked_queries_are_spread_over_the_set():
    picked = pick_queries(ranking([1] * 100), 4)
    assert picked == [12, 37, 62, 87]
