"""Test the model of a run on its targets, and write down what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from reid.build import build_reranker
from reid.domains import VALIDATION, Domains, Target, open_domains
from reid.engine.checkpoint import latest, load_facts, saved_epochs
from reid.engine.model import Model
from reid.engine.retrieve import Shortcuts, scoring_way, state_precision
from reid.engine.two_stages import TwoStages
from reid.errors import ConfigError
from reid.evaluation.results import RunResult, Stamp, Training, read_results, write_results
from reid.models import load_model
from reid.recipe import describe, recipe, weights_file
from reid.runs import RunFolder, Session, commit, machine
from reid.schema import Experiment, Fusion
from reid.trained_on import inherited_domains, new_targets, new_to
from reid.trial import How, Test, try_one_stage, try_reranked
from reid.trial_in_two import best_weight, refuse_unfit, try_two_stages


@dataclass(frozen=True)
class Pipeline:
    """Two runs one behind the other: ``first`` proposes ``top_k`` images a query, ``second`` puts them in order."""

    first: RunFolder
    second: RunFolder
    top_k: int
    fusion: Fusion


def evaluate(
    run: RunFolder,
    session: Session,
    *,
    assignments: Sequence[str] = (),
    file: Path | None = None,
    pipeline: Pipeline | None = None,
) -> tuple[RunResult, list[Test]]:
    """Test the last checkpoint of ``run`` and write down what came out.

    Args:
        run: the run; its targets are tested.
        session: where and with what.
        assignments: other targets or rules of evaluation, such as ``evaluation.camera_rule=false``.
        file: where the result goes; None: the run's ``results.json``, with ``assignments`` or a ``pipeline`` a new file
            beside it.
        pipeline: two stages to test instead; None: the run's own, if it names a first stage.

    Raises:
        ReidError: a run has no checkpoint, a target is missing, or it was trained on.
    """
    experiment = run.experiment(assignments)
    file = file or (run.free_results() if assignments or pipeline else run.results)
    domains = open_domains(experiment, session)
    if not domains.targets:
        raise ConfigError(f"{run.path}: wanted at least one [[target]] to test on, found none.")
    how = How(experiment.evaluation, session, run.path)
    pipeline = pipeline or _own_pipeline(run, experiment)
    if pipeline is None:
        stamp, tests = _test_one_stage(run, experiment, domains, how)
    else:
        stamp, tests = _test_pipeline(pipeline, run, experiment, domains, how)
    result = RunResult(
        title=experiment.title if pipeline is None else _title(pipeline),
        stamp=stamp,
        targets=tuple(test.result for test in tests),
        training=_training(run, experiment) if pipeline is None else _last_training(pipeline),
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


def _test_one_stage(run: RunFolder, experiment: Experiment, domains: Domains, how: How) -> tuple[Stamp, list[Test]]:
    model = load_model(run, how.session.device)
    way = scoring_way(model, how.options.state_precision, how.shortcuts)
    if way is not None:
        how.session.progress.say(f"pair scores: {way}")
    stamp = _stamp(experiment, _Part.of(experiment, domains, how.session).trained, model, way)
    tables = experiment.evaluation.rerank
    if not tables:
        return stamp, _each(domains.targets, how, partial(try_one_stage, model))
    how.refuse_shortcuts()
    rerankers = [build_reranker(table) for table in tables]
    stamp = stamp.model_copy(update={"rerankers": tuple(map(describe, tables))})
    return stamp, _each(domains.targets, how, partial(try_reranked, model, rerankers))


def _test_pipeline(
    pipeline: Pipeline, run: RunFolder, experiment: Experiment, domains: Domains, how: How
) -> tuple[Stamp, list[Test]]:
    other = pipeline.second if run == pipeline.first else pipeline.first
    stages = {run: _Part.of(experiment, domains, how.session), other: _open_part(other, experiment, how.session)}
    first, second = stages[pipeline.first], stages[pipeline.second]
    trained = [*first.trained, *second.trained]
    validation = _validation(first, second) if pipeline.fusion == "lerp" else None
    asked = [target for target in domains.targets if target is not validation]  # its labels have been looked at
    targets = new_targets(run.path, trained, asked, how.session.progress)
    refuse_unfit(how, pipeline.top_k, targets if validation is None else [validation, *targets])
    device = how.session.device
    models = TwoStages(load_model(pipeline.first, device), load_model(pipeline.second, device), pipeline.top_k)
    weight = None if validation is None else best_weight(models, validation, how)
    tests = _each(targets, how, partial(try_two_stages, models, fusion=pipeline.fusion, weight=weight))
    way = scoring_way(models.second, how.options.state_precision, Shortcuts())
    stamp = _stamp(second.experiment, trained, models.second, way)
    proposed = {
        "first_stage": f"{describe(first.experiment.matcher)}, top {pipeline.top_k}, {pipeline.fusion}",
        "first_recipe": recipe(first.experiment),
        "first_seed": first.experiment.seed,
    }
    return stamp.model_copy(update=proposed), tests


@dataclass(frozen=True)
class _Part:
    """One of two stages: its experiment, what that opens, and all that its weights were trained on."""

    experiment: Experiment
    domains: Domains
    trained: Sequence[Domains]

    @classmethod
    def of(cls, experiment: Experiment, domains: Domains, session: Session) -> _Part:
        own = [domains] if experiment.stage else []
        return cls(experiment, domains, [*own, *inherited_domains(experiment, session)])


def _open_part(run: RunFolder, tested: Experiment, session: Session) -> _Part:
    """Of the run that is not asked for its targets: those of the other must be new to it as well."""
    experiment = run.experiment().model_copy(update={"target": tested.target, "evaluation": tested.evaluation})
    return _Part.of(experiment, open_domains(experiment, session), session)


def _validation(first: _Part, second: _Part) -> Target:
    """The validation split of either stage that neither was trained on."""
    splits = [target for part in (first, second) for target in part.domains.targets if target.label == VALIDATION]
    found = new_to([*first.trained, *second.trained], splits)
    if not found:
        raise ConfigError(
            "fusion lerp: wanted identities that neither stage was trained on, to choose the weight with, found none. "
            'Train both with the same sources, seed and validation_pids, or use fusion "replace".'
        )
    return found[0]


def _each(targets: Sequence[Target], how: How, test: Callable[[Target, How], Test]) -> list[Test]:
    tests: list[Test] = []
    for target in targets:
        tests.append(test(target, replace(how, held=sum(done.scores.in_memory for done in tests))))
    return tests


def _own_pipeline(run: RunFolder, experiment: Experiment) -> Pipeline | None:
    first = experiment.first_stage
    return None if first is None else Pipeline(RunFolder(Path(first.run)), run, first.top_k, first.fusion)


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
