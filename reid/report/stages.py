"""What second stages gained: between the first stage alone and a perfect order of what it proposed."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from reid.evaluation.reranked import Figures, Reranked
from reid.evaluation.results import RunResult, TargetResult
from reid.report.table import seed

HEADERS = (
    "Test",
    "Experiment",
    "Method",
    "Seed",
    "Top k",
    "First stage",
    "Re-ranked",
    "Perfect order",
    "Random order",
    "mAP gained (95 %)",
    "Of the possible",
    "ms a query",
)

NOTE = "mAP is the finite sum in this table; the trapezoid rule, which a run quotes elsewhere, gives other numbers."


def stages_table(results: Sequence[RunResult]) -> str | None:
    """Lay out what re-ranking changed as a GitHub table; Rank-1 / mAP in percent.

    Args:
        results: runs; targets that were not re-ranked are left out. Rows of one test stand together.

    Returns:
        the table as text, without a closing newline; None where nothing was re-ranked. mAP is the finite sum whatever
        a run quotes, since the gain is; a line below says so where that is another rule.
    """
    found = [
        (result.stamp.ap_rule, _row(result, target, target.reranked))
        for result in results
        for target in result.targets
        if target.reranked is not None
    ]
    rows = [row for _, row in found]
    tests = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: tests.index(row[0]))
    notes = [NOTE] if any(rule != "finite_sum" for rule, _ in found) else []
    return "\n\n".join([tabulate(rows, HEADERS, "github", disable_numparse=True), *notes]) if rows else None


def _row(result: RunResult, target: TargetResult, changed: Reranked) -> tuple[str, ...]:
    weight = "" if changed.weight is None else f", {changed.weight:.1f} of the first"
    share = "-" if changed.share_of_oracle is None else f"{100 * changed.share_of_oracle:.0f} %"
    images = target.num_query + target.num_gallery
    query_s = target.extract_s / images + (target.score_s + changed.rescore_s) / target.num_query
    return (
        target.target,
        result.title,
        result.stamp.method + weight,
        seed(result.stamp),
        "all" if changed.top_k is None else str(changed.top_k),
        _shown(changed.first),
        _shown(Figures(rank1=target.rank1, mAP=target.mAP)),
        _shown(changed.oracle),
        _shown(changed.shuffled),
        f"{100 * changed.gain:+.1f} ({100 * changed.gain_low:+.1f} to {100 * changed.gain_high:+.1f})",
        share,
        f"{1e3 * query_s:.3g}",
    )


def _shown(figures: Figures | None) -> str:
    return "-" if figures is None else f"{100 * figures.rank1:.1f} / {100 * figures.mAP:.1f}"
