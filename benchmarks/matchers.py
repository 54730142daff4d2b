"""What a pair costs by every matcher at the published map size: pairs a second, multiplications, bytes of an image.

Random maps, no backbone; states wait and are compared as ``reid evaluate`` does it by default. The ratio is that of
pairs a second to TransMatcher's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._rows import Row
from benchmarks._timing import medians
from reid.build import component_config, component_module
from reid.kernels import simmax
from reid.matchers._base import Matcher
from reid.memory import keep_freed_memory
from reid.types import FeatureSpec, ImageState

CHANNELS, HEIGHT, WIDTH = 1024, 24, 8
SPEC = FeatureSpec((384, 128), {16: (CHANNELS, HEIGHT, WIDTH)})
S = HEIGHT * WIDTH
BLOCK = (64, 256)  # query and gallery images of matchers that compare all pairs
SHORTLIST = (1, 16)  # of the others: a query and what was proposed
IMAGES = 8  # that differ
REFERENCE = "transmatcher"
ETR_S, ETR_RELEASED = "etr, variant s", "etr, as released"


def layer(num_tokens: int, dim: int, feedforward: int) -> int:
    """Multiplications of a transformer layer: four projections, attention, perceptron."""
    return 4 * num_tokens * dim**2 + 2 * num_tokens**2 * dim + 2 * num_tokens * dim * feedforward


def cross_decoder(num_layers: int, dim: int, feedforward: int) -> int:
    """The same of decoder layers, which attend to themselves and to another image."""
    return num_layers * (8 * S * dim**2 + 4 * S**2 * dim + 2 * S * dim * feedforward)


def message_passing(num_layers: int, dim: int) -> int:
    """The same of SuperGlue's layers, self or cross, on both images: attention, and a perceptron of twice the width."""
    return num_layers * 2 * (10 * S * dim**2 + 2 * S**2 * dim)


FORMULAS: dict[str, int | None] = {
    "embedding": CHANNELS,
    "color_histogram": 6 * (8 * 8 + 8),
    "vit": 512,
    "transformer": 512,
    "qaconv": S**2 * 128,
    "transmatcher": 3 * (S**2 * 512 + 2 * S * 2048),
    "transformer_cross": cross_decoder(2, 128, 512),
    "transformer_cat": 2 * layer(2 * S, 128, 512),
    ETR_RELEASED: 2 * layer(S + 1, 128, 1024),
    "etr": 6 * 2 * layer(S + 1, 128, 1024),
    "rrt": 6 * layer(2 * S + 4, 128, 1024),
    ETR_S: 2 * 2 * layer(S, 256, 2048),
    "superglue": message_passing(6, 128) + 2 * S * 128**2 + S**2 * 128,
    "roma": None,
}
"""Multiplications of a pair as the papers describe it; we save what depends on one image or on no other token. RoMa has
too many kinds of steps for a formula."""

OPTIONS: dict[str, dict[str, object]] = {ETR_S: {"variant": "s"}, ETR_RELEASED: {"released": True}}


def measure() -> list[Row]:
    """Rows: a matcher each, with default settings."""
    keep_freed_memory()  # as the reid command does
    matchers = {case: build(case) for case in FORMULAS}
    states = {case: encoded(matcher, sum(_sides(matcher))) for case, matcher in matchers.items()}
    seconds = medians({case: _scoring(matcher, states[case]) for case, matcher in matchers.items()}, rounds=3)
    pair_s = {case: seconds[case] / math.prod(_sides(matcher)) for case, matcher in matchers.items()}
    rows = []
    for case, matcher in matchers.items():
        note = _note(pair_s[case], matcher, states[case], FORMULAS[case])
        rows.append(Row(case, 1 / pair_s[case], "pairs/s", pair_s[REFERENCE] / pair_s[case], note=note))
    return rows


def build(case: str) -> Matcher:
    """The matcher of a case, with random weights."""
    name = case.partition(",")[0]
    config = component_config("matcher", {"name": name, **OPTIONS.get(case, {})}, "a benchmark")
    torch.manual_seed(0)
    matcher: Matcher = component_module("matcher", name, "a benchmark").COMPONENT(config, SPEC).eval()
    return matcher


@torch.no_grad()
def encoded(matcher: Matcher, num: int) -> ImageState:
    """States as they wait to be scored, in bfloat16 but for embeddings; of a few random images, repeated."""
    generator = torch.Generator().manual_seed(0)
    image_BCHW = torch.rand(IMAGES, 3, *SPEC.image_size, generator=generator)
    map_BCHW = torch.randn(IMAGES, CHANNELS, HEIGHT, WIDTH, generator=generator).relu()
    return matcher.encode(image_BCHW, {16: map_BCHW}).stored("bfloat16")[torch.arange(num) % IMAGES]


def counted(matcher: Matcher, state: ImageState) -> float:
    """Multiplications of one pair that PyTorch sees, with kernels that it can look into.

    With gradients wanted and attention written out, for it does not count its own fused layers.
    """
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), simmax.using("eager"), sdpa_kernel(SDPBackend.MATH), counter:
        matcher.score(state[[0]], state[[1]])
    return counter.get_total_flops() / 2


def _note(seconds: float, matcher: Matcher, state: ImageState, formula: int | None) -> str:
    by_formula = "" if formula is None else f" ({1e-9 * formula:.3g} by formula)"
    multiplied = f"{1e-9 * counted(matcher, state):.3g} GMAC a pair{by_formula}"
    return f"{1e3 * seconds:.3g} ms and {multiplied}, {state.nbytes // len(state):,} bytes an image"


def _scoring(matcher: Matcher, state: ImageState) -> Callable[[], Tensor]:
    num_query = _sides(matcher)[0]
    return partial(_score, matcher, state[:num_query], state[num_query:])


@torch.no_grad()
def _score(matcher: Matcher, query: ImageState, gallery: ImageState) -> Tensor:
    return matcher.score(query, gallery)


def _sides(matcher: Matcher) -> tuple[int, int]:
    return SHORTLIST if matcher.info.kind == "top_k" else BLOCK
