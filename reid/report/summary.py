"""Runs that differ by their seed only, as one row: mean and standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from tabulate import tabulate

from reid.errors import ConfigError
from reid.evaluation.results import RunResult, TargetResult
from reid.report.table import protocol, seed, settings, top_k

HEADERS = (
    "Train",
    "Test",
    "Experiment",
    "Method",
    "Top k",
    "Seeds",
    "Rank-1",
    "mAP",
    "Images seen",
    "Hours",
    "AP rule",
    "Protocol",
    "Commit",
)

Group = Sequence[tuple[RunResult, TargetResult]]
"""Results that differ by their seeds only."""


def summary(results: Sequence[RunResult]) -> str:
    """Lay out results as a GitHub table in percent, one row for all seeds of a training and a test.

    Args:
        results: runs; two belong together if they were trained by the same recipe and tested by the same protocol:
            all of their stamps but the seeds and the commit agrees, and so do the target's images and camera rule.
            Rows stand in the order of the tests, then of ``results``.

    Returns:
        the table as text, without a closing newline. A deviation is that of the seeds (n - 1 in the denominator).

    Raises:
        ConfigError: two results of one row have the same seeds.
    """
    groups = _groups(results)
    places = {key: (key[:2], number) for number, key in enumerate(groups)}
    first = {pair: number for number, (pair, _) in reversed(list(enumerate(places.values())))}
    ordered = sorted(groups, key=lambda key: (first[key[:2]], places[key][1]))
    rows = [_row(groups[key]) for key in ordered]
    return tabulate(rows, HEADERS, "github", disable_numparse=True)


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the overview: its first cells by header, and a cell for each test it has."""

    key: tuple[str, ...]
    head: dict[str, str]
    cells: dict[str, str] = field(default_factory=dict)


def overview(results: Sequence[RunResult]) -> str:
    """Lay out results as a GitHub table with a row for all seeds of a training and a column for each test.

    Args:
        results: runs, taken together as by :func:`summary`. What differs in more than the test has a row of its own.

    Returns:
        the table as text, Rank-1 / mAP in percent, without a closing newline. ``Top k`` is there if there is a second
        stage, ``Protocol`` if rows would look alike without it.

    Raises:
        ConfigError: two results of one cell have the same seeds.
    """
    lines: list[_Line] = []
    for group in _groups(results).values():
        result, target = group[0]
        key = _training(result), _asked(target), _seeds(group)
        line = next((line for line in lines if line.key == key and target.target not in line.cells), None)
        if line is None:
            line = _Line(key, _head(group))
            lines.append(line)
        maps = [entry.quoted_map(result.stamp.ap_rule) for _, entry in group]
        line.cells[target.target] = f"{_spread([entry.rank1 for _, entry in group])} / {_spread(maps)}"
    tests = list(dict.fromkeys(target.target for result in results for target in result.targets))
    headers = _headers(lines)
    rows = [(*(line.head[name] for name in headers), *(line.cells.get(test, "-") for test in tests)) for line in lines]
    return tabulate(rows, (*headers, *tests), "github", disable_numparse=True)


def _head(group: Group) -> dict[str, str]:
    result, target = group[0]
    stamp = result.stamp
    return {
        "Train": stamp.trained_on,
        "Experiment": result.title,
        "Method": stamp.method,
        "Top k": top_k(target),
        "Seeds": _seeds(group),
        "Protocol": f"{settings(stamp)}, {stamp.ap_rule.replace('_', ' ')}, camera rule {_asked(target)}",
    }


def _headers(lines: Sequence[_Line]) -> list[str]:
    """Those that tell something."""
    headers = ["Train", "Experiment", "Method", "Top k", "Seeds"]
    if all(line.head["Top k"] == "-" for line in lines):
        headers.remove("Top k")
    if len({tuple(line.head[name] for name in headers) for line in lines}) < len(lines):
        headers.append("Protocol")
    return headers


def _groups(results: Sequence[RunResult]) -> dict[tuple[str, ...], Group]:
    """Results that differ by their seeds only, in order."""
    groups: dict[tuple[str, ...], list[tuple[RunResult, TargetResult]]] = {}
    for result in results:
        for target in result.targets:
            group = groups.setdefault(_key(result, target), [])
            if seed(result.stamp) in [seed(other.stamp) for other, _ in group]:
                raise ConfigError(
                    f"{result.title}: found two results of seed {seed(result.stamp)} on {target.target}. A deviation "
                    "over seeds wants each once: leave one of them out."
                )
            group.append((result, target))
    return dict(groups)


def _key(result: RunResult, target: TargetResult) -> tuple[str, ...]:
    test = target.model_dump_json(include={"counts_checked", "camera_rule", "num_query", "num_gallery"})
    return result.stamp.trained_on, target.target, _training(result), test


def _training(result: RunResult) -> str:
    """All that results of one row have in common but the test: each seed has a first stage of its own."""
    title = result.title if result.stamp.recipe is None else ""  # the best that older results tell
    return title + result.stamp.model_dump_json(exclude={"seed", "first_seed", "commit"})


def _asked(target: TargetResult) -> str:
    """The camera rule that was asked for; some targets have no cameras."""
    return "off" if target.camera_rule == "off" else "on"


def _seeds(group: Group) -> str:
    return ", ".join(seed(run.stamp) for run, _ in group)


def _row(group: Group) -> tuple[str, ...]:
    result, target = group[0]
    rule = result.stamp.ap_rule
    trainings = [run.training for run, _ in group if run.training is not None]
    return (
        result.stamp.trained_on,
        target.target,
        result.title,
        result.stamp.method,
        top_k(target),
        _seeds(group),
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
