"""What an experiment is told as beside its numbers: a digest of its training, and its components in a few words."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from reid.build import Kind, component_config
from reid.experiment import with_components
from reid.schema import Experiment, Table

_SAID_APART = ("name", "weights", "normalization")

_NO_RECIPE: dict[str, Any] = {
    "title": True,
    "seed": True,
    "target": True,
    "evaluation": True,
    "checkpoints_kept": True,
    "first_stage": {"run", "top_k", "fusion"},
}


def recipe(experiment: Experiment) -> str:
    """Digest of all that decides what is trained but the seed: equal where trainings differ by their seed only.

    The folder of a first stage's run is no part of it: each seed has a first stage of its own. Nor is how a test joins
    the two. Nor is what is at its default: an option that is added later must not part results that were kept before it
    from those that come after.
    """
    table = with_components(experiment, _chosen).model_dump(mode="json", exclude_defaults=True, exclude=_NO_RECIPE)
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()[:10]


def describe(table: Table) -> str:
    """A component in a few words: its name and the settings that make it what it is."""
    settings = (f"{key}={value}" for key, value in table.items() if key not in _SAID_APART)
    return f"{table['name']} ({', '.join(settings)})"


def weights_file(backbone: Table | None) -> str | None:
    """Name of what a backbone started from; its folder is nobody's business. None: random weights, or no backbone."""
    if backbone is None or backbone["weights"] == "none":
        return None
    return Path(backbone["weights"]).name


def _chosen(kind: Kind, table: Table, place: str) -> Table:
    """A component's table without what is at its default."""
    chosen = component_config(kind, table, f"[{place}]").model_dump(mode="json", exclude_defaults=True)
    return {"name": table["name"], **chosen}
