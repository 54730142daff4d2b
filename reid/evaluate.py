"""Test the model of a run on its targets, and write down what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from reid.build import build_reranker
from reid.domains import Domains, Target, open_domains
from reid.engine.checkpoint import latest, load_facts, saved_epochs
from reid.engine.model import Model
from reid.engine.retrieve import Shortcuts, scoring_way, state_precision
from reid.engine.two_stages import TwoStages
from reid.errors import ConfigError
from reid.evaluation.results import RunResult, Stamp, Training, read_results, write_results
from reid.files import claimed_name
from reid.models import load_model
from reid.pipeline import Part, Pipeline, Plan, own_pipeline, plan_test
from reid.recipe import describe, recipe, weights_file
from reid.runs import RunFolder, Session, commit, machine
from reid.schema import Experiment
from reid.trial import How, Test, try_one_stage, try_reranked
from reid.trial_in_two import best_weight, try_two_stages


def evaluate(
    run: RunFolder,
    session: Session,
    *,
    assignments: Sequence[str] = (),
    file: Path | None = None,
    pipeline: Pipeline | None = None,
) -> tuple[RunResult, list[Test]]:
    """Test the last checkpoint of ``run`` and write down what came out: :func:`measure` and :func:`keep`.

    With ``assignments`` or a ``pipeline`` the run's own ``results.json`` stays as it is.

    Raises:
        ReidError: a run has no checkpoint, a target is missing, or it was trained on.
    """
    result, tests = measure(run, session, assignments=assignments, pipeline=pipeline)
    keep(run, result, file, apart=bool(assignments) or pipeline is not None)
    return result, tests


def keep(run: RunFolder, result: RunResult, file: Path | None = None, *, apart: bool) -> Path:
    """Write down what came out of a test.

    Args:
        run: the run that was tested.
        result: what came out.
        file: a new file for it, with a number behind its name if another test has taken that by now; None: the run's.
        apart: whether it is a test by other rules, which goes into a new file beside the run's ``results.json``.

    Returns:
        where it is.

    Raises:
        StorageError: it cannot be written.
    """
    if file is None and not apart:
        write_results(run.results, result)
        return run.results
    with claimed_name(file or run.results, 1 if file else 2) as free:
        write_results(free, result)
    return free


def measure(
    run: RunFolder, session: Session, *, assignments: Sequence[str] = (), pipeline: Pipeline | None = None
) -> tuple[RunResult, list[Test]]:
    """Test the last checkpoint of ``run``.

    Args:
        run: the run; its targets are tested.
        session: where and with what.
        assignments: other targets or rules of evaluation, such as ``evaluation.camera_rule=false``.
        pipeline: two stages to test instead; None: the run's own, if it names a first stage.

    Raises:
        ReidError: a run has no checkpoint, a target is missing, or it was trained on.
    """
    experiment = run.experiment(assignments)
    domains = open_domains(experiment, session)
    if not domains.targets:
        raise ConfigError(f"{run.path}: wanted at least one [[target]] to test on, found none.")
    how = How(experiment.evaluation, session, run.path)
    part = Part.of(experiment, domains, session)
    pipeline = pipeline or own_pipeline(run, experiment)
    if pipeline is None:
        stamp, tests = _test_one_stage(run, part, how)
    else:
        stamp, tests = _test_pipeline(pipeline, plan_test(pipeline, run, part, how), how)
    result = RunResult(
        title=experiment.title if pipeline is None else _title(pipeline),
        stamp=stamp,
        targets=tuple(test.result for test in tests),
        training=_training(run, experiment) if pipeline is None else _last_training(pipeline),
        machine=machine(),
    )
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


def _test_one_stage(run: RunFolder, part: Part, how: How) -> tuple[Stamp, list[Test]]:
    model = load_model(run, how.session.device)
    way = scoring_way(model, how.options.state_precision, how.shortcuts)
    if way is not None:
        how.session.progress.say(f"pair scores: {way}")
    stamp = _stamp(part.experiment, part.trained, model, way)
    tables, targets = part.experiment.evaluation.rerank, part.domains.targets
    if not tables:
        return stamp, _each(targets, how, partial(try_one_stage, model))
    how.refuse_shortcuts()
    rerankers = [build_reranker(table) for table in tables]
    stamp = stamp.model_copy(update={"rerankers": tuple(map(describe, tables))})
    return stamp, _each(targets, how, partial(try_reranked, model, rerankers))


def _test_pipeline(pipeline: Pipeline, plan: Plan, how: How) -> tuple[Stamp, list[Test]]:
    device = how.session.device
    models = TwoStages(load_model(pipeline.first, device), load_model(pipeline.second, device), pipeline.top_k)
    weight = None if plan.validation is None else best_weight(models, plan.validation, how)
    tests = _each(plan.targets, how, partial(try_two_stages, models, fusion=pipeline.fusion, weight=weight))
    way = scoring_way(models.second, how.options.state_precision, Shortcuts())
    stamp = _stamp(plan.second, plan.trained, models.second, way)
    proposed = {
        "first_stage": f"{describe(plan.first.matcher)}, top {pipeline.top_k}, {pipeline.fusion}",
        "first_recipe": recipe(plan.first),
        "first_seed": plan.first.seed,
    }
    return stamp.model_copy(update=proposed), tests


def _each(targets: Sequence[Target], how: How, test: Callable[[Target, How], Test]) -> list[Test]:
    tests: list[Test] = []
    for target in targets:
        tests.append(test(target, replace(how, held=sum(done.scores.in_memory for done in tests))))
    return tests


def _title(pipeline: Pipeline) -> str:
    first, second = pipeline.first.experiment(), pipeline.second.experiment()
    own = second.first_stage is not None and RunFolder(Path(second.first_stage.run)) == pipeline.first
    return second.title if own else f"{second.title}, after {first.title}"


def _last_training(pipeline: Pipeline) -> Training | None:
    return _training(pipeline.second, pipeline.second.experiment())


def _stamp(experiment: Experiment, trained: Sequence[Domains], model: Model, way: str | None) -> Stamp:
    """Of ``model``, by its experiment, and of all sources that it and what is before it were trained on."""
    backbone = experiment.backbone
    return Stamp(
        sources=tuple(dict.fromkeys(source for domains in trained for source in domains.sources)),
        sources_counts_checked=all(domains.sources_counts_checked for domains in trained),
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
        backbone=None if backbone is None else describe(backbone),
        weights=weights_file(backbone),
        matcher=describe(experiment.matcher),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        commit=commit(),
    )


def _training(run: RunFolder, experiment: Experiment) -> Training | None:
    """What was trained here; None: nothing, though weights that were converted come with the stages that made them."""
    clock = load_facts(latest(run.checkpoints))["clock"]
    if not experiment.stage or not clock["epoch"]:
        return None
    return Training(epochs=clock["epoch"], steps=clock["step"], images_seen=clock["images"], seconds=clock["seconds"])
