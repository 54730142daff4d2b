"""The parts of torchvision that reid uses: its Python transforms and model definitions.

torchvision's published wheel carries compiled operators built for CUDA. Beside a CPU-only torch that library
does not load, and importing torchvision then fails because two operators that it wants to describe do not
exist. Naming the two schemas first is enough; where the real operators load nothing is done.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    for library in sorted(folder.glob("_C*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue
        return True
    return False


def _name_missing_operators() -> torch.library.Library | None:
    if _operators_load():
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    return library


_OPERATORS = _name_missing_operators()  # kept: a Library takes its schemas back when it is collected

from torchvision import models  # noqa: E402
from torchvision.transforms.v2 import functional  # noqa: E402

__all__ = ["functional", "models"]
