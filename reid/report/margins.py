"""How far one run is ahead of others on the same queries, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from reid.evaluation.metrics import Interval, average_precision, average_precision_trapezoid, paired_bootstrap
from reid.evaluation.results import RunResult, TargetResult

SEED = 0  # of the bootstrap, so that the same results print the same intervals
_AP = {"finite_sum": average_precision, "trapezoid": average_precision_trapezoid}


def margins(results: Sequence[RunResult]) -> str:
    """Compare the first run with each of the others, target by target, as a GitHub table in points of percent.

    The interval is the 95 % one of a paired bootstrap over queries. Targets that only one of the two has, or that
    were tested with other queries, and results that keep no per-query ranks, are left out.

    Args:
        results: at least one run; the first is the one that is compared.

    Returns:
        the table as text, without a closing newline; a sentence where there is nothing to compare.
    """
    first, *others = results
    rows = []
    for target in first.targets:
        for other in others:
            rival = next((entry for entry in other.targets if entry.target == target.target), None)
            if rival is not None and _comparable(target, rival):
                rank1, mean_ap = _differences(first, target, rival)
                rows.append((target.target, first.title, other.title, _shown(rank1), _shown(mean_ap)))
    if not rows:
        return "No two of these results were made on the same queries with per-query ranks kept."
    return tabulate(rows, ["tested on", "run", "compared with", "Rank-1 margin", "mAP margin"], "github")


def _comparable(one: TargetResult, two: TargetResult) -> bool:
    if one.per_query is None or two.per_query is None:
        return False
    return [len(ranks) for ranks in one.per_query] == [len(ranks) for ranks in two.per_query]


def _differences(first: RunResult, one: TargetResult, two: TargetResult) -> tuple[Interval, Interval]:
    generator = np.random.default_rng(SEED)
    average = _AP[first.stamp.ap_rule]
    ranks = [[np.array(ranks_M) for ranks_M in target.per_query or () if ranks_M] for target in (one, two)]
    hit_one, hit_two = (np.array([rank_M[0] == 1 for rank_M in run], dtype=np.float64) for run in ranks)
    ap_one, ap_two = (np.array([average(rank_M) for rank_M in run]) for run in ranks)
    return paired_bootstrap(hit_one, hit_two, generator), paired_bootstrap(ap_one, ap_two, generator)


def _shown(interval: Interval) -> str:
    return f"{100 * interval.difference:+.1f} ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
