"""C++ kernels, compiled on first use where the machine has the instructions and a compiler; never required."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

SOURCE = Path(__file__).with_name("amx.cpp")
COMPILERS = ("c++", "g++", "clang++")
_NEEDED = {
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512_bf16",
    "f16c",
    "fma",
}
_EXTENSIONS = (
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512bf16",
    "f16c",
    "fma",
    "amx-tile",
    "amx-bf16",
    "amx-int8",
)
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", *(f"-m{name}" for name in _EXTENSIONS))


class PackedImages(ctypes.Structure):
    """``Packed`` of amx.cpp."""

    _fields_ = (("values", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("images", ctypes.c_int64))


_POINTER, _SIZE, _FLAG = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
_ARGUMENTS = {
    "reid_enable": (),
    "reid_pack": (_POINTER, *[_SIZE] * 4, _FLAG, _FLAG, _POINTER, _POINTER),
    "reid_simmax": (
        *(PackedImages, PackedImages, _FLAG, _POINTER, *[_SIZE] * 3),
        *(_POINTER, _POINTER, _SIZE, _SIZE, _POINTER),
    ),
    "reid_mlp_head": (_POINTER, _SIZE, _SIZE, *[_POINTER] * 3, _SIZE, _POINTER, _POINTER),
}


@dataclass(frozen=True, slots=True)
class Native:
    """The compiled kernels, or why there are none.

    Attributes:
        library: the loaded library; None where it cannot be had.
        reason: why not; empty where it can.
    """

    library: ctypes.CDLL | None
    reason: str


@cache
def amx() -> Native:
    """Compile and load ``amx.cpp``, once a process; the result of compiling is kept for the next one.

    Set the environment variable ``REID_NATIVE`` to ``0`` to do without. Nothing is raised: callers have another way.
    """
    if os.environ.get("REID_NATIVE") == "0":
        return Native(None, "REID_NATIVE is 0")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return Native(None, f"wanted Linux on x86-64, found {sys.platform} on {platform.machine()}")
    missing = _NEEDED - cpu_flags()
    if missing:
        return Native(None, f"the CPU lacks {', '.join(sorted(missing))}")
    try:
        library = ctypes.CDLL(str(_compiled(SOURCE, _FLAGS)))
        for name, types in _ARGUMENTS.items():
            getattr(library, name).argtypes = types
    except (OSError, subprocess.SubprocessError, RuntimeError) as error:  # RuntimeError: there is no home folder
        return Native(None, f"{SOURCE.name} could not be compiled or loaded: {_last_line(error)}")
    if library.reid_enable() != 0:
        return Native(None, "the operating system does not grant the AMX registers")
    return Native(library, "")


def cache_folder() -> Path:
    """Where compiled kernels are kept: the environment variable REID_KERNELS, or ``~/.cache/reid/kernels``."""
    return Path(os.environ.get("REID_KERNELS") or "~/.cache/reid/kernels").expanduser()


def compiler() -> str | None:
    """The C++ compiler: the environment variable CXX, or the first of :data:`COMPILERS` that is there."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    return next((path for path in map(shutil.which, names) if path), None)


def _compiled(source: Path, flags: Sequence[str]) -> Path:
    """The library of this very source, flags and compiler; compiled beside its final place and moved there."""
    program = compiler()
    if program is None:
        raise FileNotFoundError("no C++ compiler; install g++, or name one in CXX")
    key = hashlib.sha256("\n".join([source.read_text(encoding="utf-8"), program, *flags]).encode()).hexdigest()[:16]
    target = cache_folder() / f"{source.stem}-{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            command = [program, *flags, str(source), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)  # noqa: S603
            built.replace(target)
    return target


@cache
def cpu_flags() -> frozenset[str]:
    """What the CPU can do, by Linux's names; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def _last_line(error: Exception) -> str:
    output = getattr(error, "stderr", None) or str(error)
    return str(output).strip().splitlines()[-1] if str(output).strip() else type(error).__name__
