import json

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from reid.errors import CheckpointError, ShapeError, StorageError
from reid.report._canvas import BLUE, LINE_COLOURS, ORANGE
from reid.report.charts import draw_cmc, draw_training
from tests.report.runs import run, target


def pixels_of(path, colour: str) -> np.ndarray:
    """Where a picture has exactly this colour, [rows, columns], bool."""
    image = np.asarray(Image.open(path).convert("RGB"), dtype=np.int64)
    wanted = np.round(np.array(to_rgb(colour)) * 255).astype(np.int64)
    return (np.abs(image - wanted) <= 1).all(axis=2)


def event(kind: str, step: int, **facts):
    return {"event": kind, "step": step, "stage": 0, "epoch": 1, "lr": 0.01, "loss": 1.0, "accuracy": 0.5, **facts}


def write_log(path, events):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in events), encoding="utf-8")
    return path


def test_cmc_has_a_line_of_its_own_colour_for_every_target(tmp_path):
    curves = [target("_a $x$ ^_"), target("b", cmc=(0.25,) * 50, rank1=0.25)]
    draw_cmc([run(*curves)], tmp_path / "figures" / "cmc.png")
    path = tmp_path / "figures" / "cmc.png"
    for colour in LINE_COLOURS[:2]:
        assert pixels_of(path, colour).sum() > 100
    assert pixels_of(path, LINE_COLOURS[2]).sum() == 0
    assert [entry.name for entry in path.parent.iterdir()] == ["cmc.png"]


def test_a_higher_curve_is_drawn_higher(tmp_path):
    draw_cmc([run(target("a", cmc=(0.9,) * 50), target("b", cmc=(0.2,) * 50))], tmp_path / "cmc.png")
    rows = [
        np.flatnonzero(pixels_of(tmp_path / "cmc.png", colour).sum(axis=1) > 300).mean() for colour in LINE_COLOURS[:2]
    ]
    assert rows[0] < rows[1]


def test_more_curves_than_colours(tmp_path):
    draw_cmc([run(*[target(str(idx)) for idx in range(9)])], tmp_path / "cmc.png")
    assert (tmp_path / "cmc.png").stat().st_size > 0


def test_no_curve_is_an_error(tmp_path):
    with pytest.raises(ShapeError, match="found none"):
        draw_cmc([run()], tmp_path / "cmc.png")


def test_training_curves_mark_the_next_stage_only_where_there_is_one(tmp_path):
    one = [event("step", 5), event("epoch", 10, images_per_s=60.0), event("epoch", 20, images_per_s=61.0)]
    draw_training(write_log(tmp_path / "one.jsonl", one), tmp_path / "one.png", title="x")
    draw_training(
        write_log(tmp_path / "two.jsonl", [*one, event("epoch", 30, stage=1)]), tmp_path / "two.png", title="x"
    )
    assert pixels_of(tmp_path / "one.png", BLUE).sum() > 100
    assert pixels_of(tmp_path / "one.png", ORANGE).sum() == 0
    assert pixels_of(tmp_path / "two.png", ORANGE).sum() > 0


def test_a_run_that_was_stopped_while_it_wrote_is_drawn(tmp_path):
    log = write_log(tmp_path / "log.jsonl", [event("epoch", 1)])
    log.write_text(log.read_text() + '{"event": "st')
    draw_training(log, tmp_path / "x.png", title="x")
    assert pixels_of(tmp_path / "x.png", BLUE).sum() > 0


def test_no_log_and_no_epoch_are_errors(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        draw_training(tmp_path / "log.jsonl", tmp_path / "x.png", title="x")
    log = write_log(tmp_path / "log.jsonl", [event("step", 1)])
    with pytest.raises(CheckpointError, match="found none"):
        draw_training(log, tmp_path / "x.png", title="x")


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        draw_cmc([run(target())], tmp_path / "file" / "cmc.png")
