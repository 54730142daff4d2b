"""Pictures of curves: CMC of every target, and how training went."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice, pairwise, product
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reid.engine.log import Event, read_log
from reid.errors import CheckpointError, ShapeError
from reid.evaluation.results import RunResult, TargetResult
from reid.report._canvas import BLUE, GREY, LINE_COLOURS, LINE_STYLES, ORANGE, literal, plain, save_png

_PANELS = {
    "loss": "Loss",
    "accuracy": "Accuracy in the batch",
    "lr": "Learning rate",
    "images_per_s": "Training images / s",
}


def draw_cmc(results: Sequence[RunResult], path: Path, *, max_rank: int = 20) -> None:
    """Draw the CMC curves of all targets of all ``results`` into one PNG file.

    Args:
        results: runs whose curves share the picture, at least one.
        path: the PNG file.
        max_rank: last rank shown, at most 50.

    Raises:
        ShapeError: there is no curve to draw.
        StorageError: the file cannot be written.
    """
    curves = [(result, target) for result in results for target in result.targets]
    if not curves:
        raise ShapeError("draw_cmc: wanted results with at least one target, found none.")
    figure = Figure(figsize=(6.4, 4.4 + 0.2 * len(curves)), layout="constrained")
    axes = figure.add_subplot()
    looks = islice(cycle(product(LINE_STYLES, LINE_COLOURS)), len(curves))
    for (_, target), (style, colour) in zip(curves, looks, strict=True):
        axes.plot(range(1, max_rank + 1), target.cmc[:max_rank], style, color=colour, linewidth=1.8)
    axes.set(xlabel="Rank k", ylabel="Queries with a match at rank ≤ k", xlim=(1, max_rank))
    axes.set_title(literal("CMC: " + ", ".join(dict.fromkeys(target.target for _, target in curves))))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xticks([1, *range(5, max_rank + 1, 5)])
    axes.set_ylim(0.0, 1.0)
    plain(axes)
    labels = [literal(_curve_label(*curve)) for curve in curves]
    figure.legend(axes.lines, labels, loc="outside lower center", fontsize="small", frameon=False)
    save_png(figure, path)


def draw_training(log: Path, path: Path, *, title: str) -> None:
    """Draw loss, accuracy, learning rate and speed over the steps of a training log into one PNG file.

    Args:
        log: ``log.jsonl`` of a run.
        path: the PNG file.
        title: what was trained, on what.

    Raises:
        CheckpointError: the log is missing or damaged, or holds no finished epoch.
        StorageError: the file cannot be written.
    """
    events = read_log(log)
    epochs = [event for event in events if event["event"] == "epoch"]
    steps = [event for event in events if event["event"] == "step"]
    if not epochs:
        raise CheckpointError(f"{log}: wanted at least one finished epoch, found none. Train for longer.")
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    figure.suptitle(literal(title))
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (name, label) in zip(panels.flat, _PANELS.items(), strict=True):
        axes.plot(*_curve(steps, name), color=GREY, linewidth=0.7, alpha=0.6, label="step")
        axes.plot(*_curve(epochs, name), "o-", color=BLUE, markersize=3, linewidth=1.6, label="epoch")
        for before, after in pairwise(epochs):
            if before.get("stage") != after.get("stage"):
                axes.axvline(before["step"], color=ORANGE, linestyle=":", linewidth=1.5)
        axes.set_title(label, fontsize="medium")
        axes.set_ylim(bottom=0)
        plain(axes)
    for axes in panels[1]:
        axes.set_xlabel("Optimiser step (dotted: next stage)" if _stages(epochs) > 1 else "Optimiser step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    panels[0, 1].set_ylim(top=1.0)
    panels[0, 1].yaxis.set_major_formatter(PercentFormatter(1.0))
    panels[0, 0].legend(frameon=False, fontsize="small")
    save_png(figure, path)


def _curve_label(result: RunResult, target: TargetResult) -> str:
    stamp = result.stamp
    numbers = f"Rank-1 {target.rank1:.1%}, mAP {target.quoted_map(stamp.ap_rule):.1%}"
    return f"{stamp.trained_on} → {target.target}, {stamp.method}, seed {stamp.seed}: {numbers}"


def _curve(events: Sequence[Event], name: str) -> tuple[list[int], list[float]]:
    points = [(event["step"], event[name]) for event in events if event.get(name) is not None]
    return [step for step, _ in points], [value for _, value in points]


def _stages(events: Sequence[Event]) -> int:
    return len({event.get("stage") for event in events})
