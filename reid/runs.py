"""The folder a run leaves: configuration, environment, log, checkpoints, results, figures."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

import torch

from reid.errors import CheckpointError, ConfigError, StorageError
from reid.experiment import differing, read_experiment, to_toml, with_shared_backbone
from reid.files import write_json, write_text
from reid.progress import Progress
from reid.schema import Experiment

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
    ``results.json``, ``figures/``, ``correspondences.json``; of tests with other targets or rules ``results_2.json``,
    ``results_2/`` ...
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved experiment."""
        return self.path / "config.toml"

    @property
    def environment(self) -> Path:
        """What it ran on."""
        return self.path / "environment.json"

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
    def correspondences(self) -> Path:
        """What ``reid correspond`` measured."""
        return self.path / "correspondences.json"

    @property
    def figures(self) -> Path:
        """Folder of the pictures."""
        return self.path / "figures"

    def experiment(self, assignments: Sequence[str] = ()) -> Experiment:
        """The experiment that was run.

        Args:
            assignments: other targets or rules of evaluation, such as ``evaluation.camera_rule=false``.

        Raises:
            CheckpointError: the folder is no run folder.
            ConfigError: an assignment does not fit, or would change what was trained.
        """
        if not self.config.is_file():
            raise CheckpointError(
                f"{self.path}: wanted a run folder with config.toml, found none. See 'reid run --help'."
            )
        trained = read_experiment(self.config)
        tested = read_experiment(self.config, assignments)
        changed = [key for key in differing(trained, tested) if key not in ("target", "evaluation")]
        if changed:
            raise ConfigError(
                f"{self.path}: its training cannot be changed any more ({', '.join(changed)}). Set keys of target and "
                "evaluation only, or train anew."
            )
        return tested


def create_run(path: Path, experiment: Experiment) -> RunFolder:
    """Begin a run folder.

    Raises:
        ConfigError: there is a run at ``path`` already.
        StorageError: the folder cannot be written.
    """
    run, experiment = RunFolder(path), with_shared_backbone(experiment)
    if run.config.exists():
        raise ConfigError(f"{path}: holds a run already. Continue it with --resume, or choose another --out.")
    if path.exists() and not path.is_dir():
        raise StorageError(f"{path}: wanted a folder for the run, found a file. Choose another.")
    there = sorted(path.iterdir())[:1] if path.exists() else []
    if there:  # a run that fails clears its folder away
        found = there[0].name
        raise ConfigError(f"{path}: wanted a new or empty folder for the run, found {found} in it. Choose another.")
    write_json(run.environment, environment())
    write_text(run.config, to_toml(experiment))
    return run


def discard_unbegun(run: RunFolder) -> None:
    """Remove what a run left that failed before its first checkpoint, so that the next try finds the place free.

    A folder with a checkpoint or results stays as it is, and so do files that are not the run's.
    """
    if run.results.exists() or any(run.checkpoints.glob("*")):
        return
    with suppress(OSError):  # what made the run fail is what the user has to hear about
        for file in (run.config, run.environment, run.log):
            file.unlink(missing_ok=True)
        shutil.rmtree(run.path / "events", ignore_errors=True)
        for folder in (run.checkpoints, run.path):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def resume_run(path: Path, experiment: Experiment) -> RunFolder:
    """Open a run folder to go on with the same experiment.

    Raises:
        CheckpointError: there is no run at ``path``.
        ConfigError: it was another experiment; the message names what differs.
    """
    run = RunFolder(path)
    others = differing(with_shared_backbone(experiment), run.experiment())
    if others:
        raise ConfigError(
            f"{path}: was begun with another configuration ({', '.join(others)} differ). "
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
