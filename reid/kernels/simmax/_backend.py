"""Which way the maxima are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
    - ``compiled``: for bfloat16 on a CPU with a C++ compiler, products by PyTorch, weight and maxima in one pass by
      torch.compile; without gradients only;
    - ``eager``: PyTorch's operations.

    Args:
        features: what is multiplied.
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
    return "compiled" if entries >= _COMPILED_FROM and native.compiler() is not None else "eager"


def describe(device: torch.device, dtype: torch.dtype, *, with_grad: bool = False) -> str:
    """Which way features of ``dtype`` go on ``device``, and why: half a sentence for the log.

    Args:
        device: where they are.
        dtype: of features; float16 is multiplied in float32 on a CPU.
        with_grad: whether gradients are wanted.
    """
    if device.type == "cuda":
        reason = _without_triton(dtype)
        way = f"PyTorch (no Triton kernel: {reason})" if reason else "Triton kernel"
        return f"{way}, products in {_name(dtype)}"
    if device.type != "cpu":
        return f"PyTorch on {device.type}, products in {_name(dtype)}"
    found = native.amx()
    if _forced.get() == "int8":
        return "native AMX kernel, products in int8"
    if dtype != torch.bfloat16:
        hint = "" if found.library is None else "; in bfloat16 the native AMX kernel would do it"
        return f"PyTorch, products in float32{hint}"
    if found.library is not None:
        return "native AMX kernel, products in bfloat16"
    missing = f"no native kernel: {found.reason}"
    if with_grad:
        return f"PyTorch, products in float32 ({missing})"
    if native.compiler() is not None:
        return f"torch.compile, products in bfloat16 ({missing})"
    return f"PyTorch, products in bfloat16 ({missing}; no C++ compiler for torch.compile)"


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
