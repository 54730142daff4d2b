"""States of many images one behind another: on their device, in memory, or in a file that is mapped into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reid.errors import ShapeError, StorageError
from reid.evaluation.scoring import Scoring
from reid.files import claim_space
from reid.types import ImageState

_ALIGNMENT = 64


def collect_states(
    states: Iterable[ImageState], num_images: int, *, max_memory: int, file: Path | None = None
) -> ImageState:
    """Gather states that come in chunks.

    They stay on a GPU while they take at most half of its free memory, and go to main memory otherwise.

    Args:
        states: chunks of any size, in order.
        num_images: how many images they have in all.
        max_memory: bytes of main memory for them.
        file: where they go if they need more; it loses its name at once, and its space with the last reference.

    Raises:
        ShapeError: ``states`` has another number of images.
        StorageError: a file is needed, and ``file`` is None, cannot be written or does not fit on the disk.
    """
    room: Mapping[str, Tensor] | None = None
    fields, done = {}, 0
    for state in states:
        if room is None:
            room, fields = _make_room(state, num_images, max_memory, file), dict(state.fields)
        stop = done + len(state)
        if stop <= num_images:
            for name, tensor in state.tensors.items():
                room[name][done:stop] = tensor
        done = stop
    if room is None or done != num_images:
        raise ShapeError(f"collect_states: wanted the states of {num_images} images, at least one, found {done}.")
    return ImageState(room, fields)


def fitting(
    states: Iterable[ImageState], how: Scoring, parts: Callable[[ImageState], Iterable[ImageState]] | None = None
) -> Iterator[ImageState]:
    """``states``, of which the first are looked at now: too little memory must show before all are computed.

    Args:
        states: chunks that are to be scored.
        how: memory and blocks.
        parts: takes a chunk apart into what is scored apart; None: it is scored as it is.

    Raises:
        ConfigError: not even one image fits into a block.
    """
    coming = iter(states)
    first = list(islice(coming, 1))
    for state in first:
        for part in [state] if parts is None else parts(state):
            how.gallery_images(part.nbytes // len(part))
    return chain(first, coming)


def _make_room(state: ImageState, num_images: int, max_memory: int, file: Path | None) -> dict[str, Tensor]:
    shapes = {name: (num_images, *tensor.shape[1:]) for name, tensor in state.tensors.items()}
    device = next(iter(state.tensors.values())).device
    needed = state.nbytes // max(1, len(state)) * num_images
    if device.type == "cuda" and needed > torch.cuda.mem_get_info(device)[0] // 2:
        device = torch.device("cpu")
    if device.type != "cpu" or needed <= max_memory:
        return {name: torch.empty(shape, dtype=state[name].dtype, device=device) for name, shape in shapes.items()}
    if file is None:
        raise StorageError(
            f"collect_states: states of {num_images:,} images take {needed / 2**20:,.0f} MiB, more than the "
            f"{max_memory / 2**20:,.0f} MiB allowed in memory, and there is no file to put them in. Name one, or allow "
            "more memory."
        )
    return _mapped({name: (shape, state[name].dtype) for name, shape in shapes.items()}, file)


def _mapped(layout: Mapping[str, tuple[tuple[int, ...], torch.dtype]], file: Path) -> dict[str, Tensor]:
    """Tensors in a file, each at an offset that suits every dtype."""
    sizes = {name: int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in layout.items()}
    spaces = {name: -(-size // _ALIGNMENT) * _ALIGNMENT for name, size in sizes.items()}
    claim_space(file, sum(spaces.values()))
    try:
        buffer_X = torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="r+"))
    finally:
        with suppress(PermissionError):  # Windows keeps a file that is in use
            file.unlink()
    tensors, start = {}, 0
    for name, (shape, dtype) in layout.items():
        tensors[name] = buffer_X[start : start + sizes[name]].view(dtype).view(shape)
        start += spaces[name]
    return tensors
