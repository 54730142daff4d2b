import errno
import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from reid.engine.log import TrainingLog, read_log
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


@pytest.mark.parametrize(
    "damage", ["{", "[]", "3", '{"event": "step"}', '{"step": 1}', '{"event": "step", "step": "one"}']
)
def test_a_damaged_line_is_named(damage, tmp_path):
    write(tmp_path, [1])
    text = (tmp_path / "log.jsonl").read_text() + damage + "\n"
    (tmp_path / "log.jsonl").write_text(text)
    for read in (lambda: TrainingLog(tmp_path, 5), lambda: read_log(tmp_path / "log.jsonl")):
        with pytest.raises(CheckpointError, match=r"log\.jsonl:2: wanted a JSON object"):
            read()
    assert (tmp_path / "log.jsonl").read_text() == text


def test_the_log_is_read_as_it_was_written(tmp_path):
    write(tmp_path, [1, 2], lr=None, accuracy=0.1)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 3}')
    facts = {"epoch": 1, "lr": None, "accuracy": 0.1}
    assert read_log(tmp_path / "log.jsonl") == [
        {"event": "step", "step": step, "loss": float(step), **facts} for step in (1, 2)
    ]


@pytest.mark.parametrize("content", [None, b"\xff\n"])
def test_a_log_that_cannot_be_read(tmp_path, content):
    if content is not None:
        (tmp_path / "log.jsonl").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_log(tmp_path / "log.jsonl")


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
    with pytest.raises(StorageError, match=r"No space left on device\..*Free some space"):
        log.write("step", step=2, loss=1.0)
    log.close()
