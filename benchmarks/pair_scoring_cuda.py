"""Pairs a second at the published size on a GPU, and their share of a plain product's rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks._rows import Row
from benchmarks.pair_scoring import MFLOP, SPEC, settled
from reid.kernels import simmax
from reid.kernels.simmax import Backend
from reid.matchers._base import Matcher
from reid.matchers.qaconv import Config as QAConvConfig
from reid.matchers.qaconv import QAConv
from reid.matchers.transmatcher import Config, TransMatcher
from reid.types import ImageState

QUERIES, GALLERY, ROUNDS = 512, 1024, 5
WAYS: tuple[tuple[torch.dtype, Backend], ...] = (
    (torch.float32, "eager"),
    (torch.bfloat16, "eager"),
    (torch.bfloat16, "triton"),
    (torch.float16, "triton"),
)
GOAL = 4e6  # pairs/s of TransMatcher by the fused kernel, on an H200


def measure() -> list[Row]:
    """Rows: each matcher by PyTorch's operations in bfloat16, the ratios' base, and the other ways."""
    rows = []
    matchers = {
        "TransMatcher": (TransMatcher(Config(), SPEC), "keys"),
        "QAConv": (QAConv(QAConvConfig(), SPEC), "features"),
    }
    for name, (matcher, field) in matchers.items():
        on_gpu = settled(matcher).cuda()
        state = ImageState({field: torch.randn(QUERIES + GALLERY, *on_gpu.field_shape, device="cuda")})
        scores = {way: partial(_score, on_gpu, state.to(dtype=way[0]), way[1]) for way in WAYS}
        rate = {way: QUERIES * GALLERY / _seconds(score) for way, score in scores.items()}
        for way, value in rate.items():
            dtype, backend = way
            share = value * MFLOP[name] * 1e6 / _product_rate(dtype, on_gpu.field_shape[-1])
            rows.append(
                Row(
                    f"{name}: {str(dtype).removeprefix('torch.')}, {backend}",
                    value,
                    "pairs/s",
                    value / rate[torch.bfloat16, "eager"],
                    peak_mib=_peak_mib(scores[way]),
                    goal=GOAL if name == "TransMatcher" and backend == "triton" else None,
                    note=f"{share:.0%} of a plain product's rate on {torch.cuda.get_device_name()}",
                    goal_is_value=True,
                )
            )
    return rows


@torch.no_grad()
def _score(matcher: Matcher, state: ImageState, backend: Backend) -> Tensor:
    with simmax.using(backend):
        return matcher.score(state[:QUERIES], state[QUERIES:])


def _seconds(run: Callable[[], object]) -> float:
    """The least of some rounds, after one that compiles."""
    found = []
    for _ in range(ROUNDS + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _peak_mib(run: Callable[[], object]) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _product_rate(dtype: torch.dtype, depth: int) -> float:
    left = torch.randn(16 * 192, depth, device="cuda").to(dtype)
    right = torch.randn(depth, 64 * 192, device="cuda").to(dtype)
    return 2 * len(left) * right.shape[1] * depth / _seconds(lambda: left @ right)
