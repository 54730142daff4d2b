"""What second stages gained: between the first stage alone and a perfect order of what it proposed."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from reid.errors import ConfigError
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

GAINS_HEADERS = ("Order of the gallery", "Rank-1 / mAP", "mAP gained (95 %)", "Of the possible", "ms a query")
ALONE, PERFECT, RANDOM = "*the first stage's*", "*a perfect order of its shortlist*", "*a random order of it*"

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


def gains_table(results: Sequence[RunResult]) -> str | None:
    """Lay out second stages over one first stage on the first test of each, best mAP first, as a GitHub table.

    Args:
        results: runs whose first test was re-ranked, all by the same first stage; others are left out.

    Returns:
        the table as text, without a closing newline; None where nothing was re-ranked. The orders that are no second
        stage's stand where they belong: the first stage's, a perfect and a random one of its shortlist.

    Raises:
        ConfigError: the first stages or their shortlists differ.
    """
    found = [(run, run.targets[0], run.targets[0].reranked) for run in results if run.targets[0].reranked is not None]
    if not found:
        return None
    bounds: dict[str, Figures] = {}
    ranked: list[tuple[float, tuple[str, ...]]] = []
    for run, target, changed in found:
        own = Figures(rank1=target.rank1, mAP=target.mAP)
        name = run.stamp.method if changed.top_k is None else run.title
        ranked.append((own.mAP, (name, _shown(own), _gain(changed), _share(changed), _query_ms(target, changed))))
        for what, figures in ((ALONE, changed.first), (PERFECT, changed.oracle), (RANDOM, changed.shuffled)):
            if figures is not None and bounds.setdefault(what, figures) != figures:
                raise ConfigError(
                    f"{run.title}: wanted runs over one first stage and one shortlist, found {_shown(bounds[what])} "
                    f"and {_shown(figures)} for {what!r}. Make one table for each."
                )
    ranked += [(figures.mAP, (what, _shown(figures), "", "", "")) for what, figures in bounds.items()]
    ranked.sort(key=lambda row: -row[0])
    return tabulate([row for _, row in ranked], GAINS_HEADERS, "github", disable_numparse=True)


def _row(result: RunResult, target: TargetResult, changed: Reranked) -> tuple[str, ...]:
    weight = "" if changed.weight is None else f", {changed.weight:.1f} of the first"
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
        _gain(changed),
        _share(changed),
        _query_ms(target, changed),
    )


def _gain(changed: Reranked) -> str:
    return f"{100 * changed.gain:+.1f} ({100 * changed.gain_low:+.1f} to {100 * changed.gain_high:+.1f})"


def _share(changed: Reranked) -> str:
    return "-" if changed.share_of_oracle is None else f"{round(100 * changed.share_of_oracle)} %"


def _query_ms(target: TargetResult, changed: Reranked) -> str:
    images = target.num_query + target.num_gallery
    query_s = target.extract_s / images + (target.score_s + changed.rescore_s) / target.num_query
    return f"{1e3 * query_s:.3g}"


def _shown(figures: Figures | None) -> str:
    return "-" if figures is None else f"{100 * figures.rank1:.1f} / {100 * figures.mAP:.1f}"
