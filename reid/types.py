"""The types that travel between stages: image records, per-image states, correspondences and the truth about them.

Shape letters used as suffixes everywhere: B batch, Q query images, G gallery images, N any count, C and D
channels, H and W map height and width, S = H * W positions, L layers, P x K identities x images. Feature
maps are BCHW, images are RGB in [0, 1], scores are float32 and higher means more alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor

from reid.errors import ShapeError

Role = Literal["person", "distractor", "junk"]
"""person: has an identity. distractor: stays in the ranking, never a match. junk: removed from the ranking."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image file and what is known about it.

    Attributes:
        path: the image file.
        pid: identity, unique within ``source`` over all splits; -1 where the role is not ``person``.
        camid: camera, counted from 0; None where the data set does not tell.
        time_s: seconds on a clock common to all cameras; None where the data set does not tell.
        role: see :data:`Role`.
        source: name of the data set whose identities these are; (source, pid) is a person.
    """

    path: Path
    pid: int
    camid: int | None = None
    time_s: float | None = None
    role: Role = "person"
    source: str = ""


FeatureMaps = Mapping[int, Tensor]
"""Stride -> feature map, [B, C, H, W]."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """What a matcher will be given: ``image_size`` (height, width) in pixels and, per stride, a map's (C, H, W)."""

    image_size: tuple[int, int]
    maps: Mapping[int, tuple[int, int, int]]


StatePrecision = Literal["float16", "bfloat16", "float32"]
"""How states wait to be scored. On a CPU, float16 is multiplied in float32, and bfloat16 as it is, which is fastest."""


@dataclass(frozen=True, slots=True)
class StateField:
    """How one field of an :class:`ImageState` is kept.

    Attributes:
        bears_halving: whether it may be kept in half precision while thousands of images wait to be scored; not
            positions, nor what is small beside a map.
        cached: False where the field is cheaper to compute again than to keep.
    """

    bears_halving: bool = True
    cached: bool = True


@dataclass(frozen=True)
class ImageState:
    """All that a matcher computes from one image alone, for N images.

    Attributes:
        tensors: name -> tensor whose first dimension is N, the same for all.
        fields: name -> how to store it; a name that is missing here is stored by the default.
    """

    tensors: Mapping[str, Tensor]
    fields: Mapping[str, StateField] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {name: tensor.shape[0] for name, tensor in self.tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ShapeError(f"ImageState: wanted at least one field, all of the same length, found {lengths}.")

    def __len__(self) -> int:
        return int(next(iter(self.tensors.values())).shape[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @overload
    def __getitem__(self, index: str) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> ImageState: ...
    def __getitem__(self, index: str | slice | Tensor | Sequence[int]) -> Tensor | ImageState:
        """``state["name"]`` is a field's tensor; any other index selects images."""
        if isinstance(index, str):
            return self.tensors[index]
        if not isinstance(index, slice | Tensor):
            index = torch.as_tensor(index, dtype=torch.long)
        return ImageState({name: _rows(tensor, index) for name, tensor in self.tensors.items()}, self.fields)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> ImageState:
        """A copy on ``device``, floating-point fields as ``dtype`` (None: unchanged)."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return ImageState({name: move(tensor) for name, tensor in self.tensors.items()}, self.fields)

    def stored(self, precision: StatePrecision = "bfloat16") -> ImageState:
        """What to keep while many images wait: cached fields only.

        Args:
            precision: of floating-point fields that bear halving; the others are kept in float32.
        """
        kept = {}
        for name, tensor in self.tensors.items():
            field_ = self.fields.get(name, StateField())
            if field_.cached:
                dtype = getattr(torch, precision) if field_.bears_halving else torch.float32
                kept[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        return ImageState(kept, {name: self.fields[name] for name in kept if name in self.fields})

    def split(self, size: int) -> Iterator[ImageState]:
        """Consecutive states of at most ``size`` images."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    @staticmethod
    def cat(states: Sequence[ImageState]) -> ImageState:
        """One state of all images, in order. Raises ShapeError if ``states`` is empty."""
        if not states:
            raise ShapeError("ImageState.cat: wanted at least one state, found none.")
        names = states[0].tensors
        return ImageState({name: torch.cat([state[name] for state in states]) for name in names}, states[0].fields)


CorrespondenceKind = Literal["maximum", "assignment", "warp"]
"""maximum: each query position with its most similar gallery position. assignment: a position has one partner or none.
warp: where the centre of each cell of the query image lies, whether it can be seen there or not."""


@dataclass(frozen=True, slots=True)
class Correspondences:
    """Where the positions of one image match in another, for one pair.

    Attributes:
        query_N2: (x, y) in pixels of the query image, [N, 2], float32; the centre of the first pixel is (0.5, 0.5).
        gallery_N2: (x, y) in pixels of the gallery image, [N, 2], float32.
        confidence_N: [N], float32; of maxima comparable within a pair only, of others between pairs too.
        kind: what a position's partner is.
    """

    query_N2: Tensor
    gallery_N2: Tensor
    confidence_N: Tensor
    kind: CorrespondenceKind


@dataclass(frozen=True, slots=True)
class Warp:
    """The truth about N pairs, one way: where what is seen at each pixel of one image lies in the other.

    Attributes:
        position_NHW2: of the centre of each pixel, (x, y) in pixels of the other image, [N, H, W, 2], float32; the
            centre of its first pixel is (0.5, 0.5). Finite, and without meaning where nothing is visible.
        visible_NHW: whether what the pixel shows can be seen in the other image, [N, H, W], bool.
        known_NHW: whether ``visible_NHW`` tells the truth; losses and metrics leave other pixels out, [N, H, W], bool.
    """

    position_NHW2: Tensor
    visible_NHW: Tensor
    known_NHW: Tensor

    def __len__(self) -> int:
        return len(self.position_NHW2)

    def __getitem__(self, index: slice | Tensor) -> Warp:
        return Warp(self.position_NHW2[index], self.visible_NHW[index], self.known_NHW[index])

    def to(self, device: torch.device | str) -> Warp:
        """A copy on ``device``."""
        return Warp(self.position_NHW2.to(device), self.visible_NHW.to(device), self.known_NHW.to(device))

    @staticmethod
    def cat(parts: Sequence[Warp]) -> Warp:
        """All pairs, in order."""
        fields = ("position_NHW2", "visible_NHW", "known_NHW")
        return Warp(*(torch.cat([getattr(part, name) for part in parts]) for name in fields))


@dataclass(frozen=True, slots=True)
class Warps:
    """The truth about N pairs, both ways."""

    to_gallery: Warp
    to_query: Warp

    def __len__(self) -> int:
        return len(self.to_gallery)

    def __getitem__(self, index: slice | Tensor) -> Warps:
        return Warps(self.to_gallery[index], self.to_query[index])

    def to(self, device: torch.device | str) -> Warps:
        """A copy on ``device``."""
        return Warps(self.to_gallery.to(device), self.to_query.to(device))

    @staticmethod
    def cat(parts: Sequence[Warps]) -> Warps:
        """All pairs, in order."""
        return Warps(Warp.cat([part.to_gallery for part in parts]), Warp.cat([part.to_query for part in parts]))


def _rows(tensor: Tensor, index: slice | Tensor) -> Tensor:
    """``tensor[index]``, whose gradient is the same to the last bit each time on a CPU, images repeated or not.

    PyTorch adds up the gradients of plain indexing with atomic additions, in the order in which threads arrive.
    """
    if isinstance(index, slice) or index.dtype != torch.long:
        return tensor[index]
    index = index.to(tensor.device)
    return tensor.index_select(0, torch.where(index < 0, index + len(tensor), index))
