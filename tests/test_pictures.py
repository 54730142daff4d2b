import numpy as np
import pytest
from PIL import Image

from reid.errors import StorageError
from reid.evaluate import evaluate
from reid.pictures import draw_pictures
from reid.train import train


@pytest.fixture
def drawn(tiny, new_run, session):
    """Draw the pictures of an experiment."""

    def draw(**changes):
        run = new_run({**tiny, **changes})
        train(run, session)
        draw_pictures(run, *evaluate(run, session))
        return run

    return draw


def test_a_run_leaves_pictures(drawn):
    run = drawn(validation_pids=3, evaluation={"ap_rule": "trapezoid", "camera_rule": False})
    names = {"cmc.png", "training.png", "ranks_market1501.png", "ranks_validation.png"}
    assert {path.name for path in run.figures.iterdir()} == names
    for path in run.figures.iterdir():
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert np.asarray(image.convert("L")).std() > 5


def test_an_untrained_model_has_no_training_curves(drawn):
    run = drawn(stage=[])
    assert {path.name for path in run.figures.iterdir()} == {"cmc.png", "ranks_market1501.png"}


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
    assert {path.name for path in (tmp_path / "elsewhere").iterdir()} == {"cmc.png", "ranks_market1501.png"}
    assert not run.figures.exists()
