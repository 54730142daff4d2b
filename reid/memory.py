"""How the C library treats the memory of tensors that are freed."""

from __future__ import annotations

import ctypes
import sys

# malloc.h of glibc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEEP = {_TRIM_THRESHOLD: -1, _TOP_PAD: 2**26, _MMAP_MAX: 0}
_GIVE_BACK = {_TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17, _MMAP_THRESHOLD: 2**25, _MMAP_MAX: 2**16}
"""What glibc's growing thresholds come to once large tensors have been freed; setting one stops their growth."""


def keep_freed_memory(keep: bool = True) -> bool:
    """Have this process keep freed memory for its next tensors, instead of giving it back and asking anew.

    By default glibc maps every large tensor afresh and the kernel clears each of its pages, which on a CPU costs a
    large part of training and scoring. The process then keeps its peak of memory until it ends. The ``reid`` command
    does this at its start; a program that uses reid as a library decides for itself.

    Args:
        keep: False: as glibc does by itself in a process that has freed large tensors.

    Returns:
        Whether it was done; False without glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, value) == 1 for name, value in (_KEEP if keep else _GIVE_BACK).items())
