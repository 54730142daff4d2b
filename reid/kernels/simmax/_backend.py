"""Which way the maxima are computed."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from reid.kernels import native

Backend = Literal["native", "int8", "triton", "compiled", "eager"]

_COMPILED_FROM = 2**27
"""Map entries of a call from which on it is worth the seconds of the first compilation."""

_forced: ContextVar[Backend | None] = ContextVar("backend", default=None)


def backend(features: Tensor, entries: int) -> Backend:
    """Which way maxima go.

    - ``triton``: one fused kernel, for half precision on CUDA;
    - ``native``: the AMX kernel of :mod:`reid.kernels.native`, for bfloat16 on a CPU;
    - ``int8``: the same with products of 8-bit integers, never chosen by itself;
    - ``compiled``: for bfloat16 on a CPU without gradients, products by PyTorch, weight and maxima in one pass by
      torch.compile where that works;
    - ``eager``: PyTorch's operations.

    Args:
        features: what is multiplied, as :func:`multiplied_dtype` says.
        entries: of all maps of the call, Q * G * S * S.
    """
    forced = _forced.get()
    if forced is not None:
        return forced
    if features.is_cuda:
        return "eager" if _without_triton(features.dtype) else "triton"
    if features.device.type != "cpu" or features.dtype != torch.bfloat16:
        return "eager"  # in float32 the product takes so long that one pass instead of three gains nothing
    if native.amx().library is not None:
        return "native"
    return "compiled" if entries >= _COMPILED_FROM and not _without_compiler() else "eager"


def multiplied_dtype(device: torch.device, dtype: torch.dtype, *, with_grad: bool) -> torch.dtype:
    """In which precision features of ``dtype`` are multiplied.

    On a CPU float16 is never, and bfloat16 only where there are instructions for it; with gradients only by the native
    kernel. Elsewhere everything is multiplied as it is.
    """
    if device.type == "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return dtype
    halves = device.type == "cpu" and dtype == torch.bfloat16 and has_bfloat16()
    if halves and with_grad:
        halves = native.amx().library is not None and _forced.get() in (None, "native")
    return dtype if halves else torch.float32


def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16; without such instructions PyTorch does it many times slower than float32."""
    return _forced.get() is not None or bool(native.cpu_flags() & {"amx_bf16", "avx512_bf16"})


def describe(device: torch.device, dtype: torch.dtype, *, with_grad: bool = False) -> str:
    """Which way features of ``dtype`` go on ``device``, and why: half a sentence for the log.

    Args:
        device: where they are.
        dtype: of features.
        with_grad: whether gradients are wanted.
    """
    multiplied = multiplied_dtype(device, dtype, with_grad=with_grad)
    products = f"products in {_name(multiplied)}"
    if device.type == "cuda":
        reason = _without_triton(dtype)
        return f"PyTorch (no Triton kernel: {reason}), {products}" if reason else f"Triton kernel, {products}"
    if _forced.get() == "int8":
        return "native AMX kernel, products in int8"
    found = native.amx()
    if multiplied == torch.bfloat16 and found.library is not None:
        return f"native AMX kernel, {products}"
    if found.library is not None:
        return f"PyTorch, {products}; in bfloat16 the native AMX kernel would do it"
    if dtype != torch.bfloat16:
        return f"PyTorch, {products}"
    reason = f"no native kernel: {found.reason}"
    if multiplied != torch.bfloat16:
        return f"PyTorch, {products} ({reason})"
    without = _without_compiler()
    return f"PyTorch, {products} ({reason}; {without})" if without else f"torch.compile, {products} ({reason})"


def _without_compiler() -> str:
    """Why torch.compile cannot work here; empty where it can. It asks for CXX or g++, and includes Python.h."""
    program = os.environ.get("CXX") or "g++"
    if shutil.which(program) is None:
        return f"torch.compile needs {program}"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "torch.compile needs Python's C headers"
    return ""


def _without_triton(dtype: torch.dtype) -> str:
    """Why features on CUDA go without the Triton kernel; empty where they do not."""
    if dtype not in (torch.float16, torch.bfloat16):
        return f"it is for half precision, not {_name(dtype)}"
    from reid.kernels.simmax import _triton  # noqa: PLC0415 - importing triton takes as long as all the rest

    return _triton.obstacle()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def forced_backend() -> Backend | None:
    """What :func:`using` says at the moment."""
    return _forced.get()


@contextmanager
def using(name: Backend) -> Iterator[None]:
    """Force a back end: for tests and benchmarks, and ``int8`` where it is wanted.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in get_args(Backend):
        raise ValueError(f"back end: wanted one of {get_args(Backend)}, found {name!r}")
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)
