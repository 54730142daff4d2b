"""Computing the next item while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def ahead(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """The same items in the same order, ``depth`` of them computed in a thread before they are asked for."""
    iterator = iter(items)
    pool = ThreadPoolExecutor(1)
    pending = deque(pool.submit(next, iterator, _END) for _ in range(depth))
    try:
        while (item := pending.popleft().result()) is not _END:
            pending.append(pool.submit(next, iterator, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
