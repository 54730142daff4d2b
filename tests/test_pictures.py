import numpy as np
import pytest
from PIL import Image

from reid import pictures
from reid.errors import StorageError
from reid.evaluate import evaluate
from reid.pictures import draw_pictures
from reid.pipeline import Pipeline
from reid.train import train

EMBEDDING = {"matcher": {"name": "embedding", "stride": 8}, "stage": []}
UNTRAINED = {"cmc.png", "ranks_market1501.png"}


@pytest.fixture
def drawn(tiny, new_run, session):
    """Draw the pictures of an experiment."""

    def draw(**changes):
        run = new_run({**tiny, **changes})
        train(run, session)
        draw_pictures(run, *evaluate(run, session))
        return run

    return draw


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_run_leaves_pictures(drawn):
    run = drawn(validation_pids=3, evaluation={"ap_rule": "trapezoid", "camera_rule": False})
    names = {"cmc.png", "training.png", "ranks_market1501.png", "ranks_validation.png"}
    assert names_in(run.figures) == names
    for path in run.figures.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert np.asarray(image.convert("L")).std() > 5


def test_an_untrained_model_has_no_training_curves(drawn):
    run = drawn(stage=[])
    assert names_in(run.figures) == UNTRAINED


def test_a_file_in_the_way(tiny, new_run, session):
    run = new_run({**tiny, "stage": []})
    train(run, session)
    run.figures.write_text("mine")
    with pytest.raises(StorageError, match="cannot be written"):
        draw_pictures(run, *evaluate(run, session))
    assert run.figures.read_text() == "mine"


def test_pictures_of_other_rules_go_elsewhere(tiny, new_run, session, tmp_path):
    run = new_run({**tiny, "stage": []})
    train(run, session)
    draw_pictures(run, *evaluate(run, session), tmp_path / "elsewhere")
    assert names_in(tmp_path / "elsewhere") == UNTRAINED
    assert not run.figures.exists()


@pytest.fixture
def asked(monkeypatch):
    """What is to be drawn, without drawing it: training curves and sheets of rank lists."""
    found = {"training": [], "lists": []}
    monkeypatch.setattr(pictures, "draw_cmc", lambda *_: None)
    monkeypatch.setattr(pictures, "draw_training", lambda log, _, title: found["training"].append((log, title)))
    monkeypatch.setattr(pictures, "draw_rank_lists", lambda lists, *_, title: found["lists"].append(lists))
    return found


def learning(tiny):
    """An embedding that is trained, for as short as can be."""
    stage = {**tiny["stage"][0], "epochs": 1, "loss": {"name": "triplet"}}
    return {"matcher": EMBEDDING["matcher"], "stage": [stage]}


@pytest.mark.parametrize("first_is_trained", [False, True])
def test_another_runs_training_is_not_drawn(first_is_trained, tiny, made, session, asked):
    """The result tells of the second stage's training, and the log at hand is the first's, if it has one."""
    first = made("first", **(learning(tiny) if first_is_trained else EMBEDDING))
    second = made("second", **learning(tiny), seed=1)
    result, tests = evaluate(first, session, pipeline=Pipeline(first, second, 4, "replace"))
    assert result.training is not None
    draw_pictures(first, result, tests)
    assert not asked["training"]
    assert len(asked["lists"]) == 1


def test_the_training_of_a_run_with_a_first_stage_of_its_own_is_drawn(tiny, made, session, asked):
    first = made("first", **EMBEDDING)
    own = {"title": "a second stage", "first_stage": {"run": str(first.path), "top_k": 4}}
    second = made("second", **learning(tiny), **own, seed=1)
    draw_pictures(second, *evaluate(second, session))
    assert asked["training"] == [(second.log, "a second stage")]
    third = made("third", **learning(tiny), seed=2)
    result, tests = evaluate(second, session, pipeline=Pipeline(second, third, 4, "replace"))
    draw_pictures(second, result, tests)
    assert len(asked["training"]) == 1


def test_the_training_of_a_run_that_is_reranked_is_drawn(tiny, made, session, asked):
    run = made("run", **learning(tiny))
    rerank = 'evaluation.rerank=[{name="k_reciprocal", k1=5, k2=2}]'
    draw_pictures(run, *evaluate(run, session, assignments=[rerank]))
    assert asked["training"] == [(run.log, "tiny")]


def test_rank_lists_of_two_stages_show_the_order_and_no_scores(made, session, asked):
    first, second = made("first", **EMBEDDING), made("second", stage=[], seed=1)
    alone = evaluate(second, session)
    both = evaluate(first, session, pipeline=Pipeline(first, second, 15, "replace"))  # all of the gallery
    for result, tests in (alone, both):
        draw_pictures(first, result, tests)
    scored, ordered = asked["lists"]
    assert [entry.query for entry in scored] == [entry.query for entry in ordered]
    for one, two in zip(scored, ordered, strict=True):
        assert [place.image for place in one.places] == [place.image for place in two.places]
        assert all(place.score is not None for place in one.places)
        assert all(place.score is None for place in two.places)
