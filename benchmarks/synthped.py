"""Images a second that synthped draws and writes, on one thread; 100 are the goal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._rows import Row
from benchmarks._timing import medians
from reid.datasets.synthped import Config
from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.writer import draw_set, install_cameras, jobs
from reid.progress import Silent

GOAL = 100.0
PEOPLE = {"num_train_pids": 10, "num_test_pids": 0, "num_distractors": 0, "num_junk": 0}


def measure() -> list[Row]:
    """Rows: a set of ten people in each domain, its cameras and its JPEG files included, beside the goal."""
    plans = {domain: Config.model_validate({"domain": domain, **PEOPLE}) for domain in DOMAINS}
    seconds = medians({domain: _drawing(plan) for domain, plan in plans.items()})
    rate = {domain: _num_images(plan) / seconds[domain] for domain, plan in plans.items()}
    return [Row(name, value, "images/s", value / GOAL, goal=GOAL, goal_is_value=True) for name, value in rate.items()]


def _drawing(plan: Config) -> Callable[[], object]:
    def draw() -> None:
        with TemporaryDirectory() as folder:
            draw_set(plan, Path(folder), Silent())

    return draw


def _num_images(plan: Config) -> int:
    return sum(len(job.shots) for job in jobs(plan, install_cameras(plan)))
