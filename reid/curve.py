"""Quality over time: what a second stage brings, and takes, as it puts more and more images in order."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from reid.domains import Target, open_domains
from reid.engine.extract import Extraction, extract, extract_both
from reid.engine.model import Model
from reid.engine.two_stages import TwoStages
from reid.errors import ConfigError
from reid.evaluation.curve import Curve, Curves, Line, Point, heads
from reid.evaluation.labels import CameraRule
from reid.evaluation.reranked import Figures
from reid.evaluation.scoring import Scoring
from reid.evaluation.shortlist import Shortlist, gallery_digest, rescore
from reid.evaluation.states import collect_states
from reid.models import load_model
from reid.runs import RunFolder, Session, commit, machine
from reid.schema import Experiment
from reid.trained_on import inherited_domains, new_targets, training_domains
from reid.trial import How
from reid.trial_in_two import refuse_unfit, reorder
from reid.types import ImageRecord, ImageState

T = TypeVar("T")
NUM_TIMED = 9
"""Queries whose time is taken, one by one; the first of them warms up."""


def measure_curves(
    first: RunFolder,
    seconds: Sequence[RunFolder],
    session: Session,
    *,
    top_ks: Sequence[int],
    assignments: Sequence[str] = (),
) -> Curves:
    """Measure mAP, Rank-1 and seconds a query of second stages for several lengths of the shortlist.

    All pairs of the longest shortlist are compared once; a shorter one is its head. Times are of one query at a time:
    it is read and encoded alone, and the second stage's time is taken anew for every length. Only the first stage's
    scores are those of the whole test, where many queries are compared together.

    Args:
        first: the run that proposes; its targets are tested, and its rules of evaluation count.
        seconds: runs whose matchers put the proposed images in order; at least one.
        session: where and with what.
        top_ks: lengths of the shortlist, at least one.
        assignments: other targets or rules of evaluation, such as ``evaluation.camera_rule=false``.

    Raises:
        ConfigError: a length is below 1 or beyond a gallery, there is nothing to test, or classical re-rankers are
            asked for.
        ReidError: a run has no checkpoint, a target is missing, or a stage was trained on it.
    """
    experiment = first.experiment(assignments)
    targets = _open_targets(first, experiment, seconds, session)
    lengths = _ascending(top_ks)
    how = How(experiment.evaluation, session, first.path)
    refuse_unfit(how, lengths[-1], targets)
    model = load_model(first, session.device)
    stages = {
        name: TwoStages(model, load_model(second, session.device), lengths[-1])
        for name, second in zip(_names(seconds), seconds, strict=True)
    }
    return Curves(
        method=_name(experiment),
        precision=experiment.evaluation.precision,
        state_precision=experiment.evaluation.state_precision,
        curves=tuple(_curve(target, stages, lengths, how) for target in targets),
        machine=machine(),
        commit=commit(),
    )


def _open_targets(
    first: RunFolder, experiment: Experiment, seconds: Sequence[RunFolder], session: Session
) -> list[Target]:
    """What no stage was trained on: all targets, and held-out identities that are new to the second stages too."""
    domains = open_domains(experiment, session)
    others = [second.experiment().model_copy(update={"target": experiment.target}) for second in seconds]
    trained = [opened for each in others for opened in training_domains(each, session)]
    trained += inherited_domains(experiment, session)
    return new_targets(first.path, trained, domains.targets, session.progress)


def _ascending(top_ks: Sequence[int]) -> list[int]:
    """Each once."""
    lengths = sorted(set(top_ks))
    if not lengths or lengths[0] < 1:
        raise ConfigError(f"top_k: wanted numbers from 1, found {', '.join(map(str, lengths)) or 'none'}.")
    return lengths


def _names(runs: Sequence[RunFolder]) -> list[str]:
    """Of second stages, told apart by their folders where need be."""
    names = [_name(run.experiment()) for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({run.path.name}, {number})"
        for number, (name, run) in enumerate(zip(names, runs, strict=True), start=1)
    ]


def _name(experiment: Experiment) -> str:
    return f"{experiment.title}, seed {experiment.seed}"


@dataclass(frozen=True, slots=True)
class _Measured:
    first: Figures
    camera_rule: CameraRule
    score_s: float
    line: Line


def _curve(target: Target, stages: Mapping[str, TwoStages], lengths: Sequence[int], how: How) -> Curve:
    measured = [_measure(name, two, target, lengths, how) for name, two in stages.items()]
    model = next(iter(stages.values())).first
    alone = extract(model, target.query[:NUM_TIMED], _one_by_one(how))
    return Curve(
        target=target.label,
        counts_checked=target.counts_checked,
        camera_rule=measured[0].camera_rule,
        num_query=len(target.query),
        num_gallery=len(target.gallery),
        first=measured[0].first,
        encode_s=_timed(alone, model.device)[1],
        score_s=measured[0].score_s,
        lines=tuple(one.line for one in measured),
    )


def _measure(name: str, two: TwoStages, target: Target, lengths: Sequence[int], how: How) -> _Measured:
    """One line, and what the same test says of the first stage alone."""
    found = reorder(two, target, how)
    judge = how.judge(found.scores, target)
    score_s = found.scores.score_s / len(target.query)
    encode_s, rescore_s = _times(two, target, lengths, how)
    figures = heads(judge, found.shortlist, found.second_QK, lengths)
    points = tuple(
        Point(top_k=k, figures=own, oracle=oracle, rescore_s=pairs_s, query_s=encode_s + score_s + pairs_s)
        for k, (own, oracle), pairs_s in zip(lengths, figures, rescore_s, strict=True)
    )
    line = Line(method=name, encode_s=encode_s, one_backbone=two.one_backbone, points=points)
    return _Measured(judge.as_scored().figures, judge.truth.camera_rule, score_s, line)


def _times(two: TwoStages, target: Target, lengths: Sequence[int], how: How) -> tuple[float, list[float]]:
    """Seconds to encode a query for both stages, and to compare it with so many images in the second."""
    sample, one = target.query[:NUM_TIMED], _one_by_one(how)
    if two.one_backbone:
        both: Iterator[tuple[ImageState, ImageState]] = extract_both(two.first, two.second, sample, one)
    else:
        both = zip(extract(two.first, sample, one), extract(two.second, sample, one), strict=True)
    states, encode_s = _timed(both, two.first.device)
    listed = target.gallery[: lengths[-1]]
    room, file = how.scoring.query_memory // 2, how.folder / f"{target.file_name}.gallery"
    images = collect_states(extract(two.second, listed, how.extraction), len(listed), max_memory=room, file=file)
    queries = [state for _, state in states]
    return encode_s, [_rescore_s(two.second, queries, images[:k], listed[:k], how.scoring) for k in lengths]


def _rescore_s(
    second: Model,
    queries: Sequence[ImageState],
    gallery: ImageState,
    images: Sequence[ImageRecord],
    scoring: Scoring,
) -> float:
    """Seconds that a query takes with so many images; which they are makes no difference."""
    k = len(images)
    shortlist = Shortlist(np.arange(k)[None], np.zeros((1, k), dtype=np.float32), gallery_digest(images))
    each = (rescore(second.score, query, gallery, shortlist, images, how=scoring) for query in queries)
    return _timed(each, second.device)[1]


def _timed(steps: Iterable[T], device: torch.device) -> tuple[list[T], float]:
    """What an iterator yields, and the median of the seconds that each took but the first, which warms up."""
    values, seconds = [], []
    started = time.perf_counter()
    for value in steps:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        values.append(value)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    return values, statistics.median(seconds[1:] or seconds)


def _one_by_one(how: How) -> Extraction:
    return replace(how.extraction, batch_size=1, num_workers=0)
