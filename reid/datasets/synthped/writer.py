"""Drawing a whole data set into a folder of the Market-1501 form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reid.datasets._market_form import FOLDERS
from reid.datasets.synthped._config import Config
from reid.datasets.synthped.domains import DOMAINS, Domain
from reid.datasets.synthped.network import Camera, install
from reid.datasets.synthped.photograph import Photographs, photograph
from reid.datasets.synthped.views import FRAMES_PER_S, SHOT_SPAN_S, Shot, empty_shot, tracklet
from reid.datasets.synthped.wardrobe import sample_person
from reid.progress import Progress

_CAMERA, _TRAIN, _TEST, _DISTRACTOR, _JUNK = range(5)
_BATCH = 12


@dataclass(frozen=True, slots=True)
class Job:
    """One person, distractor or junk box: the plans of its images, and the split of each."""

    shots: Sequence[Shot]
    splits: Sequence[str]
    pid: int


def stream(plan: Config, *key: int) -> np.random.Generator:
    """The random numbers of one thing, whatever else is drawn."""
    return np.random.default_rng([plan.seed, DOMAINS[plan.domain].key, *key])


def install_cameras(plan: Config) -> list[Camera]:
    """The domain's cameras."""
    return [install(stream(plan, _CAMERA, index), DOMAINS[plan.domain]) for index in range(plan.num_cameras)]


def draw_set(plan: Config, folder: Path, progress: Progress) -> dict[str, int]:
    """Draw all images of a data set.

    Args:
        plan: how much.
        folder: an empty folder; it gets the three folders of Market-1501.
        progress: where to report.

    Returns:
        split -> number of images, junk included.
    """
    cameras = install_cameras(plan)
    counts = dict.fromkeys(FOLDERS, 0)
    for name in FOLDERS.values():
        (folder / name).mkdir()
    total = sum(len(job.shots) for job in jobs(plan, cameras))  # planning takes a hundredth of the time of drawing
    with progress.bar(f"drawing {plan.domain}", total, "images") as bar:
        for batch in _batches(jobs(plan, cameras)):
            photos = photograph([shot for shot, _, _ in batch], cameras, plan.image_size)
            for (shot, split, pid), image in zip(batch, photos.image, strict=True):
                _save(image, folder / FOLDERS[split] / file_name(pid, shot), cameras[shot.camid].quality)
                counts[split] += 1
            bar.advance(len(batch))
    return counts


def _batches(planned: Iterable[Job]) -> Iterator[list[tuple[Shot, str, int]]]:
    """(plan, split, pid) of the images, in groups that are drawn together for speed; no image depends on its group."""
    batch: list[tuple[Shot, str, int]] = []
    for job in planned:
        batch += [(shot, split, job.pid) for shot, split in zip(job.shots, job.splits, strict=True)]
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def file_name(pid: int, shot: Shot) -> str:
    """``0002_c1s1_000451_03.jpg``: identity (-1 for junk), camera, sequence, frame, box."""
    identity = "-1" if pid < 0 else f"{pid:04d}"
    return f"{identity}_c{shot.camid + 1}s1_{shot.frame:06d}_{shot.box:02d}.jpg"


def _save(image: NDArray[np.uint8], path: Path, quality: int) -> None:
    Image.fromarray(image).save(path, quality=quality)


def jobs(plan: Config, cameras: Sequence[Camera]) -> Iterator[Job]:
    """What is to be drawn, piece by piece; every piece depends on the seed and its own number alone."""
    for index in range(plan.num_train_pids):
        yield _person(plan, cameras, _TRAIN, index)
    for index in range(plan.num_test_pids):
        yield _person(plan, cameras, _TEST, index)
    for index in range(plan.num_distractors):
        yield _stray(plan, cameras, _DISTRACTOR, index)
    for index in range(plan.num_junk):
        yield _stray(plan, cameras, _JUNK, index)


def render(plan: Config, index: int, *, train: bool = True) -> Photographs:
    """The images of one person of a data set, before JPEG, with their true surface points.

    Args:
        plan: of the data set.
        index: of the person in its split, from 0.
        train: the training split, or else query and gallery.

    Returns:
        The person's N images in the order of time, first camera first, with part, uv and albedo.
    """
    cameras = install_cameras(plan)
    job = _person(plan, cameras, _TRAIN if train else _TEST, index)
    return photograph(job.shots, cameras, plan.image_size)


def person_pid(split: int, index: int) -> int:
    """Odd numbers for training, even ones for testing, so that neither depends on how many the other has."""
    return 2 * index + (1 if split == _TRAIN else 2)


def _person(plan: Config, cameras: Sequence[Camera], split: int, index: int) -> Job:
    rng = stream(plan, split, index)
    domain = DOMAINS[plan.domain]
    person = sample_person(rng, domain.wardrobe)
    frame = int(rng.uniform(0, SHOT_SPAN_S) * FRAMES_PER_S)
    shots: list[Shot] = []
    splits: list[str] = []
    for visit, camid in enumerate(_route(rng, plan)):
        taken = tracklet(rng, person, (domain, cameras[camid], camid), (frame, plan.images_per_camera), plan.image_size)
        frame = taken[-1].frame + int(rng.uniform(15, 120) * FRAMES_PER_S)
        shots += taken
        rest = "train" if split == _TRAIN else "gallery"
        splits += ["query" if rest == "gallery" and visit < plan.queries_per_pid else rest] + [rest] * (len(taken) - 1)
    return Job(shots, splits, person_pid(split, index))


def _route(rng: np.random.Generator, plan: Config) -> list[int]:
    """The cameras a person passes, in order: all of them, or all but one."""
    order: list[int] = rng.permutation(plan.num_cameras).tolist()
    missed = plan.num_cameras > 2 and rng.random() < 0.4
    return order[1:] if missed else order


def _stray(plan: Config, cameras: Sequence[Camera], kind: int, index: int) -> Job:
    """A distractor (a stranger, or nothing at all), or a junk box that shows some of a person."""
    rng = stream(plan, kind, index)
    domain: Domain = DOMAINS[plan.domain]
    camid = int(rng.integers(plan.num_cameras))
    # Strays share their pid, so their frames must differ for their file names to.
    frame = int(rng.uniform(0, SHOT_SPAN_S) * FRAMES_PER_S) // 1000 * 1000 + index % 1000
    place = (domain, cameras[camid], camid)
    if kind == _DISTRACTOR and rng.random() < 0.5:
        shots = [empty_shot(rng, place, frame, plan.image_size)]
    else:
        spoil = 1.0 if kind == _DISTRACTOR else 4.0
        shots = tracklet(rng, sample_person(rng, domain.wardrobe), place, (frame, 1), plan.image_size, spoil=spoil)
    shots = [replace(shot, box=1 + index // 1000) for shot in shots]
    return Job(shots, ["gallery"], 0 if kind == _DISTRACTOR else -1)
