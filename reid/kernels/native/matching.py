"""The AMX kernels on tensors: maxima of similarity maps, and a perceptron with one output."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reid.kernels.native import SOURCE, PackedImages, amx

_SIDE = 32
_CHANNELS: dict[str, int] = {"bfloat16": 32, "int8": 64}
"""Channels of a step: 64 bytes."""

_PAGE = 4096


Products = Literal["bfloat16", "int8"]


@dataclass(frozen=True, slots=True)
class Packed:
    """Features in the kernels' order.

    Attributes:
        values: [N, bytes], uint8, positions and channels filled up to blocks and steps.
        scale_N: what an int8 value of 1 stands for, of bfloat16 1; NaN where a value is not finite. [N], float32.
        products: what the values are.
    """

    values: Tensor
    scale_N: Tensor
    products: Products

    def images(self, start: int, stop: int) -> PackedImages:
        """Some of them, as the kernels take them."""
        return PackedImages(self.values[start:].data_ptr(), self.scale_N[start:].data_ptr(), stop - start)


def maxima(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, products: Products = "bfloat16") -> Tensor:
    """Maxima of all pairs, [2, Q, G, S], float32: over gallery positions, then over query positions.

    Products in bfloat16, or in int8 with one scale an image; the weight in float16; no similarity map is ever written
    to memory.

    Args:
        query_QSD: [Q, S, D], bfloat16, on the CPU.
        gallery_GSD: [G, S, D], bfloat16, on the CPU.
        weight_SS: first index gallery, second query position, or None.
        products: what is multiplied.
    """
    return _search(query_QSD, gallery_GSD, weight_SS, None, products)


def maxima_and_positions(query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None) -> tuple[Tensor, Tensor]:
    """The same, and where the maxima are, int32; of equal ones the first. Products in bfloat16."""
    position = torch.empty((2, len(query_QSD), len(gallery_GSD), query_QSD.shape[1]), dtype=torch.int32)
    return _search(query_QSD, gallery_GSD, weight_SS, position, "bfloat16"), position


def _search(
    query_QSD: Tensor, gallery_GSD: Tensor, weight_SS: Tensor | None, position: Tensor | None, products: Products
) -> Tensor:
    (num_query, num_positions, dim), num_gallery = query_QSD.shape, len(gallery_GSD)
    padded, steps = _up(num_positions, _SIDE), _up(dim, _CHANNELS[products]) // _CHANNELS[products]
    rows, columns = pack(query_QSD, "rows", products), pack(gallery_GSD, "columns", products)
    weight = None if weight_SS is None else _edge_padded(weight_SS.detach().T.half(), padded)
    found = query_QSD.new_empty((2, num_query, num_gallery, num_positions), dtype=torch.float32)

    def part(start: int, stop: int) -> None:
        """Of the queries, or of the gallery where there are more of them."""
        query, gallery = (start, stop), (0, num_gallery)
        if num_gallery > num_query:
            query, gallery = (0, num_query), query
        scratch = aligned(4 * padded, torch.float32)
        _library().reid_simmax(
            rows.images(*query),
            columns.images(*gallery),
            products == "int8",
            _address(weight),
            num_positions,
            padded,
            steps,
            found[0, query[0], gallery[0]].data_ptr(),
            None if position is None else position[0, query[0], gallery[0]].data_ptr(),
            num_gallery,
            found.stride(0),
            scratch.data_ptr(),
        )

    if found.numel() > 0:
        _in_threads(part, max(num_query, num_gallery))
    return found


def mlp_logits(row_XS: Tensor, packed: Packed, bias_F: Tensor, out_F: Tensor) -> Tensor:
    """``out . relu(W row + bias)`` of each row, [X], float32, the products with W in bfloat16.

    Args:
        row_XS: [X, S], float32, contiguous.
        packed: W, [F, S], by :func:`pack` as columns, [1, F, S].
        bias_F: [F] float32, F a multiple of 32.
        out_F: [F] float32.
    """
    num_rows, num_inputs = row_XS.shape
    logit_X = row_XS.new_empty(num_rows)

    def part(start: int, stop: int) -> None:
        scratch = aligned(_SIDE * _up(num_inputs, _CHANNELS["bfloat16"]), torch.bfloat16)
        _library().reid_mlp_head(
            row_XS[start].data_ptr(),
            stop - start,
            num_inputs,
            packed.values.data_ptr(),
            bias_F.data_ptr(),
            out_F.data_ptr(),
            len(bias_F),
            logit_X[start:].data_ptr(),
            scratch.data_ptr(),
        )

    if num_rows > 0:
        _in_threads(part, num_rows)
    return logit_X


def pack(feature_NSD: Tensor, side: Literal["rows", "columns"], products: Products = "bfloat16") -> Packed:
    """Bring [N, S, D] into the kernels' order."""
    if feature_NSD.device.type != "cpu":
        raise ValueError(f"native kernels: wanted features on the CPU, found them on {feature_NSD.device}.")
    num_images, num_positions, dim = feature_NSD.shape
    source = feature_NSD.to(torch.bfloat16)
    if not source[:1].is_contiguous():  # images may lie apart, as those of one level of keys do
        source = source.contiguous()
    channels, width = _CHANNELS[products], 64 // _CHANNELS[products]
    size = _up(num_positions, _SIDE) * _up(dim, channels) * width
    packed = Packed(aligned(num_images * size, torch.uint8).view(-1, size), torch.empty(num_images), products)

    def part(start: int, stop: int) -> None:
        _library().reid_pack(
            source[start].data_ptr(),
            source.stride(0),
            stop - start,
            num_positions,
            dim,
            side == "rows",
            products == "int8",
            packed.values[start].data_ptr(),
            packed.scale_N[start:].data_ptr(),
        )

    if num_images > 0:
        _in_threads(part, num_images)
    return packed


def aligned(num_values: int, dtype: torch.dtype) -> Tensor:
    """An empty tensor that starts on a memory page: tiles that straddle cache lines are far slower."""
    room = _PAGE // dtype.itemsize
    buffer = torch.empty(num_values + room, dtype=dtype)
    start = -buffer.data_ptr() % _PAGE // dtype.itemsize
    return buffer[start : start + num_values]


def _library() -> ctypes.CDLL:
    found = amx()
    if found.library is None:
        raise RuntimeError(f"native kernels: wanted {SOURCE.name} compiled, found none: {found.reason}")
    return found.library


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _edge_padded(weight_SS: Tensor, padded: int) -> Tensor:
    """The last row and column once more for every position that was filled up."""
    index = torch.arange(padded).clamp_(max=len(weight_SS) - 1)
    return weight_SS[index][:, index].contiguous()


def _in_threads(part: Callable[[int, int], None], count: int) -> None:
    """Run ``part(start, stop)`` on equal shares of ``range(count)``; ctypes lets go of Python's lock meanwhile."""
    num = max(1, min(torch.get_num_threads(), count))
    edges = [count * index // num for index in range(num + 1)]
    if num == 1:
        part(0, count)
        return
    with ThreadPoolExecutor(num) as pool:
        list(pool.map(part, edges[:-1], edges[1:]))
