"""The pictures a run leaves: CMC curves, training curves, rank lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reid.evaluation.results import RunResult
from reid.report.charts import draw_cmc, draw_training
from reid.report.ranklists import draw_rank_lists, pick_queries, rank_lists
from reid.runs import RunFolder
from reid.trial import Test

QUERIES_SHOWN = 8  # rows of a sheet of rank lists


def draw_pictures(run: RunFolder, result: RunResult, tests: Sequence[Test], folder: Path | None = None) -> None:
    """Draw ``cmc.png``, ``training.png`` and ``ranks_TARGET.png``.

    Args:
        run: the run that was tested.
        result: what came out.
        tests: the same, a target at a time.
        folder: where the pictures go; None: the run's ``figures``.

    Raises:
        StorageError: a picture cannot be written.
    """
    folder = folder or run.figures
    draw_cmc([result], folder / "cmc.png")
    if result.training is not None:
        draw_training(run.log, folder / "training.png", title=result.title)
    for test in tests:
        target = test.target
        lists = rank_lists(
            test.scores.score_QG,
            target.query,
            target.gallery,
            pick_queries(test.ranking, QUERIES_SHOWN),
            camera_rule=test.ranking.camera_rule == "on",
        )
        mean_ap = test.result.quoted_map(result.stamp.ap_rule)
        title = f"{target.label}: Rank-1 {test.result.rank1:.1%}, mAP {mean_ap:.1%} ({result.title})"
        draw_rank_lists(lists, folder / f"ranks_{target.file_name}.png", title=title)
