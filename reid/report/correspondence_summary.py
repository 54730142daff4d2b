"""Where matchers find correspondences, one row for runs that differ by their seed only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from tabulate import tabulate

from reid.errors import ConfigError
from reid.evaluation.correspondence_results import CorrespondenceResult, Gain, IdentityResult, MethodResult

HEADERS = (
    "Matcher",
    "Test",
    "Pairs",
    "Method",
    "Seeds",
    "EPE px",
    "PCK 2 px",
    "PCK 4 px",
    "PCK 8 px",
    "Coverage",
    "Certainty AUC",
    "Precision",
    "Recall",
    "AP",
    "PCK 4 px ahead",
    "AP ahead",
    "Marginal error",
)
IDENTITY_HEADERS = ("Matcher", "Test", "Score", "Seeds", "AUC")

RowT = TypeVar("RowT", MethodResult, IdentityResult)
MethodRow = tuple[CorrespondenceResult, MethodResult]
IdentityRow = tuple[CorrespondenceResult, IdentityResult]


def correspondence_summary(results: Sequence[CorrespondenceResult]) -> str:
    """Lay out results as two GitHub tables: where matches lie, and how well each score tells one person from two.

    Args:
        results: of runs; two belong together if their title and their recipe agree. In percent but for pixels and AUC.
            "ahead" is how far the run's matcher is ahead of the row's method, with the number of seeds whose 95 %
            interval excludes zero. The marginal error is how far from converged the transport of the median pair is.

    Returns:
        the tables as text, with an empty line between them. A deviation is that of the seeds (n - 1 in the
        denominator).

    Raises:
        ConfigError: two results of one row have the same seed.
    """
    methods: dict[tuple[str, ...], list[MethodRow]] = {}
    scores: dict[tuple[str, ...], list[IdentityRow]] = {}
    for result in results:
        for row in result.methods:
            key = (result.title, result.recipe, row.target, row.pairs, row.method)
            _join(methods.setdefault(key, []), (result, row))
        for score in result.identity:
            _join(scores.setdefault((result.title, result.recipe, score.target, score.score), []), (result, score))
    tables = (HEADERS, map(_method_row, methods.values())), (IDENTITY_HEADERS, map(_score_row, scores.values()))
    return "\n\n".join(tabulate(rows, headers, "github", disable_numparse=True) for headers, rows in tables)


def _join(group: list[tuple[CorrespondenceResult, RowT]], member: tuple[CorrespondenceResult, RowT]) -> None:
    result, row = member
    if result.seed in [other.seed for other, _ in group]:
        raise ConfigError(
            f"{result.title}: found two results of seed {result.seed} on {row.target}. A deviation over seeds wants "
            "each once: leave one of them out."
        )
    group.append(member)


def _method_row(group: Sequence[MethodRow]) -> tuple[str, ...]:
    result, row = group[0]
    rows = [other for _, other in group]
    return (
        result.title,
        row.target,
        f"{row.pairs} ({row.num_pairs:,})",
        row.method,
        _seeds([other for other, _ in group]),
        _spread([other.mean_px for other in rows], "{:.1f}".format),
        *(_percent([getattr(other, key) for other in rows]) for key in ("pck_2px", "pck_4px", "pck_8px", "coverage")),
        _spread([other.auc for other in rows], "{:.3f}".format),
        *(_percent([getattr(other, key) for other in rows]) for key in ("precision", "recall", "ap")),
        _ahead([other.pck_4px_gain for other in rows]),
        _ahead([other.ap_gain for other in rows]),
        _spread([other.marginal_error for other in rows], "{:.1e}".format),
    )


def _score_row(group: Sequence[IdentityRow]) -> tuple[str, ...]:
    result, row = group[0]
    auc = _spread([other.auc for _, other in group], "{:.3f}".format)
    return result.title, row.target, row.score, _seeds([other for other, _ in group]), auc


def _seeds(results: Sequence[CorrespondenceResult]) -> str:
    return ", ".join(str(result.seed) for result in results)


def _percent(fractions: Sequence[float | None]) -> str:
    return _spread([None if fraction is None else 100 * fraction for fraction in fractions], "{:.1f}".format)


def _spread(values: Sequence[float | None], shown: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = shown(float(np.mean(known)))
    return mean if len(known) == 1 else f"{mean} ± {shown(float(np.std(known, ddof=1)))}"


def _ahead(gains: Sequence[Gain | None]) -> str:
    known = [gain for gain in gains if gain is not None]
    if not known:
        return "-"
    beyond = sum(gain.low > 0 or gain.high < 0 for gain in known)
    return f"{100 * np.mean([gain.value for gain in known]):+.1f} ({beyond} of {len(known)})"
