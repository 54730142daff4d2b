"""Pairs a second of TransMatcher and QAConv at the published size, against the einsum formulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_memory, product_rate
from reid.kernels import native, simmax
from reid.kernels.simmax import Backend
from reid.matchers._base import Matcher
from reid.matchers.qaconv import Config as QAConvConfig
from reid.matchers.qaconv import QAConv
from reid.matchers.transmatcher import Config, TransMatcher
from reid.types import FeatureSpec, ImageState
from tests.reference.einsum import qaconv_scores, transmatcher_scores

BLOCK = 32  # images a side of the reference, as the released code scores them
QUERIES, GALLERY = 32, 256  # of ours: a block of the scoring engine
SPEC = FeatureSpec((384, 128), {16: (1024, 24, 8)})
GOALS = {"float32": 2.5, "bfloat16 eager": 9.0, "bfloat16 compiled": 14.0, "bfloat16 native": 20.0}


def measure() -> list[Row]:
    """Rows: TransMatcher's reference and our ways; the same of QAConv."""
    torch.manual_seed(0)
    return [*_transmatcher_rows(), *_qaconv_rows()]


@torch.no_grad()
def _transmatcher_rows() -> list[Row]:
    matcher = TransMatcher(Config(), SPEC).eval()
    _settle(matcher)
    levels = [torch.randn(BLOCK, 192, 512) for _ in range(3)]
    layers = [_weights(matcher, f"decoder.layers.{level}.") for level in range(3)]
    norm = _weights(matcher, "decoder.norm.")
    keys_NLSD = torch.randn(QUERIES + GALLERY, *matcher.key_shape)

    def reference() -> object:
        return transmatcher_scores(levels, levels, layers, norm)

    mflop = 3 * (2 * 192 * 192 * 512 + 2 * 2 * 192 * 2048) / 1e6
    peaks = {dtype: product_rate(192 * 16, 192, 512, getattr(torch, dtype)) / 1e6 for dtype in ("float32", "bfloat16")}
    rows = _compare("TransMatcher", reference, matcher, ImageState({"keys": keys_NLSD}, {}), GOALS)
    for row in rows:
        dtype = "bfloat16" if "bfloat16" in row.case else "float32"
        row.note = (
            f"{row.value * mflop / 1e3:,.0f} GFLOP/s, {row.value * mflop / peaks[dtype]:.0%} of a plain product's"
        )
    return rows


@torch.no_grad()
def _qaconv_rows() -> list[Row]:
    matcher = QAConv(QAConvConfig(), SPEC).eval()
    _settle(matcher)
    feature_NSD = torch.nn.functional.normalize(torch.randn(QUERIES + GALLERY, *matcher.feature_shape), dim=-1)
    block_BSD, weights = feature_NSD[:BLOCK].contiguous(), _weights(matcher, "")
    goals = {"bfloat16 native": 10.0}
    return _compare(
        "QAConv",
        lambda: qaconv_scores(block_BSD, block_BSD, weights),
        matcher,
        ImageState({"features": feature_NSD}, {}),
        goals,
    )


def _compare(
    name: str, reference: Callable[[], object], matcher: Matcher, state: ImageState, goals: Mapping[str, float]
) -> list[Row]:
    cases: dict[str, Callable[[], object]] = {f"{name}, einsum float32, {BLOCK} x {BLOCK}": reference}
    pairs = {next(iter(cases)): BLOCK * BLOCK}
    goal: dict[str, float] = {}
    for way in ("float32", "bfloat16 eager", "bfloat16 compiled", "bfloat16 native"):
        dtype, _, backend = way.partition(" ")
        if (backend == "native" and native.amx().library is None) or (backend == "compiled" and not native.compiler()):
            continue
        case = f"{name}, {way}"
        cases[case] = _ours(matcher, state.to(dtype=getattr(torch, dtype)), cast("Backend | None", backend or None))
        pairs[case], goal[case] = QUERIES * GALLERY, goals.get(way, 0.0)
    seconds = medians(cases)
    rate = {case: pairs[case] / seconds[case] for case in cases}
    base = next(iter(rate.values()))
    rows = []
    for case, run in cases.items():
        with peak_memory() as peak:
            run()
        rows.append(Row(case, rate[case], "pairs/s", rate[case] / base, peak.mib, goal.get(case) or None))
    return rows


def _ours(matcher: Matcher, state: ImageState, backend: Backend | None) -> Callable[[], Tensor]:
    query, gallery = state[:QUERIES], state[QUERIES:]

    def run() -> Tensor:
        if backend is None:
            return matcher.score(query, gallery)
        with simmax.using(backend):
            return matcher.score(query, gallery)

    return run


def _settle(matcher: Matcher) -> None:
    """Batch-norm statistics that are not the initial zeros and ones."""
    for module in matcher.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)


def _weights(matcher: Matcher, prefix: str) -> dict[str, Tensor]:
    state = matcher.state_dict()
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
