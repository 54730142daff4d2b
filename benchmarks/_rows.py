"""What a benchmark reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Row:
    """One case.

    Attributes:
        case: what was measured. value: how fast, in ``unit``s. ratio: times as fast as the benchmark's reference.
        peak_mib: most memory beyond what was held before, None where it was not watched.
        goal: of the ratio, or of the value where ``goal_is_value``; None: none was set.
        note: the share of a limit, or what else there is to say.
    """

    case: str
    value: float
    unit: str
    ratio: float
    peak_mib: float | None = None
    goal: float | None = None
    note: str = ""
    goal_is_value: bool = False

    def record(self) -> dict[str, object]:
        """JSON-ready, with ``met``: None where there is no goal."""
        reached = self.value if self.goal_is_value else self.ratio
        less_is_better = self.goal_is_value and self.unit in {"s", "MiB"}
        met = None if self.goal is None else (reached <= self.goal if less_is_better else reached >= self.goal)
        row = asdict(self) | {"met": met}
        del row["goal_is_value"]
        return row
