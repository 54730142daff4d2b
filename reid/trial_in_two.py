"""One target, tested by a first stage that proposes and a second that puts the proposals in order."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reid.domains import Target
from reid.engine.two_stages import Reordering, TwoStages, retrieve_in_two
from reid.errors import ConfigError
from reid.evaluation.reranked import Reranked, gain, share_of_oracle
from reid.evaluation.shortlist import fused, perfect_order, shuffled_order
from reid.schema import Fusion
from reid.trial import How, Test, cost

_SHUFFLE_SEED = 0
_WEIGHTS = tuple(np.linspace(0.0, 1.0, 11).tolist())


def refuse_unfit(how: How, top_k: int, targets: Sequence[Target]) -> None:
    """Say before anything is computed that a pipeline of two stages cannot be tested.

    Raises:
        ConfigError: a gallery has fewer than ``top_k`` images, or the options ask for what two stages do not do.
    """
    how.refuse_shortcuts()
    if how.options.rerank:
        raise ConfigError(
            "evaluation.rerank: wanted no classical re-ranking beside a second stage. Take one of them out."
        )
    for target in targets:
        if top_k > len(target.gallery):
            raise ConfigError(
                f"top_k = {top_k}: wanted at most the {len(target.gallery):,} images of the gallery of {target.label}. "
                "Propose fewer."
            )


def try_two_stages(stages: TwoStages, target: Target, how: How, fusion: Fusion, weight: float | None) -> Test:
    """The same, and let the second stage put the first places in order.

    Args:
        stages: the models.
        target: what to test on.
        how: how.
        fusion: how the stages' scores come together.
        weight: of the first stage's scores, for ``lerp``: see :func:`best_weight`.

    Raises:
        ReidError: see :func:`reorder`.
    """
    found = reorder(stages, target, how)
    started = time.perf_counter()
    judge = how.judge(found.scores, target)
    shuffled_QK = shuffled_order(found.shortlist, np.random.default_rng(_SHUFFLE_SEED))
    first = judge.as_scored()
    oracle = judge.reordered(found.shortlist, perfect_order(found.shortlist, judge.truth))
    shuffled = judge.reordered(found.shortlist, shuffled_QK)
    second = judge.reordered(found.shortlist, _order(found, weight), keep=True)
    changed = Reranked(
        top_k=stages.top_k,
        fusion=fusion,
        weight=weight,
        first=first.figures,
        oracle=oracle.figures,
        shuffled=shuffled.figures,
        share_of_oracle=share_of_oracle(first.figures, second.figures, oracle.figures),
        rescore_s=found.rescore_s,
        **gain(first.metrics, second.metrics),
    )
    measured = how.measured(found.encode_s, started)
    how.session.progress.say(cost(target, found.encode_s, found.scores, found))
    return Test.of(second, found.scores, target, measured, changed)


def reorder(stages: TwoStages, target: Target, how: How) -> Reordering:
    """Score a target by a first stage, and what it proposes by a second.

    Raises:
        ReidError: see :func:`reid.engine.two_stages.retrieve_in_two`.
    """
    how.begin(target)
    return retrieve_in_two(
        stages,
        target.query,
        target.gallery,
        how.extraction,
        scoring=how.scoring,
        out=how.folder / f"{target.file_name}.npy",
        progress=how.session.progress,
    )


def best_weight(stages: TwoStages, validation: Target, how: How) -> float:
    """The weight of the first stage's scores, 0, 0.1 .. 1, with the highest mAP on ``validation``; the first of equals.

    Args:
        stages: the models; neither was trained on these identities.
        validation: identities of the source. Never a test set: its labels are looked at.
        how: how to test.
    """
    found = reorder(stages, validation, how)
    judge = how.judge(found.scores, validation)
    quality = [judge.reordered(found.shortlist, _order(found, weight)).metrics.mAP for weight in _WEIGHTS]
    weight: float = _WEIGHTS[int(np.argmax(quality))]
    how.session.progress.say(f"fusion: {weight:.1f} of the first stage's scores is best there, mAP {max(quality):.1%}")
    return weight


def _order(found: Reordering, weight: float | None) -> NDArray[np.float32]:
    return found.second_QK if weight is None else fused(found.shortlist.score_QK, found.second_QK, weight)
