import json
from dataclasses import asdict

import pytest

from reid.engine import tally
from reid.engine.tally import Clock, Tally


def test_means_are_over_finite_steps(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(tally.time, "perf_counter", lambda: now[0])
    counted = Tally(num_workers=3, started=100.0)
    counted.add(2.0, 0.5, 8, wait_s=0.5, read_s=0.5)
    counted.add(None, 0.0, 8, wait_s=0.25, read_s=1.0)
    counted.add(4.0, 1.0, 4, wait_s=0.25, read_s=0.5)
    now[0] = 104.0
    assert counted.facts() == {
        "loss": 3.0,
        "accuracy": 0.75,
        "images_per_s": 5.0,
        "loader_images_per_s": 30.0,  # 20 images in 2 s, three times
        "model_images_per_s": pytest.approx(20 / 3),
        "loader_wait_share": 0.25,
        "seconds": 4.0,
    }
    assert (counted.steps, counted.finite_steps, counted.images) == (3, 2, 20)


def test_no_finite_step_divides_by_nothing():
    counted = Tally()
    counted.add(None, 0.0, 8, wait_s=0.0, read_s=0.0)
    assert counted.facts()["loss"] == 0
    assert counted.finite_steps == 0


def test_the_clock_survives_json():
    clock = Clock(stage=1, stage_epoch=2, stage_done=True, epoch=5, step=70, images=560, seconds=1.5)
    assert Clock(**json.loads(json.dumps(asdict(clock)))) == clock
    assert Clock() == Clock(epoch=0, step=0)
    assert pytest.approx(0.0) == Clock().seconds


def test_the_next_stage_begins_at_its_beginning_and_the_rest_goes_on():
    clock = Clock(stage=1, stage_epoch=2, stage_done=True, epoch=5, step=70, images=560, seconds=1.5)
    clock.next_stage()
    assert clock == Clock(stage=2, stage_epoch=0, stage_done=False, epoch=5, step=70, images=560, seconds=1.5)
