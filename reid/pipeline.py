"""Two runs one behind the other: what they are tested on, and whether a run can be tested at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid.build import build_reranker
from reid.domains import VALIDATION, Domains, Target, open_domains
from reid.engine.checkpoint import latest
from reid.errors import ConfigError
from reid.models import bare_model
from reid.reranking import _base as reranking
from reid.runs import RunFolder, Session
from reid.schema import Experiment, Fusion
from reid.trained_on import apart_from, inherited_domains, new_targets, new_to
from reid.trial import How
from reid.trial_in_two import refuse_unfit


@dataclass(frozen=True)
class Pipeline:
    """Two runs one behind the other: ``first`` proposes ``top_k`` images a query, ``second`` puts them in order."""

    first: RunFolder
    second: RunFolder
    top_k: int
    fusion: Fusion


@dataclass(frozen=True)
class Part:
    """A stage that is tested: its experiment, what that opens, and all that its weights were trained on."""

    experiment: Experiment
    domains: Domains
    trained: Sequence[Domains]

    @classmethod
    def of(cls, experiment: Experiment, domains: Domains, session: Session) -> Part:
        """Of an experiment and the domains it opens."""
        own = [domains] if experiment.stage else []
        return cls(experiment, domains, [*own, *inherited_domains(experiment, session)])


@dataclass(frozen=True)
class Plan:
    """What the test of a pipeline is.

    Attributes:
        first, second: experiments of the two stages.
        trained: all that the weights of either were trained on.
        validation: what the weight of a mean is chosen on; None: scores are not mixed.
        targets: what is tested, at least one; none shares a person with ``trained`` or ``validation``.
    """

    first: Experiment
    second: Experiment
    trained: Sequence[Domains]
    validation: Target | None
    targets: Sequence[Target]


def own_pipeline(run: RunFolder, experiment: Experiment) -> Pipeline | None:
    """What the run's own experiment says; None: it names no first stage."""
    first = experiment.first_stage
    return None if first is None else Pipeline(RunFolder(Path(first.run)), run, first.top_k, first.fusion)


def plan_test(pipeline: Pipeline, run: RunFolder, tested: Part, how: How) -> Plan:
    """Find out what a pipeline is tested on, before anything is computed.

    Args:
        pipeline: the two stages.
        run: that of them whose targets are asked for.
        tested: the same, opened.
        how: how to test.

    Raises:
        ReidError: the other run is missing, a stage was trained on a target, nothing is left to test or to choose a
            weight on, or see :func:`refuse_unfit`.
    """
    other = pipeline.second if run == pipeline.first else pipeline.first
    stages = {run: tested, other: _open_part(other, tested.experiment, how.session)}
    first, second = stages[pipeline.first], stages[pipeline.second]
    trained = [*first.trained, *second.trained]
    validation = _validation(first, second) if pipeline.fusion == "lerp" else None
    asked = tested.domains.targets if validation is None else apart_from(validation, tested.domains.targets)
    targets = new_targets(run.path, trained, asked, how.session.progress)
    refuse_unfit(how, pipeline.top_k, targets if validation is None else [validation, *targets])
    return Plan(first.experiment, second.experiment, trained, validation, targets)


def refuse_untestable(run: RunFolder, session: Session) -> None:
    """Say before a training what its test could only say after it.

    Args:
        run: the run that is to be trained.
        session: where and with what.

    Raises:
        ReidError: a target or the first stage is missing or known to what is tested on it, or what the experiment says
            of first stage and evaluation does not fit.
    """
    experiment = run.experiment()
    domains = open_domains(experiment, session)
    how = How(experiment.evaluation, session, run.path)
    pipeline = own_pipeline(run, experiment)
    if pipeline is not None:
        plan_test(pipeline, run, Part.of(experiment, domains, session), how)
        latest(pipeline.first.checkpoints)
    elif experiment.evaluation.rerank:
        how.refuse_shortcuts()
        rerankers = [build_reranker(table) for table in experiment.evaluation.rerank]
        cosine = bare_model(experiment).matcher.info.cosine
        for target in domains.targets:
            images = reranking.anonymous(target.query), reranking.anonymous(target.gallery)
            reranking.refuse_unfit(rerankers, *images, cosine=cosine)


def _open_part(run: RunFolder, tested: Experiment, session: Session) -> Part:
    """Of the run that is not asked for its targets: those of the other must be new to it as well."""
    experiment = run.experiment().model_copy(update={"target": tested.target, "evaluation": tested.evaluation})
    return Part.of(experiment, open_domains(experiment, session), session)


def _validation(first: Part, second: Part) -> Target:
    """The validation split of either stage that neither was trained on."""
    splits = [target for part in (first, second) for target in part.domains.targets if target.label == VALIDATION]
    found = new_to([*first.trained, *second.trained], splits)
    if not found:
        raise ConfigError(
            "fusion lerp: wanted identities that neither stage was trained on, to choose the weight with, found none. "
            'Train both with the same sources, seed and validation_pids, or use fusion "replace".'
        )
    return found[0]
