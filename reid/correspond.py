"""Measure where the matcher of a run finds correspondences, against the truth and against what needs no learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from reid.build import component_config
from reid.data.surface_images import SurfaceImages, draw_surface_images
from reid.data.warps import Level, WarpedPair, held_out_pairs
from reid.datasets.synthped import Config as SynthpedConfig
from reid.domains import Domains, Target, open_domains
from reid.engine.correspondences import IDENTITY, OWN_NEAREST, Findings, find_correspondences
from reid.engine.extract import Extraction
from reid.engine.identity_pairs import draw_identity_pairs, identity_scores
from reid.engine.model import Model
from reid.evaluation.baselines import grid_points, identity_matches
from reid.evaluation.correspondence_results import (
    CorrespondenceResult,
    IdentityResult,
    Measured,
    MethodResult,
    identity_result,
    method_results,
    write_correspondences,
)
from reid.evaluation.keypoint_labels import KeypointLabels, keypoint_labels
from reid.evaluation.keypoint_matches import MatchMetrics, match_metrics
from reid.evaluation.warp_metrics import warp_metrics
from reid.losses.assignment import Config as AssignmentConfig
from reid.match import matching_model
from reid.recipe import describe, recipe, weights_file
from reid.runs import RunFolder, Session, commit, machine
from reid.schema import Experiment
from reid.trained_on import new_targets, training_domains
from reid.types import Warps

_ASKED_EVERY_PX = 4  # all methods are asked where the same positions lie


def correspond(
    run: RunFolder, session: Session, *, num_pairs: int, assignments: Sequence[str] = (), file: Path | None = None
) -> CorrespondenceResult:
    """Test where the model of a run finds matches, on its targets, of which nothing was trained on.

    Of every target: two views of each of its query images, at three levels of difficulty; of a synthped target, pairs
    of renderings of one person and of two as well, whose true surface points are known; and pairs of images that show
    one person or two, for the scores. All of these are always the same.

    Args:
        run: the run.
        session: where and with what.
        num_pairs: most pairs of each kind.
        assignments: other targets, such as ``target=[...]``.
        file: where the result goes; None: ``correspondences.json`` of the run.

    Raises:
        ConfigError: the matcher has no correspondences, or there is no target that the model was not trained on.
        ReidError: the run has no checkpoint, a target is missing, or it was trained on.
    """
    experiment = run.experiment(assignments)
    model = matching_model(run, session.device)
    trained = training_domains(experiment, session)
    own = trained[0] if experiment.stage else open_domains(experiment, session)
    targets = new_targets(run.path, trained, own.targets, session.progress)
    methods: list[MethodResult] = []
    identity: list[IdentityResult] = []
    for target in targets:
        for kind, pairs, count in _sets(target, experiment, num_pairs, session):
            found = find_correspondences(model, pairs, count, session.progress, f"{target.label}, {kind}")
            measured = _measured(found, model, experiment.matcher["name"])
            methods += method_results(target.label, kind, measured[0], measured[1:])
        identity += _identity(target, model, num_pairs, session)
    result = _result(experiment, trained, methods, identity)
    write_correspondences(file or run.correspondences, result)
    return result


def _sets(
    target: Target, experiment: Experiment, num_pairs: int, session: Session
) -> Iterator[tuple[str, Iterator[WarpedPair], int]]:
    """Kind of the pairs, the pairs, and how many they are."""
    step = max(1, len(target.query) // num_pairs)
    images = [record.path for record in target.query[::step]][:num_pairs]
    for level in get_args(Level):
        yield level, held_out_pairs(images, level, experiment.image_size), len(images)
    surfaces = _surfaces(target, experiment, session)
    if surfaces is not None:
        for kind in surfaces.kinds:
            drawn = (surfaces.draw_pair(kind, seed=0, epoch=0, index=index) for index in range(num_pairs))
            yield kind.replace("_", " "), drawn, num_pairs


def _surfaces(target: Target, experiment: Experiment, session: Session) -> SurfaceImages | None:
    """Renderings of the people of a synthped target; None for other targets."""
    for table in experiment.target:
        config = component_config("dataset", table, "[[target]]")
        if isinstance(config, SynthpedConfig) and target.label == (config.label or f"synthped ({config.domain})"):
            return draw_surface_images(
                config,
                config.num_test_pids,
                train=False,
                image_size=experiment.image_size,
                progress=session.progress,
            )
    return None


def _identity(target: Target, model: Model, num_pairs: int, session: Session) -> list[IdentityResult]:
    """ROC-AUC of each of the matcher's scores: one person against two."""
    pairs, same_N = draw_identity_pairs(target.query, target.gallery, 2 * num_pairs)
    if not pairs:
        return []
    how = Extraction(num_workers=session.num_workers)
    scores = identity_scores(model, pairs, how, session.progress, f"{target.label}, one person or two")
    return [identity_result(target.label, name, score_N, same_N) for name, score_N in scores.items()]


def _measured(findings: Findings, model: Model, method: str) -> list[Measured]:
    """The matcher, then its coarser steps and the baselines."""
    truth, asked_M2 = findings.truth(), grid_points(model.image_size, _ASKED_EVERY_PX)
    reach_px = float(model.matcher.info.strides[0])
    labels = _labels(findings, truth)
    measured = []
    for name, found in findings.found.items():
        warp = warp_metrics(found, truth.to_gallery, at_M2=asked_M2, reach_px=reach_px)
        label = f"{method} {name}" if name.startswith("at stride") else name or method
        own_error = None if name or not findings.marginal_errors else float(np.median(findings.marginal_errors))
        measured.append(Measured(label, warp, _matches(findings, labels, name), own_error))
    return measured


def _labels(findings: Findings, truth: Warps) -> list[KeypointLabels]:
    """The truth about each pair's keypoints, by the thresholds that losses are trained with by default."""
    positive_px, negative_px = AssignmentConfig().limits_px(findings.cell_px)
    return [
        keypoint_labels(*points, truth, pair, positive_px=positive_px, negative_px=negative_px)
        for pair, points in enumerate(findings.points)
    ]


def _matches(findings: Findings, labels: Sequence[KeypointLabels], name: str) -> MatchMetrics | None:
    """Precision and recall between the matcher's own keypoints; None where there are none."""
    if not findings.points or name not in {"", OWN_NEAREST, IDENTITY}:
        return None
    query, gallery = ([point[side] for point in findings.points] for side in (0, 1))
    by_place = name == IDENTITY  # a dense warp: between keypoints it is another
    found = [identity_matches(*points) for points in findings.points] if by_place else findings.found[name]
    return match_metrics(found, query, gallery, labels, ranked=None if name else findings.candidates)


def _result(
    experiment: Experiment,
    trained: Sequence[Domains],
    methods: Sequence[MethodResult],
    identity: Sequence[IdentityResult],
) -> CorrespondenceResult:
    backbone = experiment.backbone
    sources = dict.fromkeys(source for domains in trained for source in domains.sources)
    return CorrespondenceResult(
        title=experiment.title,
        method=experiment.matcher["name"],
        matcher=describe(experiment.matcher),
        backbone=None if backbone is None else describe(backbone),
        weights=weights_file(backbone),
        trained_on=" + ".join(sources) or "nothing (untrained)",
        recipe=recipe(experiment),
        seed=experiment.seed,
        image_size=experiment.image_size,
        methods=tuple(methods),
        identity=tuple(identity),
        machine=machine(),
        commit=commit(),
    )
