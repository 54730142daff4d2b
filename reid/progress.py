"""Progress as an object that is handed in: library code reports, the command line shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Never, Protocol

from tqdm import tqdm


class Bar(Protocol):
    """One running bar."""

    def advance(self, count: int = 1, **facts: object) -> None:
        """Move on by ``count`` and show ``facts`` (loss, images/s) behind the bar."""


class Progress(Protocol):
    """Where long work reports to."""

    def bar(self, label: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open a bar of ``total`` units (None: unknown)."""

    def say(self, message: str) -> None:
        """One line of news."""


class _SilentBar:
    def advance(self, count: int = 1, **facts: object) -> None:
        pass


class Silent:
    """Progress that shows nothing; the default in library code."""

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:  # noqa: ARG002
        """See :class:`Progress`."""
        yield _SilentBar()

    def say(self, message: str) -> None:
        """See :class:`Progress`."""


class _TerminalBar:
    def __init__(self, bar: tqdm[Never]) -> None:
        self._bar = bar

    def advance(self, count: int = 1, **facts: object) -> None:
        if facts:
            self._bar.set_postfix({key: str(value) for key, value in facts.items()}, refresh=False)
        self._bar.update(count)


class Terminal:
    """Progress bars on standard error by tqdm: counts, rate and time left; a line a while where it is no terminal."""

    @contextmanager
    def bar(self, label: str, total: int | None, unit: str) -> Iterator[Bar]:
        """See :class:`Progress`."""
        scale = total is not None and total > 10**6  # 53.6M instead of 53593464
        with tqdm(total=total, desc=label, unit=f" {unit}", unit_scale=scale, dynamic_ncols=True, smoothing=0.1) as bar:
            if not bar.disable and not bar.fp.isatty():
                bar.mininterval = 10.0
            yield _TerminalBar(bar)

    def say(self, message: str) -> None:
        """See :class:`Progress`."""
        tqdm.write(message)
