"""A validation split by identity, taken out of training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reid.data._random import generator
from reid.errors import SamplingError
from reid.types import ImageRecord

Person = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Holdout:
    """Training images cut by identity.

    Attributes:
        train: images of the identities that stay.
        query: of each identity held out, the first image of each camera, as in Market-1501.
        gallery: its other images.
    """

    train: Sequence[ImageRecord]
    query: Sequence[ImageRecord]
    gallery: Sequence[ImageRecord]


def hold_out(records: Sequence[ImageRecord], num_pids: int, seed: int) -> Holdout:
    """Hold out ``num_pids`` identities for validation, drawn by ``seed`` alone.

    Args:
        records: training images, all of persons.
        num_pids: identities to hold out; 0 holds out none.
        seed: of the draw.

    Raises:
        SamplingError: fewer than two identities would be left to train on.
    """
    persons = sorted({(record.source, record.pid) for record in records})
    if num_pids and len(persons) - num_pids < 2:
        raise SamplingError(
            f"validation_pids = {num_pids}: wanted at least two identities left for training, found {len(persons)} in "
            "all. Hold out fewer."
        )
    drawn = generator(seed, "holdout").permutation(len(persons))[:num_pids]
    held = {persons[index] for index in drawn}
    train, query, gallery = [], [], []
    seen: set[tuple[Person, int | None]] = set()
    for record in records:
        person = (record.source, record.pid)
        if person not in held:
            train.append(record)
        elif (person, record.camid) in seen:
            gallery.append(record)
        else:
            seen.add((person, record.camid))
            query.append(record)
    return Holdout(train, query, gallery)
