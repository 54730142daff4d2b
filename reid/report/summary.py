"""Runs that differ by their seed only, as one row: mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from reid.errors import ConfigError
from reid.evaluation.results import RunResult, TargetResult
from reid.report.table import protocol

HEADERS = ("Train", "Test", "Method", "Seeds", "Rank-1", "mAP", "Images seen", "Hours", "AP rule", "Protocol", "Commit")


def summary(results: Sequence[RunResult]) -> str:
    """Lay out results as a GitHub table in percent, one row for all seeds of a training and a test.

    Args:
        results: runs; two belong together if they were trained by the same recipe and tested by the same protocol:
            all of their stamps but seed and commit agrees, and so do the target's images and camera rule. Rows
            stand in the order of the tests, then of ``results``.

    Returns:
        the table as text, without a closing newline. A deviation is that of the seeds (n - 1 in the denominator).

    Raises:
        ConfigError: two results of one row have the same seed.
    """
    groups = _groups(results)
    places = {key: (key[:2], number) for number, key in enumerate(groups)}
    first = {pair: number for number, (pair, _) in reversed(list(enumerate(places.values())))}
    ordered = sorted(groups, key=lambda key: (first[key[:2]], places[key][1]))
    rows = [_row(groups[key]) for key in ordered]
    return tabulate(rows, HEADERS, "github", disable_numparse=True)


def overview(results: Sequence[RunResult]) -> str:
    """Lay out results as a GitHub table with a row for all seeds of a training and a column for each test.

    Args:
        results: runs, taken together as by :func:`summary`.

    Returns:
        the table as text, Rank-1 / mAP in percent, without a closing newline.

    Raises:
        ConfigError: two results of one cell have the same seed.
    """
    tests = list(dict.fromkeys(target.target for result in results for target in result.targets))
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for group in _groups(results).values():
        result, target = group[0]
        seeds = ", ".join(str(run.stamp.seed) for run, _ in group)
        row = rows.setdefault((result.stamp.trained_on, result.title, result.stamp.method, seeds), {})
        maps = [entry.quoted_map(result.stamp.ap_rule) for _, entry in group]
        row[target.target] = f"{_spread([entry.rank1 for _, entry in group])} / {_spread(maps)}"
    cells = [(*place, *(row.get(test, "-") for test in tests)) for place, row in rows.items()]
    return tabulate(cells, ("Train", "Experiment", "Method", "Seeds", *tests), "github", disable_numparse=True)


def _groups(results: Sequence[RunResult]) -> dict[tuple[str, ...], list[tuple[RunResult, TargetResult]]]:
    """Results that differ by their seed only, in order."""
    groups: dict[tuple[str, ...], list[tuple[RunResult, TargetResult]]] = {}
    for result in results:
        for target in result.targets:
            group = groups.setdefault(_key(result, target), [])
            if result.stamp.seed in [other.stamp.seed for other, _ in group]:
                raise ConfigError(
                    f"{result.title}: found two results of seed {result.stamp.seed} on {target.target}. A deviation "
                    "over seeds wants each once: leave one of them out."
                )
            group.append((result, target))
    return groups


def _key(result: RunResult, target: TargetResult) -> tuple[str, ...]:
    stamp = result.stamp.model_dump_json(exclude={"seed", "commit"})
    test = target.model_dump_json(include={"counts_checked", "camera_rule", "num_query", "num_gallery"})
    title = result.title if result.stamp.recipe is None else ""  # the best that older results tell
    return result.stamp.trained_on, target.target, title, stamp, test


def _row(group: Sequence[tuple[RunResult, TargetResult]]) -> tuple[str, ...]:
    result, target = group[0]
    rule = result.stamp.ap_rule
    trainings = [run.training for run, _ in group if run.training is not None]
    return (
        result.stamp.trained_on,
        target.target,
        result.stamp.method,
        ", ".join(str(run.stamp.seed) for run, _ in group),
        _spread([entry.rank1 for _, entry in group]),
        _spread([entry.quoted_map(rule) for _, entry in group]),
        f"{np.mean([training.images_seen for training in trainings]):,.0f}" if trainings else "-",
        f"{np.mean([training.seconds for training in trainings]) / 3600:.2f}" if trainings else "-",
        rule.replace("_", " "),
        protocol(result, target),
        ", ".join(sorted({run.stamp.commit or "-" for run, _ in group})),
    )


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"
