"""Whether a state dict is a module's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

_NUM_SHOWN = 3


def misfits(module: nn.Module, state: Mapping[str, Tensor], *, optional: tuple[str, ...] = ()) -> str:
    """Say what keeps ``state`` from being loaded into ``module``.

    Args:
        module: any module.
        state: entry -> tensor.
        optional: ends of the names of entries that may be missing.

    Returns:
        Some of the entries that are missing, unexpected or of another shape, and how many more; ``""`` where all fit.
    """
    wanted = module.state_dict()
    problems = {
        "missing": [name for name in wanted if name not in state and not name.endswith(optional)],
        "unexpected": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in state and state[name].shape != tensor.shape
        ],
    }
    return "; ".join(f"{problem}: {some(names)}" for problem, names in problems.items() if names)


def some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return ", ".join(names[:_NUM_SHOWN]) + more
