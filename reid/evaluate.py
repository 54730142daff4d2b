"""Test the model of a run on its targets, and write down what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from reid.domains import Domains, Target, open_domains
from reid.engine.checkpoint import latest, load_facts, saved_epochs
from reid.engine.extract import Extraction, extract
from reid.engine.model import Model
from reid.errors import ConfigError
from reid.evaluation._ahead import ahead
from reid.evaluation.agreement import RankAgreement, rank_agreement
from reid.evaluation.labels import Labels
from reid.evaluation.metrics import retrieval_metrics
from reid.evaluation.ranking import Ranking, rank_matches
from reid.evaluation.results import (
    Measured,
    RunResult,
    Stamp,
    TargetResult,
    Training,
    read_results,
    target_result,
    write_results,
)
from reid.evaluation.scoring import GalleryScores, Scoring, score_gallery
from reid.evaluation.states import collect_states
from reid.experiment import EvaluationConfig, Experiment, Table, recipe
from reid.kernels.simmax import describe
from reid.runs import RunFolder, Session, commit, machine
from reid.train import load_model
from reid.types import ImageRecord, ImageState

_COMPARED = (32, 128)
"""Query and gallery images whose scores are computed with states in full precision as well."""

_SAID_APART = ("name", "weights", "normalization")


@dataclass(frozen=True, eq=False)
class Test:
    """One tested target, with what pictures of it need."""

    target: Target
    scores: GalleryScores
    ranking: Ranking
    result: TargetResult


def evaluate(
    run: RunFolder, session: Session, *, assignments: Sequence[str] = (), file: Path | None = None
) -> tuple[RunResult, list[Test]]:
    """Test the last checkpoint of ``run`` and write down what came out.

    Args:
        run: the run.
        session: where and with what.
        assignments: other targets or rules of evaluation, such as ``evaluation.camera_rule=false``.
        file: where the result goes; None: the run's ``results.json``, with ``assignments`` a new file beside it.

    Raises:
        ReidError: the run has no checkpoint, a target is missing, or it was trained on.
    """
    experiment = run.experiment(assignments)
    file = file or (run.free_results() if assignments else run.results)
    domains = open_domains(experiment, session)
    if not domains.targets:
        raise ConfigError(f"{run.path}: wanted at least one [[target]] to test on, found none.")
    model = load_model(run, session.device)
    way = _way(model, experiment.evaluation)
    if way is not None:
        session.progress.say(f"pair scores: {way}")
    scores = run.path / "scores"
    tests = [_test(model, target, experiment.evaluation, scores, session) for target in domains.targets]
    result = RunResult(
        title=experiment.title,
        stamp=_stamp(experiment, domains, model, way),
        targets=tuple(test.result for test in tests),
        training=_training(run, experiment),
        machine=machine(),
    )
    write_results(file, result)
    return result, tests


def finished(run: RunFolder) -> bool:
    """Whether training has come to its end and ``results.json`` is a test of that end.

    Raises:
        CheckpointError: the folder is no run, or the checkpoint or the results are damaged.
    """
    experiment = run.experiment()
    if not run.results.exists() or not saved_epochs(run.checkpoints):
        return False
    clock = load_facts(latest(run.checkpoints))["clock"]
    if experiment.stage and (clock["stage"] + 1 < len(experiment.stage) or not clock["stage_done"]):
        return False
    return read_results(run.results).training == _training(run, experiment)


def _test(model: Model, target: Target, options: EvaluationConfig, scores: Path, session: Session) -> Test:
    session.progress.say(f"{target.label}: {len(target.query):,} queries, {len(target.gallery):,} gallery images")
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    query_s, found = _score(model, target, options, scores / f"{target.file_name}.npy", session)
    started = time.perf_counter()
    query_labels, gallery_labels = Labels.of(target.query), Labels.of(target.gallery)
    ranking = rank_matches(found.score_QG, query_labels, gallery_labels, camera_rule=options.camera_rule)
    metrics = retrieval_metrics(ranking)
    measured = Measured(
        query_s=query_s,
        rank_s=time.perf_counter() - started,
        agreement=_agreement(model, target, options, session),
        peak_memory_mib=_peak_memory_mib(session.device),
    )
    result = target_result(target.label, ranking, metrics, found, measured, counts_checked=target.counts_checked)
    return Test(target, found, ranking, result)


def _score(
    model: Model, target: Target, options: EvaluationConfig, out: Path, session: Session
) -> tuple[float, GalleryScores]:
    """(seconds for the queries' states, scores)."""
    how = Extraction(options.batch_size, session.num_workers, options.precision, options.state_precision)
    scoring = Scoring(max_memory=int(options.memory_gib * 2**30))
    started = time.perf_counter()
    query = collect_states(
        extract(model, target.query, how),
        len(target.query),
        max_memory=scoring.query_memory,
        file=out.with_suffix(".states"),
    )
    query_s = time.perf_counter() - started
    gallery = extract(model, target.gallery, how)
    scores = score_gallery(
        model.score,
        query,
        gallery if session.device.type == "cpu" else ahead(gallery),  # on a CPU both would want the same cores
        len(target.gallery),
        how=scoring,
        out=out,
        progress=session.progress,
    )
    return query_s, scores


def _agreement(model: Model, target: Target, options: EvaluationConfig, session: Session) -> RankAgreement | None:
    """What half-precision states change, on a sample; None where states are kept in full precision."""
    if options.state_precision == "float32":
        return None
    how = Extraction(options.batch_size, 0, options.precision, "float32")
    query, gallery = (
        ImageState.cat(list(extract(model, _sample(records, size), how)))
        for records, size in zip((target.query, target.gallery), _COMPARED, strict=True)
    )
    halves = (state.stored(options.state_precision) for state in (query, gallery))
    exact_QG, score_QG = (model.score(*states).cpu().numpy() for states in ((query, gallery), halves))
    found = rank_agreement(score_QG, exact_QG)
    session.progress.say(
        f"{target.label}: states in {options.state_precision} rank like float32: Spearman {found.spearman:.5f}, "
        f"{round(found.same_best * found.num_query)} of {found.num_query} queries keep their best match"
    )
    return found


def _sample(records: Sequence[ImageRecord], size: int) -> list[ImageRecord]:
    return [records[index] for index in np.linspace(0, len(records) - 1, min(size, len(records))).astype(int)]


def _way(model: Model, options: EvaluationConfig) -> str | None:
    if model.matcher.info.kind != "all_pairs":
        return None
    return describe(model.device, getattr(torch, options.state_precision))


def _stamp(experiment: Experiment, domains: Domains, model: Model, way: str | None) -> Stamp:
    backbone = experiment.backbone
    return Stamp(
        sources=domains.sources if experiment.stage else (),
        sources_counts_checked=domains.sources_counts_checked,
        ap_rule=experiment.evaluation.ap_rule,
        recipe=recipe(experiment),
        seed=experiment.seed,
        image_size=experiment.image_size,
        normalisation="none" if backbone is None else backbone["normalization"],
        precision=experiment.evaluation.precision,
        state_precision=experiment.evaluation.state_precision,
        pair_scores=way,
        backbone=None if backbone is None else _describe(backbone),
        weights=_weights(backbone),
        matcher=_describe(experiment.matcher),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        commit=commit(),
    )


def _weights(backbone: Table | None) -> str | None:
    if backbone is None or backbone["weights"] == "none":
        return None
    return Path(backbone["weights"]).name  # a file's folder is nobody's business


def _describe(table: Table) -> str:
    """A component in a few words: its name and the settings that make it what it is."""
    settings = (f"{key}={value}" for key, value in table.items() if key not in _SAID_APART)
    return f"{table['name']} ({', '.join(settings)})"


def _training(run: RunFolder, experiment: Experiment) -> Training | None:
    if not experiment.stage:
        return None
    clock = load_facts(latest(run.checkpoints))["clock"]
    return Training(epochs=clock["epoch"], steps=clock["step"], images_seen=clock["images"], seconds=clock["seconds"])


def _peak_memory_mib(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
