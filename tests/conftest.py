"""A data root with tiny drawn images in the Market-1501 form, and experiments small enough to train in a second."""

import copy
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w
import torch

from reid import cli, cli_evaluate
from reid.engine.checkpoint import latest, load_checkpoint
from reid.experiment import resolve
from reid.progress import Silent
from reid.runs import Session, create_run
from reid.train import train
from tests.drawn import TINY, draw_market


class InterruptedBar:
    def __init__(self, progress):
        self._progress = progress

    def advance(self, count=1, **facts):
        self._progress.steps_left -= count
        if self._progress.steps_left == 0:
            raise KeyboardInterrupt


class QuietBar:
    def advance(self, count=1, **facts):
        pass


class Interrupting:
    """Progress that presses Ctrl-C once ``steps`` training steps are done."""

    def __init__(self, steps):
        self.steps_left = steps

    @contextmanager
    def bar(self, label, total, unit):
        yield InterruptedBar(self) if unit == "step" else QuietBar()

    def say(self, message):
        pass


@pytest.fixture(autouse=True)
def _nobody_writes_into_the_checkout(tmp_path, monkeypatch):
    """A run without ``--out`` goes into the folder one stands in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def drawn_root(tmp_path_factory):
    """A data root nobody changes, with ``market``."""
    root = tmp_path_factory.mktemp("data")
    draw_market(root / "market")
    return root


@pytest.fixture
def data_root(tmp_path):
    """A data root of the test's own, with ``market``."""
    draw_market(tmp_path / "data" / "market")
    return tmp_path / "data"


@pytest.fixture
def tiny():
    """The table of a tiny experiment, to be changed at will."""
    return copy.deepcopy(TINY)


@pytest.fixture
def session_on():
    """Make a session."""

    def make(data_root, *, num_workers=0, progress=None):
        return Session(Path(data_root), torch.device("cpu"), num_workers, progress or Silent())

    return make


@pytest.fixture
def session(drawn_root, session_on):
    """A silent session on the drawn data."""
    return session_on(drawn_root)


@pytest.fixture
def new_run(tmp_path):
    """Begin a run of an experiment's table."""

    def make(table, name="run"):
        return create_run(tmp_path / name, resolve(table, "a test"))

    return make


@pytest.fixture
def made(tiny, new_run, session):
    """Make a run of the tiny experiment, changed, and train it."""

    def make(name, **changes):
        run = new_run({**tiny, **changes}, name)
        train(run, session)
        return run

    return make


@pytest.fixture
def interrupting():
    """Progress that raises KeyboardInterrupt after so many steps."""
    return Interrupting


@pytest.fixture
def toml(tmp_path):
    """Write an experiment file."""

    def write(table, name="tiny.toml"):
        path = tmp_path / name
        path.write_text(tomli_w.dumps(table), encoding="utf-8")
        return path

    return write


@pytest.fixture
def reid(monkeypatch, capsys):
    """Run the ``reid`` command in this process: (exit code, standard output, standard error)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["reid", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than all the rest of a tiny run."""
    for module in (cli, cli_evaluate):
        monkeypatch.setattr(module, "draw_pictures", lambda *_: None)
    monkeypatch.setattr(cli, "drawn", lambda _: True)


@pytest.fixture
def weights_of():
    """Every tensor of a run's last checkpoint, by name."""

    def read(run):
        checkpoint = load_checkpoint(latest(run.checkpoints))
        return {**checkpoint.model, **checkpoint.state}

    return read


@pytest.fixture
def files_below():
    """Bytes of every file below a folder, by relative name."""

    def read(folder):
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read
