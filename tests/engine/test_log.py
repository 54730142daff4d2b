import errno
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reid.engine.log import TrainingLog
from reid.errors import CheckpointError, StorageError


def write(folder, steps, last_step=0, **facts):
    log = TrainingLog(folder, last_step)
    for step in steps:
        log.write("step", step=step, epoch=1, **{"loss": float(step), **facts})
    log.close()


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_lines_and_curves(tmp_path):
    write(tmp_path / "run", [1, 2], accuracy=0.5, lr=None)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[1] == {"event": "step", "step": 2, "epoch": 1, "loss": 2.0, "accuracy": 0.5, "lr": None}
    events = EventAccumulator(str(tmp_path / "run" / "events")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("step/loss")] == [(1, 1.0), (2, 2.0)]
    assert set(events.Tags()["scalars"]) == {"step/loss", "step/accuracy"}


def test_what_an_interrupted_epoch_left_is_removed(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], last_step=2)
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    curve = EventAccumulator(str(tmp_path / "events")).Reload().Scalars("step/loss")
    assert [event.step for event in curve] == [1, 2, 3, 4, 5]


def test_a_half_written_last_line_is_removed(tmp_path):
    write(tmp_path, [1, 2])
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    write(tmp_path, [3], last_step=2)
    assert steps(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("damage", ["{", "[]", '{"event": "step"}', '{"step": "one"}'])
def test_a_damaged_line_is_named(damage, tmp_path):
    write(tmp_path, [1])
    text = (tmp_path / "log.jsonl").read_text() + damage + "\n"
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(CheckpointError, match=r"log\.jsonl:2: wanted a JSON object"):
        TrainingLog(tmp_path, 5)
    assert (tmp_path / "log.jsonl").read_text() == text


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(StorageError, match=r"log\.jsonl.*cannot be written"):
        TrainingLog(tmp_path / "run")


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    log = TrainingLog(tmp_path)
    log.write("step", step=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log._events, "add_scalar", full)
    with pytest.raises(StorageError, match=r"No space left on device\. Free some space"):
        log.write("step", step=2, loss=1.0)
    log.close()
