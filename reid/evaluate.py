"""Test the model of a run on its targets, and write down what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from reid.domains import Domains, Target, open_domains
from reid.engine.checkpoint import latest, load_facts, saved_epochs
from reid.engine.extract import Extraction
from reid.engine.model import Model
from reid.engine.retrieve import Shortcuts, retrieve, scoring_way, state_precision
from reid.errors import ConfigError
from reid.evaluation.agreement import RankAgreement
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
from reid.evaluation.scoring import GalleryScores, Scoring
from reid.experiment import EvaluationConfig, Experiment, Table, recipe
from reid.runs import RunFolder, Session, commit, machine
from reid.train import load_model

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
    options = experiment.evaluation
    way = scoring_way(model, options.state_precision, _shortcuts(options))
    if way is not None:
        session.progress.say(f"pair scores: {way}")
    tests: list[Test] = []
    for target in domains.targets:
        held = sum(test.scores.in_memory for test in tests)
        scoring = Scoring(max_memory=int(options.memory_gib * 2**30), scores_held=held)
        tests.append(_test(model, target, options, scoring, run.path / "scores", session))
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


def _test(
    model: Model, target: Target, options: EvaluationConfig, scoring: Scoring, scores: Path, session: Session
) -> Test:
    say = session.progress.say
    say(f"{target.label}: {len(target.query):,} queries, {len(target.gallery):,} gallery images")
    if session.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(session.device)
    found = retrieve(
        model,
        target.query,
        target.gallery,
        Extraction(options.batch_size, session.num_workers, options.precision, options.state_precision),
        scoring=scoring,
        shortcuts=_shortcuts(options),
        out=scores / f"{target.file_name}.npy",
        progress=session.progress,
    )
    if found.agreement is not None:
        say(_agreement(target.label, options, found.agreement))
    started = time.perf_counter()
    query_labels, gallery_labels = Labels.of(target.query), Labels.of(target.gallery)
    ranking = rank_matches(found.scores.score_QG, query_labels, gallery_labels, camera_rule=options.camera_rule)
    metrics = retrieval_metrics(ranking)
    measured = Measured(
        query_s=found.query_s,
        rank_s=time.perf_counter() - started,
        agreement=found.agreement,
        peak_memory_mib=_peak_memory_mib(session.device),
    )
    result = target_result(target.label, ranking, metrics, found.scores, measured, counts_checked=target.counts_checked)
    return Test(target, found.scores, ranking, result)


def _shortcuts(options: EvaluationConfig) -> Shortcuts:
    return Shortcuts(options.key_rank, options.int8_products)


def _agreement(label: str, options: EvaluationConfig, found: RankAgreement) -> str:
    kept = round(found.same_best * found.num_query)
    cut = f", keys cut to rank {options.key_rank}" if options.key_rank else ""
    cut += ", int8 products" if options.int8_products else ""
    return (
        f"{label}: with states in {options.state_precision}{cut} a sample ranks as with exact scores by Spearman "
        f"{found.spearman:.5f}, {kept} of {found.num_query} queries keep their best match"
    )


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
        key_rank=experiment.evaluation.key_rank,
        int8_products=experiment.evaluation.int8_products,
        state_precision=state_precision(model, experiment.evaluation.state_precision),
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
