"""The folder a run leaves: configuration, environment, log, checkpoints, results, figures."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import torch

from reid.errors import CheckpointError, ConfigError, StorageError
from reid.experiment import Experiment, read_experiment, to_toml
from reid.files import write_json, write_text
from reid.progress import Progress

PACKAGES = ("reid", "torch", "torchvision", "numpy", "pillow", "safetensors")
CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Session:
    """What a command works with, as opposed to what it computes.

    Attributes:
        data_root: folder that holds the data sets.
        device: where the model is.
        num_workers: processes that decode images.
        progress: where long work reports to.
    """

    data_root: Path
    device: torch.device
    num_workers: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where everything of one run lies.

    ``config.toml`` (resolved), ``environment.json``, ``log.jsonl``, ``events/``, ``checkpoints/epoch_N/``,
    ``results.json``, ``figures/``.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved experiment."""
        return self.path / "config.toml"

    @property
    def log(self) -> Path:
        """The training log, one JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def results(self) -> Path:
        """Metrics and per-query ranks of every target."""
        return self.path / "results.json"

    @property
    def figures(self) -> Path:
        """Folder of the pictures."""
        return self.path / "figures"

    def experiment(self, assignments: Sequence[str] = ()) -> Experiment:
        """The experiment that was run, with ``--set`` assignments applied.

        Raises:
            CheckpointError: the folder is no run folder.
        """
        if not self.config.is_file():
            raise CheckpointError(
                f"{self.path}: wanted a run folder with config.toml, found none. See 'reid run --help'."
            )
        return read_experiment(self.config, assignments)


def create_run(path: Path, experiment: Experiment) -> RunFolder:
    """Begin a run folder.

    Raises:
        ConfigError: there is a run at ``path`` already.
        StorageError: the folder cannot be written.
    """
    run = RunFolder(path)
    if run.config.exists():
        raise ConfigError(f"{path}: holds a run already. Continue it with --resume, or choose another --out.")
    if path.exists() and not path.is_dir():
        raise StorageError(f"{path}: wanted a folder for the run, found a file. Choose another --out.")
    write_json(path / "environment.json", environment())
    write_text(run.config, to_toml(experiment))
    return run


def resume_run(path: Path, experiment: Experiment) -> RunFolder:
    """Open a run folder to go on with the same experiment.

    Raises:
        CheckpointError: there is no run at ``path``.
        ConfigError: it was another experiment; the message names what differs.
    """
    run = RunFolder(path)
    wanted, found = (e.model_dump(mode="json", exclude_none=True) for e in (experiment, run.experiment()))
    differing = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
    if differing:
        raise ConfigError(
            f"{path}: was begun with another configuration ({', '.join(differing)} differ). "
            "Resume with the same one, or start anew with another --out."
        )
    return run


def free_run_path(parent: Path, name: str) -> Path:
    """``parent/name``, or the first of ``name_2``, ``name_3`` ... that is not taken."""
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    return next(parent / candidate for candidate in names if not (parent / candidate).exists())


def environment() -> dict[str, Any]:
    """What the run ran on: versions, machine, commit. No paths, no names of hosts or users."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "system": platform.system(),
        "machine": machine(),
        "commit": commit(),
    }


def machine() -> str:
    """Processor, threads and GPU in a few words."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {capability}, {torch.get_num_threads()} threads{gpu}"


def commit() -> str:
    """Commit of the checkout that is running, ``+`` behind it where files differ; the version where there is none."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],  # noqa: S607 - whatever git is installed
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return f"v{metadata.version('reid')}"
    return described.stdout.strip()
