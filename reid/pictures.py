"""The pictures a run leaves: CMC curves, training curves, rank lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid.evaluation.results import RunResult, read_results
from reid.files import file_name
from reid.recipe import recipe
from reid.report.charts import draw_cmc, draw_training
from reid.report.ranklists import draw_rank_lists, pick_queries, rank_lists
from reid.runs import RunFolder
from reid.trial import Test

CMC, TRAINING = "cmc.png", "training.png"
QUERIES_SHOWN = 8  # rows of a sheet of rank lists


def draw_pictures(run: RunFolder, result: RunResult, tests: Sequence[Test], folder: Path | None = None) -> None:
    """Draw ``cmc.png``, ``training.png`` and ``ranks_TARGET.png``.

    There is no ``training.png`` where the matcher of another run put the images in order: that is the training which
    the result tells of, and its curves are in that run's folder.

    Args:
        run: the run that was tested.
        result: what came out.
        tests: the same, a target at a time.
        folder: where the pictures go; None: the run's ``figures``.

    Raises:
        StorageError: a picture cannot be written.
    """
    folder = folder or run.figures
    draw_cmc([result], folder / CMC)
    if _trained_here(run, result):
        draw_training(run.log, folder / TRAINING, title=result.title)
    for test in tests:
        target = test.target
        lists = rank_lists(
            test.scores.score_QG,
            target.query,
            target.gallery,
            pick_queries(test.ranking, QUERIES_SHOWN),
            camera_rule=test.ranking.camera_rule == "on",
            order_alone=test.result.reranked is not None and test.result.reranked.top_k is not None,
        )
        mean_ap = test.result.quoted_map(result.stamp.ap_rule)
        title = f"{target.label}: Rank-1 {test.result.rank1:.1%}, mAP {mean_ap:.1%} ({result.title})"
        draw_rank_lists(lists, folder / _ranks(target.label), title=title)


def drawn(run: RunFolder) -> bool:
    """Whether all pictures of the run's ``results.json`` are there.

    Raises:
        CheckpointError: there are no results, or they are damaged.
    """
    result = read_results(run.results)
    names = [CMC, *(_ranks(target.target) for target in result.targets)]
    if _trained_here(run, result):
        names.append(TRAINING)
    return all((run.figures / name).is_file() for name in names)


def _ranks(label: str) -> str:
    return f"ranks_{file_name(label)}.png"


def _trained_here(run: RunFolder, result: RunResult) -> bool:
    """Whether the result is of a matcher that was trained in ``run``, alone or behind its own first stage."""
    if result.training is None:
        return False
    experiment = run.experiment()
    return (result.stamp.recipe, result.stamp.seed) == (recipe(experiment), experiment.seed)
