"""Tables of where matchers find correspondences."""

from __future__ import annotations

from tabulate import tabulate

from reid.evaluation.correspondence_results import CorrespondenceResult, Gain, IdentityResult, MethodResult

HEADERS = (
    "Test",
    "Pairs",
    "Method",
    "EPE px",
    "PCK 2 / 4 / 8 px",
    "Coverage",
    "Certainty AUC",
    "Precision / recall / AP",
    "PCK 4 px ahead (95 %)",
    "AP ahead (95 %)",
    "Marginal error",
)


def correspondence_table(result: CorrespondenceResult) -> str:
    """Lay out where matches lie as a GitHub table, in percent but for pixels and AUC.

    Args:
        result: of one run. "ahead" is how far its matcher is ahead of the row's method; the marginal error is how far
            a keypoint's mass is from 1 at most, of the median pair.
    """
    return tabulate([_row(row) for row in result.methods], HEADERS, "github", disable_numparse=True)


def identity_table(result: CorrespondenceResult) -> str:
    """Lay out how well each score tells one person from two, as a GitHub table."""
    rows = [_identity_row(row) for row in result.identity]
    return tabulate(rows, ("Test", "Score", "Pairs", "AUC (95 %)"), "github", disable_numparse=True)


def _row(row: MethodResult) -> tuple[str, ...]:
    return (
        row.target,
        f"{row.pairs} ({row.num_pairs:,})",
        row.method,
        "-" if row.mean_px is None else f"{row.mean_px:.1f}",
        _percents(row.pck_2px, row.pck_4px, row.pck_8px),
        _percents(row.coverage),
        "-" if row.auc is None else f"{row.auc:.3f}",
        _percents(row.precision, row.recall, row.ap) if row.ap is not None else "-",
        _gain(row.pck_4px_gain),
        _gain(row.ap_gain),
        "-" if row.marginal_error is None else f"{row.marginal_error:.1e}",
    )


def _identity_row(row: IdentityResult) -> tuple[str, ...]:
    pairs = f"{row.num_same:,} of one person, {row.num_different:,} of two"
    return row.target, row.score, pairs, f"{row.auc:.3f} ({row.low:.3f} to {row.high:.3f})"


def _percents(*fractions: float | None) -> str:
    return " / ".join("-" if fraction is None else f"{100 * fraction:.1f}" for fraction in fractions)


def _gain(gain: Gain | None) -> str:
    return "-" if gain is None else f"{100 * gain.value:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
