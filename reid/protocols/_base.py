"""What a protocol is: a named list of what is trained on and what is tested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Table = Mapping[str, Any]
"""A data set as ``[[source]]`` and ``[[target]]`` name it, such as ``{"name": "msmt17", "train": "all"}``."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One training and its tests.

    Attributes:
        sources: data sets whose training images are put together.
        targets: data sets whose query and gallery are tested, each on its own.
    """

    sources: tuple[Table, ...]
    targets: tuple[Table, ...]

    @property
    def name(self) -> str:
        """Such as ``market1501+msmt17_to_cuhk03_np-detected``; no two transfers of a protocol share it."""
        sides = (self.sources, self.targets)
        sources, targets = ("+".join("-".join(map(str, table.values())) for table in tables) for tables in sides)
        return f"{sources}_to_{targets}"


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named list of transfers. The file's last line is ``COMPONENT = Protocol(...)``.

    Attributes:
        name: the file's name.
        title: what it is, in a few words.
        source: the paper or code that states it.
        transfers: what is trained and tested.
    """

    name: str
    title: str
    source: str
    transfers: tuple[Transfer, ...]


def leave_one_out(sources: tuple[Table, ...], targets: tuple[Table, ...]) -> tuple[Transfer, ...]:
    """For each target, train on the sources of all other data sets; the two lists name the same sets in one order."""
    return tuple(
        Transfer(tuple(source for source in sources if source["name"] != target["name"]), (target,))
        for target in targets
    )
