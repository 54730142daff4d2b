"""Seconds to compare one image of every identity with those of all others, extraction apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_mib
from benchmarks.pair_scoring import SPEC, settled, weights
from reid.evaluation.scoring import Scoring, score_gallery
from reid.evaluation.states import collect_states
from reid.matchers.transmatcher import Config, TransMatcher
from reid.memory import keep_freed_memory
from reid.types import ImageState
from tests.reference.einsum import transmatcher_scores

NAME = "graph_sampling"
MARKET, RANDPERSON = 751, 8000
REFERENCE_CLASSES, BLOCK = 96, 32  # a part of the reference, which takes ten minutes for Market-1501
REFERENCE = f"einsum, float32, {MARKET} classes (from {REFERENCE_CLASSES})"
OURS = f"reid, bfloat16, {MARKET} classes"
GOALS = {MARKET: 45.0, RANDPERSON: 1.5 * 3600}


def measure() -> list[Row]:
    """Rows: the reference on a part of the pairs, ours on Market-1501's classes, and from it RandPerson's."""
    seconds = medians(cases(), rounds=1)
    base = seconds[REFERENCE] * (MARKET / REFERENCE_CLASSES) ** 2
    own = seconds[OURS]
    rate = f"{MARKET**2 / own:,.0f} pairs/s"
    larger = (RANDPERSON / MARKET) ** 2
    return [
        Row(REFERENCE, base, "s", 1.0, peak_mib(NAME, REFERENCE), note=f"{MARKET**2 / base:,.0f} pairs/s"),
        Row(OURS, own, "s", base / own, peak_mib(NAME, OURS), GOALS[MARKET], rate, goal_is_value=True),
        Row(
            f"reid, bfloat16, {RANDPERSON:,} classes (from {MARKET})",
            own * larger,
            "s",
            base / own,
            goal=GOALS[RANDPERSON],
            note=rate,
            goal_is_value=True,
        ),
    ]


def cases() -> dict[str, Callable[[], object]]:
    """Name -> compare all classes."""
    torch.manual_seed(0)
    matcher = settled(TransMatcher(Config(), SPEC))
    return {REFERENCE: partial(_reference, matcher), OURS: partial(_ours, matcher)}


def _reference(matcher: TransMatcher) -> None:
    keep_freed_memory(False)
    layers = [weights(matcher, f"decoder.layers.{level}.") for level in range(3)]
    norm = weights(matcher, "decoder.norm.")
    blocks = [[torch.randn(BLOCK, 192, 512) for _ in range(3)] for _ in range(REFERENCE_CLASSES // BLOCK)]
    with torch.no_grad():
        for query in blocks:
            for gallery in blocks:
                transmatcher_scores(query, gallery, layers, norm)


def _ours(matcher: TransMatcher) -> None:
    keep_freed_memory()
    how = Scoring()
    chunks = (ImageState({"keys": torch.randn(16, *matcher.field_shape).bfloat16()}) for _ in range(MARKET // 16 + 1))
    with TemporaryDirectory() as folder, torch.no_grad():
        state = collect_states(
            (chunk[: max(0, MARKET - 16 * index)] for index, chunk in enumerate(chunks)),
            MARKET,
            max_memory=how.query_memory,
            file=Path(folder) / "states",
        )
        score_gallery(matcher.score, state, state.split(how.gallery_block), MARKET, how=how)
