"""The results table: ours beside the published numbers, every row with the choices that made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from reid.config import Config, parse, read_toml
from reid.evaluation.reranked import Fraction
from reid.evaluation.results import RunResult, Stamp, TargetResult

HEADERS = (
    "Train",
    "Test",
    "Experiment",
    "Method",
    "Top k",
    "Rank-1",
    "mAP",
    "From",
    "AP rule",
    "Protocol",
    "Seed",
    "Commit",
)


class PublishedRow(Config):
    """``[[row]]`` of ``experiments/published.toml``: a result that somebody published."""

    source: str  # label of the set trained on; of several, joined by " + "
    method: str  # as the source of the number calls it
    matcher: str | None = None  # the component that reproduces it; None: there is none
    target: str  # label of the set tested on
    rank1: Fraction
    map: Fraction  # finite sum
    citation: str  # where the number stands
    citation_url: str
    config: str  # settings that matter when comparing


class _Published(Config):
    row: tuple[PublishedRow, ...]


def read_published(path: Path) -> tuple[PublishedRow, ...]:
    """Read published results. Raises ConfigError where the file is missing, damaged or misspelt."""
    return parse(_Published, read_toml(path), str(path)).row


def table(results: Sequence[RunResult], published: Sequence[PublishedRow] = ()) -> str:
    """Lay out results as a GitHub table in percent, with the citations of published numbers below it.

    Rows are grouped by training and test set in the order of ``results``; published rows of the same pair stand
    below ours. Published rows of other pairs are left out, and so are those of a test set whose images were not
    compared with the published counts: a subset is another test.

    Args:
        results: runs, each with one row a target.
        published: rows to compare with.

    Returns:
        the table as text, without a closing newline.
    """
    ours: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    comparable = set()
    for result in results:
        for target in result.targets:
            pair = result.stamp.trained_on, target.target
            ours.setdefault(pair, []).append(_our_row(result, target))
            if target.counts_checked:
                comparable.add(pair)
    beside = {
        pair: [row for row in published if (row.source, row.target) == pair] for pair in ours if pair in comparable
    }
    citations = list(dict.fromkeys(f"{row.citation}. {row.citation_url}" for rows in beside.values() for row in rows))
    rows = []
    for pair, group in ours.items():
        rows += group
        rows += [_published_row(row, citations) for row in beside.get(pair, ())]
    lines = [tabulate(rows, headers=HEADERS, tablefmt="github", disable_numparse=True)]
    notes = [f"[{number}] {citation}" for number, citation in enumerate(citations, start=1)]
    return "\n\n".join(lines + notes)


def _our_row(result: RunResult, target: TargetResult) -> tuple[str, ...]:
    stamp = result.stamp
    return (
        stamp.trained_on,
        target.target,
        result.title,
        stamp.method,
        top_k(target),
        f"{100 * target.rank1:.1f}",
        f"{100 * target.quoted_map(stamp.ap_rule):.1f}",
        "ours",
        stamp.ap_rule.replace("_", " "),
        protocol(result, target),
        seed(stamp),
        stamp.commit or "-",
    )


def _published_row(row: PublishedRow, citations: Sequence[str]) -> tuple[str, ...]:
    number = 1 + citations.index(f"{row.citation}. {row.citation_url}")
    numbers = f"{100 * row.rank1:.1f}", f"{100 * row.map:.1f}"
    own = row.source, row.target, "-", row.method, "-"
    return (*own, *numbers, f"published [{number}]", "finite sum", row.config, "-", "-")


def top_k(target: TargetResult) -> str:
    """How many images a query were put in order again, and by which scores if not by the second stage's alone."""
    changed = target.reranked
    if changed is None:
        return "-"
    length = "all" if changed.top_k is None else str(changed.top_k)
    return length if changed.fusion in {None, "replace"} else f"{length}, {changed.fusion}"


def seed(stamp: Stamp) -> str:
    """Of the training; behind a first stage of another seed, both: ``1 > 0``."""
    one_seed = stamp.first_seed in {None, stamp.seed}
    return str(stamp.seed) if one_seed else f"{stamp.first_seed} > {stamp.seed}"


def settings(stamp: Stamp) -> str:
    """The choices behind all numbers of a run: ``last epoch, 128x64 float32, float16 states`` ..."""
    height, width = stamp.image_size
    return ", ".join(
        [
            stamp.checkpoint_rule,
            f"{height}x{width} {stamp.precision}, {stamp.state_precision} states",
            *([f"keys cut to rank {stamp.key_rank}"] if stamp.key_rank else []),
            *(["int8 products"] if stamp.int8_products else []),
        ]
    )


def protocol(result: RunResult, target: TargetResult) -> str:
    """The same and those behind one test: ``last epoch, 128x64 float32, float16 states, camera rule on`` ..."""
    checked = target.counts_checked and result.stamp.sources_counts_checked
    uncounted = target.num_query - target.num_query_counted
    return ", ".join(
        [
            settings(result.stamp),
            f"camera rule {target.camera_rule}",
            f"counts {'checked' if checked else 'unchecked'}",
            *([f"{uncounted} of {target.num_query} queries without a match"] if uncounted else []),
        ]
    )
