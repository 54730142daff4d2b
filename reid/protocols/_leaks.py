"""The check that nothing of a test set was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from reid.errors import ProtocolError
from reid.types import ImageRecord


def refuse_leaks(train: Sequence[ImageRecord], test: Sequence[ImageRecord]) -> None:
    """Refuse a test whose images or people were trained on.

    Args:
        train: all training images, of all sources.
        test: query and gallery of one target, or of several.

    Raises:
        ProtocolError: a test image is the same file as a training image (links are followed), or a test identity is
            a training identity, a person being (source, pid).
    """
    trained_files, trained_people = _files(train), _people(train)
    files, people = _files(test), _people(test)
    same_files = sorted(trained_files & files)
    same_people = sorted(trained_people & people)
    if not same_files and not same_people:
        return
    people_named = [f"{source} {pid}" for source, pid in same_people]
    raise ProtocolError(
        "Leak: wanted test images and identities that were not trained on, found "
        f"{len(same_files):,} of {len(files):,} test images{_such_as([str(path) for path in same_files])} and "
        f"{len(same_people):,} of {len(people):,} test identities{_such_as(people_named)} among the training images. "
        "The result would measure memory, not generalisation. Remove the data set from the sources or from the "
        "targets, or train on its training split only (not with train = 'all')."
    )


def _files(records: Iterable[ImageRecord]) -> set[Path]:
    return {record.path.resolve() for record in records}


def _people(records: Iterable[ImageRecord]) -> set[tuple[str, int]]:
    return {(record.source, record.pid) for record in records if record.role == "person"}


def _such_as(names: list[str]) -> str:
    return f" (such as {', '.join(names[:3])})" if names else ""
