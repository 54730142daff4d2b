"""Pairs a second of TransMatcher and QAConv at the published size, against the einsum formulation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import BatchNorm1d, functional

from benchmarks._rows import Row
from benchmarks._timing import medians, peak_mib
from reid.kernels import native, simmax
from reid.kernels.simmax import Backend
from reid.matchers._base import Matcher
from reid.matchers.qaconv import Config as QAConvConfig
from reid.matchers.qaconv import QAConv
from reid.matchers.transmatcher import Config, TransMatcher
from reid.memory import keep_freed_memory
from reid.types import FeatureSpec, ImageState
from tests.reference.einsum import qaconv_scores, transmatcher_scores

M = TypeVar("M", bound=Matcher)
NAME = "pair_scoring"
BLOCK = 32  # images a side of the reference, as the released code scores them
QUERIES, GALLERY = 64, 256  # of ours: half a block of the scoring engine
SPEC = FeatureSpec((384, 128), {16: (1024, 24, 8)})
REFERENCE = "einsum, float32"
REFERENCE_KEPT = "einsum, float32, freed memory kept"
WAYS: dict[str, tuple[torch.dtype, Backend]] = {
    "float32": (torch.float32, "eager"),
    "bfloat16, eager": (torch.bfloat16, "eager"),
    "bfloat16, compiled": (torch.bfloat16, "compiled"),
    "bfloat16, native": (torch.bfloat16, "native"),
    "int8, native": (torch.bfloat16, "int8"),
}
GOALS = {
    "TransMatcher: float32": 2.5,
    "TransMatcher: bfloat16, eager": 9.0,
    "TransMatcher: bfloat16, compiled": 14.0,
    "TransMatcher: bfloat16, native": 20.0,
    "QAConv: bfloat16, native": 10.0,
}
MFLOP = {
    "TransMatcher": 3 * (2 * 192 * 192 * 512 + 2 * 2 * 192 * 2048) / 1e6,
    "QAConv": (2 * 192 * 192 * 128 + 2 * 2 * 192) / 1e6,
}
_PROJECTIONS_MFLOP = 3 * 2 * BLOCK * 2 * 192 * 512**2 / BLOCK**2 / 1e6
"""Of a pair by TransMatcher's reference, which projects both sides of every block anew; our states are projected."""
_DEPTH = {"TransMatcher": 512, "QAConv": 128}
_PRODUCTS = 200  # of 16 query images with one gallery image, in a round
_PRODUCT_FLOP = {matcher: _PRODUCTS * 2 * 16 * 192 * 192 * depth for matcher, depth in _DEPTH.items()}


def measure() -> list[Row]:
    """Rows: each matcher's reference, then our ways; a row's note compares with a plain product of the same shape."""
    products = _products()
    seconds = medians(cases() | products, rounds=3)
    rows = []
    for case, value in seconds.items():
        if case in products:
            continue
        matcher, _, way = case.partition(": ")
        pairs = QUERIES * GALLERY if way in WAYS else BLOCK**2
        reference_rate = BLOCK**2 / seconds[f"{matcher}: {REFERENCE}"]
        again = 0.0 if way in WAYS or matcher == "QAConv" else _PROJECTIONS_MFLOP
        gflops = pairs / value * (MFLOP[matcher] + again) / 1e3
        plain = _PRODUCT_FLOP[matcher] / seconds[f"{matcher}: {WAYS.get(way, (torch.float32,))[0]}"]
        share = gflops * 1e9 / plain
        note = f"{gflops:,.0f} GFLOP/s, {share:.0%} of a plain product's"
        ratio = pairs / value / reference_rate
        rows.append(Row(case, pairs / value, "pairs/s", ratio, peak_mib(NAME, case), GOALS.get(case), note))
    return rows


def cases() -> dict[str, Callable[[], object]]:
    """Name -> score a block of pairs."""
    torch.manual_seed(0)
    transmatcher = settled(TransMatcher(Config(), SPEC))
    levels = [torch.randn(BLOCK, 192, 512) for _ in range(3)]
    layers = [weights(transmatcher, f"decoder.layers.{level}.") for level in range(3)]
    keys_NLSD = torch.randn(QUERIES + GALLERY, *transmatcher.field_shape)
    qaconv = settled(QAConv(QAConvConfig(), SPEC))
    feature_NSD = functional.normalize(torch.randn(QUERIES + GALLERY, *qaconv.field_shape), dim=-1)
    block_BSD = feature_NSD[:BLOCK].contiguous()
    transmatcher_reference = partial(
        *(transmatcher_scores, levels, levels, layers, weights(transmatcher, "decoder.norm."))
    )
    qaconv_reference = partial(qaconv_scores, block_BSD, block_BSD, weights(qaconv, ""))
    return (
        _references("TransMatcher", transmatcher_reference)
        | _ways(transmatcher, "TransMatcher", ImageState({"keys": keys_NLSD}))
        | _references("QAConv", qaconv_reference)
        | _ways(qaconv, "QAConv", ImageState({"features": feature_NSD}))
    )


def _references(name: str, scores: Callable[[], Tensor]) -> dict[str, Callable[[], object]]:
    return {
        f"{name}: {REFERENCE}": partial(_quietly, scores, keep=False),
        f"{name}: {REFERENCE_KEPT}": partial(_quietly, scores, keep=True),
    }


def _ways(matcher: Matcher, name: str, state: ImageState) -> dict[str, Callable[[], object]]:
    amx = native.amx().library is not None
    there = {"eager": True, "compiled": native.compiler() is not None, "native": amx, "int8": amx}
    return {
        f"{name}: {way}": partial(_score, matcher, state.to(dtype=dtype), backend)
        for way, (dtype, backend) in WAYS.items()
        if there[backend]
    }


def _score(matcher: Matcher, state: ImageState, backend: Backend) -> Tensor:
    keep_freed_memory()  # as the reid command does
    with torch.no_grad(), simmax.using(backend):
        return matcher.score(state[:QUERIES], state[QUERIES:])


def _quietly(scores: Callable[[], Tensor], *, keep: bool) -> Tensor:
    keep_freed_memory(keep)
    with torch.no_grad():
        return scores()


def _products() -> dict[str, Callable[[], object]]:
    """Matcher and dtype -> plain matrix products of the shape of its maps, as many as :data:`_PRODUCT_FLOP`."""
    cases = {}
    for matcher, depth in _DEPTH.items():
        for dtype in (torch.float32, torch.bfloat16):
            left, right = torch.randn(16 * 192, depth).to(dtype), torch.randn(depth, 192).to(dtype)
            cases[f"{matcher}: {dtype}"] = partial(_multiply, left, right, torch.empty(16 * 192, 192, dtype=dtype))
    return cases


def _multiply(left: Tensor, right: Tensor, out: Tensor) -> None:
    for _ in range(_PRODUCTS):
        torch.mm(left, right, out=out)


def settled(matcher: M) -> M:
    """In eval mode, with batch-norm statistics that are not the initial zeros and ones."""
    for module in matcher.modules():
        if isinstance(module, BatchNorm1d):
            module.get_buffer("running_mean").uniform_(-0.5, 0.5)
            module.get_buffer("running_var").uniform_(0.5, 1.5)
    return matcher.eval()


def weights(matcher: Matcher, prefix: str) -> dict[str, Tensor]:
    """Its tensors whose names begin with ``prefix``, without it."""
    state = matcher.state_dict()
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
