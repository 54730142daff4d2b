"""Who is in which image, and what that makes true for each query: its matches and what the ranking leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from reid.errors import DatasetError, ShapeError
from reid.types import ImageRecord, Role

ROLES: tuple[Role, ...] = get_args(Role)
PERSON, DISTRACTOR, JUNK = (ROLES.index(role) for role in ("person", "distractor", "junk"))

CameraRule = Literal["on", "off", "off (no camera ids)"]
"""Whether gallery images of the query's person from the query's own camera are left out."""

Reason = Literal[
    "the query has no identity",
    "no gallery image of this identity",
    "only gallery images of the same camera",
]
"""Why a query has nothing to be found and is not counted."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What is known about N images, as arrays.

    Attributes:
        pid_N: identity within its source, [N], int64; meaningless where the role is not ``person``.
        camid_N: camera, [N], int64; None where no camera is known.
        role_N: index into :data:`ROLES`, [N], int8.
        source_N: data set that the identity belongs to, [N], strings; (source, pid) is a person.
    """

    pid_N: NDArray[np.int64]
    camid_N: NDArray[np.int64] | None
    role_N: NDArray[np.int8]
    source_N: NDArray[np.str_]

    @classmethod
    def of(cls, records: Sequence[ImageRecord]) -> Labels:
        """Take the labels out of image records.

        Raises:
            DatasetError: some persons have a camera and others have none, so the same-camera rule could be
                applied to some queries only.
        """
        return cls(
            pid_N=np.array([record.pid for record in records], dtype=np.int64),
            camid_N=_cameras(records),
            role_N=np.array([ROLES.index(record.role) for record in records], dtype=np.int8),
            source_N=np.array([record.source for record in records], dtype=np.str_),
        )

    def __len__(self) -> int:
        return len(self.pid_N)


def _cameras(records: Sequence[ImageRecord]) -> NDArray[np.int64] | None:
    persons = [record for record in records if record.role == "person"]
    unknown = [record for record in persons if record.camid is None]
    if len(unknown) == len(persons):
        return None
    if unknown:
        raise DatasetError(
            f"{unknown[0].path}: wanted camera ids for all images or for none, found {len(unknown)} of {len(persons)} "
            "images of persons without one. Complete them, or remove them all to rank without the same-camera rule."
        )
    return np.array([-1 if record.camid is None else record.camid for record in records], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class QueryTruth:
    """What is true for one query.

    Attributes:
        match_M: gallery indices that show the query's person and stay in the ranking, [M], ascending.
        removed_R: gallery indices that the ranking leaves out (junk, same person and camera), [R].
        reason: why there is no match; None where there is one.
    """

    match_M: NDArray[np.int64]
    removed_R: NDArray[np.int64]
    reason: Reason | None


class Truth:
    """Matches and removed images of every query. Distractors stay in the ranking and match nobody.

    Args:
        query: labels of the query images.
        gallery: labels of the gallery images.
        camera_rule: False ranks gallery images of the query's own camera too.

    Attributes:
        camera_rule: what is done; the rule is off wherever either side has no camera ids.
        person_Q, person_G: one number a person, the same on both sides, int64; -1 where the image has no identity.

    Raises:
        ShapeError: there is no query or no gallery image.
    """

    def __init__(self, query: Labels, gallery: Labels, *, camera_rule: bool = True) -> None:
        if not len(query) or not len(gallery):
            raise ShapeError(
                f"evaluation: wanted query and gallery images, found {len(query)} and {len(gallery)}. "
                "See datasets/README.md for the folders each set needs."
            )
        self.query, self.gallery = query, gallery
        self.camera_rule: CameraRule = "on" if camera_rule else "off"
        if camera_rule and (query.camid_N is None or gallery.camid_N is None):
            self.camera_rule = "off (no camera ids)"
        self.person_Q, self.person_G = _persons(query, gallery)
        self._junk_J = np.flatnonzero(gallery.role_N == JUNK)
        self._order_G = np.argsort(self.person_G, kind="stable")
        self._ordered_G = self.person_G[self._order_G]

    def __getitem__(self, query_idx: int) -> QueryTruth:
        person = self.person_Q[query_idx]
        if person < 0:
            return QueryTruth(self._junk_J[:0], self._junk_J, "the query has no identity")
        first, last = np.searchsorted(self._ordered_G, [person, person + 1])
        same_M = self._order_G[first:last]
        same_camera_M = self._same_camera(query_idx, same_M)
        match_M = same_M[~same_camera_M]
        removed_R = np.concatenate([self._junk_J, same_M[same_camera_M]])
        if len(match_M):
            return QueryTruth(match_M, removed_R, None)
        reason: Reason = (
            "only gallery images of the same camera" if len(same_M) else "no gallery image of this identity"
        )
        return QueryTruth(match_M, removed_R, reason)

    def __len__(self) -> int:
        return len(self.query)

    def _same_camera(self, query_idx: int, gallery_idx_M: NDArray[np.int64]) -> NDArray[np.bool_]:
        camid_Q, camid_G = self.query.camid_N, self.gallery.camid_N
        if self.camera_rule != "on" or camid_Q is None or camid_G is None:
            return np.zeros(len(gallery_idx_M), dtype=np.bool_)
        same: NDArray[np.bool_] = camid_G[gallery_idx_M] == camid_Q[query_idx]
        return same


def _persons(query: Labels, gallery: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the (source, pid) of both sides together."""
    pid_N = np.unique(np.concatenate([query.pid_N, gallery.pid_N]), return_inverse=True)[1]
    source_N = np.unique(np.concatenate([query.source_N, gallery.source_N]), return_inverse=True)[1]
    role_N = np.concatenate([query.role_N, gallery.role_N])
    person_N = np.where(role_N == PERSON, source_N * (pid_N.max() + 1) + pid_N, -1)
    return person_N[: len(query)], person_N[len(query) :]
