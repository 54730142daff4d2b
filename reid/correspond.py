"""Measure where the matcher of a run finds correspondences, against the truth and against what needs no learning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from reid.build import component_config
from reid.data.surface_images import SurfaceImages, draw_surface_images
from reid.data.warps import Level, WarpedPair, held_out_pairs
from reid.datasets.synthped import Config as SynthpedConfig
from reid.domains import Domains, Target, open_domains
from reid.engine.correspondences import IDENTITY, OWN_NEAREST, Findings, find_correspondences
from reid.engine.extract import Extraction
from reid.engine.identity_pairs import draw_identity_pairs, identity_scores
from reid.engine.model import Model
from reid.errors import ConfigError
from reid.evaluation.baselines import grid_points, identity_matches
from reid.evaluation.correspondence_results import (
    CorrespondenceResult,
    IdentityResult,
    Measured,
    MethodResult,
    method_results,
    write_correspondences,
)
from reid.evaluation.keypoint_matches import MatchMetrics, match_metrics
from reid.evaluation.pair_scores import auc_margin
from reid.evaluation.warp_metrics import warp_metrics
from reid.experiment import Experiment
from reid.recipe import describe, recipe, weights_file
from reid.runs import RunFolder, Session, commit, machine
from reid.train import load_model

SAME_PERSON = "same person"
"""Pairs of renderings, by other cameras and in other poses."""
_ASKED_EVERY_PX = 4  # all methods are asked where the same positions lie
_POSITIVE, _NEGATIVE = 0.71, 1.0  # cells: half a diagonal, and a side
_SALIENT_PX = 3.0  # as published, for keypoints that are no grid


def correspond(
    run: RunFolder, session: Session, *, num_pairs: int, assignments: Sequence[str] = (), file: Path | None = None
) -> CorrespondenceResult:
    """Test where the model of a run finds matches, on its targets, of which nothing was trained on.

    Of every target: two views of each of its query images, at three levels of difficulty; of a synthped target, pairs
    of renderings of one person as well, whose true surface points are known; and pairs of images that show one person
    or two, for the scores. All of these are always the same.

    Args:
        run: the run.
        session: where and with what.
        num_pairs: most pairs of each kind.
        assignments: other targets, such as ``target=[...]``.
        file: where the result goes; None: ``correspondences.json`` of the run.

    Raises:
        ConfigError: the matcher has no correspondences, or there is no target.
        ReidError: the run has no checkpoint, a target is missing, or it was trained on.
    """
    experiment = run.experiment(assignments)
    domains = open_domains(experiment, session)
    model = load_model(run, session.device)
    if not model.matcher.info.has_correspondences or not domains.targets:
        raise ConfigError(
            f"{run.path}: wanted a matcher that tells where images correspond, and a [[target]] to test it on, found "
            f"{experiment.matcher['name']} and {len(domains.targets)} targets."
        )
    methods: list[MethodResult] = []
    identity: list[IdentityResult] = []
    for target in domains.targets:
        for kind, pairs, count in _sets(target, experiment, num_pairs, session):
            found = find_correspondences(model, pairs, count, session.progress, f"{target.label}, {kind}")
            measured = _measured(found, model, str(experiment.matcher["name"]))
            methods += method_results(target.label, kind, measured[0], measured[1:])
        identity += _identity(target, model, num_pairs, session)
    result = _result(experiment, domains, methods, identity)
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
        drawn = (surfaces.draw_pair("same_person", seed=0, epoch=0, index=index) for index in range(num_pairs))
        yield SAME_PERSON, drawn, num_pairs


def _surfaces(target: Target, experiment: Experiment, session: Session) -> SurfaceImages | None:
    """Renderings of the people of a synthped target; None for other targets."""
    for table in experiment.target:
        config = component_config("dataset", table, "[[target]]")
        if isinstance(config, SynthpedConfig) and target.label in {config.label, f"synthped ({config.domain})"}:
            return draw_surface_images(
                config,
                config.num_test_pids,
                train=False,
                image_size=experiment.image_size,
                progress=session.progress,
            )
    return None


def _measured(findings: Findings, model: Model, method: str) -> list[Measured]:
    """The matcher, then its coarser steps and the baselines."""
    truth, asked_M2 = findings.truth(), grid_points(model.image_size, _ASKED_EVERY_PX)
    reach_px = float(model.matcher.info.strides[0])
    measured = []
    for name, found in findings.found.items():
        warp = warp_metrics(found, truth, at_M2=asked_M2, reach_px=reach_px)
        label = f"{method} {name}" if name.startswith("at stride") else name or method
        measured.append(Measured(label, warp, _matches(findings, name)))
    return measured


def _matches(findings: Findings, name: str) -> MatchMetrics | None:
    """Precision and recall between the matcher's own keypoints; None where there are none."""
    if not findings.points or name not in {"", OWN_NEAREST, IDENTITY}:
        return None
    query, gallery = ([point[side] for point in findings.points] for side in (0, 1))
    found = findings.found[name]
    if name == IDENTITY:
        found = [identity_matches(*point) for point in findings.points]
    cell_px = _SALIENT_PX / _POSITIVE if findings.cell_px is None else findings.cell_px
    near, far = _POSITIVE * cell_px, _NEGATIVE * cell_px
    judge = partial(
        match_metrics, query=query, gallery=gallery, truth=findings.truth(), positive_px=near, negative_px=far
    )
    # average precision has no threshold: a strict one would cap it at the recall
    return replace(judge(found), ap_N=judge(findings.candidates).ap_N) if not name else judge(found)


def _identity(target: Target, model: Model, num_pairs: int, session: Session) -> list[IdentityResult]:
    """ROC-AUC of each of the matcher's scores: one person against two."""
    pairs, same_N = draw_identity_pairs(target.query, target.gallery, 2 * num_pairs)
    if not pairs:
        return []
    how = Extraction(num_workers=session.num_workers)
    scores = identity_scores(model, pairs, how, session.progress, f"{target.label}, one person or two")
    return [_auc(target.label, name, score_N, same_N) for name, score_N in scores.items()]


def _auc(target: str, name: str, score_N: NDArray[np.float32], same_N: NDArray[np.bool_]) -> IdentityResult:
    chance_N = np.zeros_like(score_N)  # equal scores: an AUC of a half
    over = auc_margin(score_N, chance_N, same_N, np.random.default_rng(0), samples=500)
    num_same = int(same_N.sum())
    auc, low, high = (0.5 + value for value in (over.difference, over.low, over.high))
    return IdentityResult(
        target=target, score=name, num_same=num_same, num_different=len(same_N) - num_same, auc=auc, low=low, high=high
    )


def _result(
    experiment: Experiment, domains: Domains, methods: Sequence[MethodResult], identity: Sequence[IdentityResult]
) -> CorrespondenceResult:
    backbone = experiment.backbone
    return CorrespondenceResult(
        title=experiment.title,
        method=experiment.matcher["name"],
        matcher=describe(experiment.matcher),
        backbone=None if backbone is None else describe(backbone),
        weights=weights_file(backbone),
        trained_on=" + ".join(domains.sources) if experiment.stage else "nothing (untrained)",
        recipe=recipe(experiment),
        seed=experiment.seed,
        image_size=experiment.image_size,
        methods=tuple(methods),
        identity=tuple(identity),
        machine=machine(),
        commit=commit(),
    )
