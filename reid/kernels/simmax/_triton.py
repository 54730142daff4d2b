"""Maxima by one fused Triton kernel on CUDA: no similarity map is written to memory.

Positions come in blocks of 64; a block that its image does not fill repeats the image's last position, which changes
no maximum. A program takes two gallery images and a few blocks of query positions, and goes through the images'
blocks: products in the tensor cores' accumulators, weight and maxima right there. Its maxima over gallery positions
are then complete; those over query positions meet other programs' in atomic maxima, whose order does not matter.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    from triton import language as tl
except ImportError:  # PyTorch's builds with CUDA bring it, others do not
    triton = None

_SIDE = 64
_WARPS = 8
_OLDEST = (8, 0)
"""Compute capability from which on there are bfloat16 products and asynchronous copies."""


@dataclass(frozen=True, slots=True)
class Tile:
    """What a program multiplies at a time: 128 gallery positions by ``columns`` query positions.

    Attributes:
        columns: a power of two of at least 64.
        step: channels, a power of two of at least 16.
        stages: how many such steps are in shared memory or on their way.
    """

    columns: int
    step: int
    stages: int


WIDE = Tile(columns=256, step=64, stages=3)
"""Half precision: the fewest bytes a product that the registers have room for; 144 KiB of shared memory."""

NARROW = Tile(columns=128, step=64, stages=3)
"""Half precision with positions, which take registers, too, or on a GPU with less shared memory; 96 KiB."""

SINGLE = Tile(columns=64, step=32, stages=2)
"""Float32, which is multiplied outside the tensor cores."""


@cache
def obstacle() -> str:
    """Why the kernel cannot run here; empty where it can."""
    if triton is None:
        return "triton is not installed"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if torch.cuda.get_device_capability() < _OLDEST:
        return "the CUDA device is older than compute capability 8.0"
    if not any(map(shutil.which, (os.environ.get("CC", "gcc"), "gcc", "clang"))):
        return "triton needs a C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "triton needs Python's C headers"
    return ""


def maxima(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> Tensor:
    """Maxima of all pairs, [2, Q, G, S], float32: over gallery positions, then over query positions.

    Sums in float32; the weight in float16, with float32 features in float32. A NaN reaches all pairs of its image.

    Args:
        query_QSD: [Q, S, D], float16, bfloat16 or float32, on CUDA; images may lie apart.
        gallery_GSD: [G, S, D], same dtype and device.
        weight_SS: first index gallery, second query position, or None.
    """
    found, _, _ = _search(query_QSD, gallery_GSD, weight_SS, places=False)
    return found


def maxima_and_positions(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same, and where the maxima are, int32; of equal ones always the same one."""
    found, place_QGS, key_QGS = _search(query_QSD, gallery_GSD, weight_SS, places=True)
    ordered = (key_QGS >> 32).int()
    found[1] = torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
    return found, torch.stack((place_QGS, (key_QGS & 0xFFFFFFFF).int()))


def _search(
    query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, *, places: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Both maxima; with places only the first, where they are, and the second with their places in one integer.

    The integer's high half is the value's bits, those of negative values turned over, so that they order as values do.
    """
    (num_query, num_positions, _), num_gallery = query_QSD.shape, len(gallery_GSD)
    query, gallery = _aligned(query_QSD), _aligned(gallery_GSD)
    tile, blocks, dim = _tile(query, places=places), -(-num_positions // _SIDE), query.shape[2]
    nan_Q, nan_G = _nan_or_zero(query), _nan_or_zero(gallery)
    least_QG1 = (nan_Q[:, None] + nan_G - torch.inf)[..., None]
    shape = (num_query, num_gallery, num_positions)
    found = nan_Q.new_empty((2, *shape))
    place = nan_Q.new_empty(shape if places else 0, dtype=torch.int32)
    key = nan_Q.new_empty(shape if places else 0, dtype=torch.int64)
    if places:
        key[:] = torch.where(least_QG1.isnan(), 0x7FC00000 << 32, torch.iinfo(torch.int64).min)
    else:
        found[1] = least_QG1
    num_programs = -(-num_gallery // 2) * -(-num_query * blocks * _SIDE // tile.columns)
    with torch.cuda.device_of(query):
        if num_programs > 0:
            _kernel[(num_programs,)](
                *(query, gallery, None if weight_SS is None else _windows(weight_SS, query.dtype, tile)),
                *(nan_Q, nan_G, found[0], key if places else found[1], place if places else None),
                *(*query.stride()[:2], *gallery.stride()[:2], *shape, dim),
                *(blocks, tile.columns, tile.step, dim % tile.step == 0),
                num_warps=_WARPS,
                num_stages=tile.stages,
            )
    return found, place, key


def _tile(features: Tensor, *, places: bool) -> Tile:
    if features.dtype == torch.float32:
        return SINGLE
    if places:
        return NARROW
    if not features.is_cuda:
        return WIDE
    room = triton.runtime.driver.active.utils.get_device_properties(features.get_device())["max_shared_mem"]
    return WIDE if (2 * _SIDE + WIDE.columns) * WIDE.step * WIDE.stages * features.itemsize <= room else NARROW


def _aligned(feature_NSD: Tensor) -> Tensor:
    """The same or a copy, such that 16 bytes can be loaded at once: the kernel is far slower otherwise."""
    steps = (feature_NSD.shape[2], *feature_NSD.stride()[:2])
    if feature_NSD.stride(2) == 1 and all(step % 16 == 0 for step in steps) and feature_NSD.data_ptr() % 16 == 0:
        return feature_NSD.detach()
    num_images, num_positions, dim = feature_NSD.shape
    filled_NSD = feature_NSD.new_zeros(num_images, num_positions, -(-dim // 16) * 16)
    filled_NSD[:, :, :dim] = feature_NSD.detach()
    return filled_NSD


def _nan_or_zero(feature_NSD: Tensor) -> Tensor:
    """NaN for images with a NaN, which the kernel's maxima would pass over, else 0; [N], float32."""
    return torch.where(feature_NSD.amax((1, 2)).isnan(), torch.nan, 0.0).float()


def _windows(weight_SS: Tensor, dtype: torch.dtype, tile: Tile) -> Tensor:
    """The weight in whole blocks, and further to the right once more: programs begin at any block of an image."""
    last = len(weight_SS) - 1
    size = (last // _SIDE + 1) * _SIDE
    row = torch.arange(size, device=weight_SS.device)
    column = torch.arange(size + tile.columns - _SIDE, device=weight_SS.device) % size
    weight_SS = weight_SS.detach().to(torch.float32 if dtype == torch.float32 else torch.float16)
    return weight_SS[row.clamp_(max=last)[:, None], column.clamp_(max=last)]


def _jit(function: Callable[..., Any]) -> Any:
    """Compiled for each kind of arguments; what differs from call to call, and gains nothing, makes no new kind."""
    if triton is None:
        return function
    any_number, anywhere = ("num_query", "num_gallery"), ("over_query",)
    return triton.jit(function, do_not_specialize=any_number, do_not_specialize_on_alignment=anywhere)


@_jit
def _kernel(  # noqa: PLR0913, PLR0917 - a kernel has no other way
    query: tl.tensor,
    gallery: tl.tensor,
    weight: tl.tensor,
    query_nan: tl.tensor,
    gallery_nan: tl.tensor,
    over_gallery: tl.tensor,
    over_query: tl.tensor,
    place: tl.tensor,
    query_image: tl.tensor,
    query_position: tl.tensor,
    gallery_image: tl.tensor,
    gallery_position: tl.tensor,
    num_query: tl.tensor,
    num_gallery: tl.tensor,
    num_positions: tl.tensor,
    dim: tl.tensor,
    BLOCKS: tl.constexpr,
    COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
    WHOLE: tl.constexpr,
) -> None:
    """One program. ``weight`` and ``place`` may be None; offsets of images and of outputs need 64 bits."""
    ACROSS: tl.constexpr = COLUMNS // 64
    WIDTH: tl.constexpr = (BLOCKS + ACROSS - 1) * 64
    down, across = _place_in_grid(tl.cdiv(num_gallery, 2), tl.cdiv(num_query * BLOCKS, ACROSS))
    row, column = tl.arange(0, 128), tl.arange(0, COLUMNS)
    image = down * 2 + row // 64
    gallery += tl.minimum(image, num_gallery - 1).to(tl.int64)[:, None] * gallery_image
    block = tl.minimum(across * ACROSS + column // 64, num_query * BLOCKS - 1)
    position = tl.minimum(block % BLOCKS * 64 + column % 64, num_positions - 1)
    query += ((block // BLOCKS).to(tl.int64) * query_image + position.to(tl.int64) * query_position)[None, :]

    best = tl.full((2, 4, 8, COLUMNS), float("-inf"), tl.float32)
    best_at = tl.zeros((2, 4, 8, COLUMNS), tl.int32)
    similarity = tl.zeros((128, COLUMNS), tl.float32)
    # A block is reduced in the turn after its product: with the weight's load below the product, Triton 3.7 would
    # spread that load's layout over the maxima and pass all similarities through shared memory.
    for turn in tl.range(0, BLOCKS + 1):
        if turn > 0:
            start = turn * 64 - 64
            if weight is not None:
                window = weight + start * WIDTH + across * ACROSS % BLOCKS * 64
                factor = tl.load(window + tl.arange(0, 64)[:, None] * WIDTH + column[None, :])
                factor = tl.broadcast_to(factor[None], (2, 64, COLUMNS)).reshape(128, COLUMNS)
                similarity *= factor.to(tl.float32)
            # A thread holds rows r and r + 8 of 16: their maximum needs no other thread, the rest can wait.
            halves = tl.reshape(similarity, (2, 4, 2, 8, COLUMNS))
            if place is None:
                best = tl.maximum(best, tl.max(halves, 2))
            else:
                top, half = tl.max(halves, 2, return_indices=True)
                at = tl.arange(0, 4)[None, :, None, None] * 16 + half * 8 + tl.arange(0, 8)[None, None, :, None]
                best_at = tl.where(top > best, start + at, best_at)
                best = tl.maximum(best, top)
            sizes = num_query, num_gallery, num_positions
            _over_query(over_query, similarity, image, start + row % 64, across, sizes, BLOCKS, place is not None)
        own = tl.minimum(turn * 64 + row % 64, num_positions - 1).to(tl.int64)
        channels = tl.where(turn < BLOCKS, dim, 0)
        similarity = _product(gallery + own[:, None] * gallery_position, query, channels, STEP, WHOLE)

    best = tl.reshape(best, (2, 32, COLUMNS))
    top = tl.max(best, 1)
    image = down * 2 + tl.arange(0, 2)
    block = across * ACROSS + column // 64
    position = block % BLOCKS * 64 + column % 64
    inside = (image < num_gallery)[:, None] & ((block < num_query * BLOCKS) & (position < num_positions))[None, :]
    into = (block // BLOCKS).to(tl.int64)[None, :] * num_gallery + image[:, None]
    into = into * num_positions + position[None, :]
    nan = tl.load(query_nan + block // BLOCKS, mask=block < num_query * BLOCKS, other=0.0)[None, :]
    nan += tl.load(gallery_nan + image, mask=image < num_gallery, other=0.0)[:, None]
    tl.store(over_gallery + into, top + nan, mask=inside)
    if place is not None:
        at = tl.where(best == top[:, None, :], tl.reshape(best_at, (2, 32, COLUMNS)), num_positions)
        tl.store(place + into, tl.minimum(tl.min(at, 1), num_positions - 1), mask=inside)


@_jit
def _place_in_grid(num_down: tl.tensor, num_across: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """Programs that run at the same time share few images, which then come from the L2 cache."""
    num_grouped = 8 * num_across
    program = tl.program_id(0)
    first = program // num_grouped * 8
    height = tl.minimum(num_down - first, 8)
    return first + program % num_grouped % height, program % num_grouped // height


@_jit
def _product(
    gallery: tl.tensor, query: tl.tensor, dim: tl.tensor, STEP: tl.constexpr, WHOLE: tl.constexpr
) -> tl.tensor:
    """Rows at ``gallery``, [128, 1], times columns at ``query``, [1, columns]; float32 is not rounded to TF32."""
    channel = tl.arange(0, STEP)
    row = gallery + channel[None, :]
    column = query + channel[:, None]
    product = tl.zeros((128, query.shape[1]), tl.float32)
    for first in tl.range(0, dim, STEP):
        if WHOLE:
            part, other = tl.load(row + first), tl.load(column + first)
        else:
            part = tl.load(row + first, mask=(channel < dim - first)[None, :], other=0.0)
            other = tl.load(column + first, mask=(channel < dim - first)[:, None], other=0.0)
        product = tl.dot(part, other, product, input_precision="ieee")
    return product


@_jit
def _over_query(
    into: tl.tensor,
    similarity: tl.tensor,
    image: tl.tensor,
    position: tl.tensor,
    across: tl.tensor,
    sizes: tl.tensor,
    BLOCKS: tl.constexpr,
    PLACES: tl.constexpr,
) -> None:
    """Merge the maxima over the positions of every query block."""
    num_query, num_gallery, num_positions = sizes
    ACROSS: tl.constexpr = similarity.shape[1] // 64
    block = across * ACROSS + tl.arange(0, ACROSS)
    pair = (block // BLOCKS).to(tl.int64)[None, :] * num_gallery + image[:, None]
    into += pair * num_positions + position[:, None]
    inside = ((image < num_gallery) & (position < num_positions))[:, None] & (block < num_query * BLOCKS)[None, :]
    blocks = tl.reshape(similarity, (128, ACROSS, 64))
    if PLACES:
        top, at = tl.max(blocks, 2, return_indices=True)
        at = tl.minimum((block % BLOCKS * 64)[None, :] + at, num_positions - 1)
        bits = top.to(tl.int32, bitcast=True)
        ordered = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        tl.atomic_max(into, (ordered.to(tl.int64) << 32) | at.to(tl.int64), mask=inside, sem="relaxed")
    else:
        tl.atomic_max(into, tl.max(blocks, 2), mask=inside, sem="relaxed")
