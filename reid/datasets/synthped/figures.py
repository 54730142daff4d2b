"""Plans as arrays: the poses and views of all figures of some images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid.datasets.synthped.network import Camera
from reid.datasets.synthped.people import Floats, Person
from reid.datasets.synthped.pose import Pose
from reid.datasets.synthped.raycast import Views
from reid.datasets.synthped.views import Shot


def figures(shots: Sequence[Shot], cameras: Sequence[Camera]) -> tuple[list[Person], Pose, Views]:
    """All figures of some shots, the main figure of every image before the others.

    Returns:
        The person of each figure, their poses and views.
    """
    most = max((len(shot.stands) for shot in shots), default=0)
    listed = [(i, shot.stands[k]) for k in range(most) for i, shot in enumerate(shots) if len(shot.stands) > k]
    stands = [stand for _, stand in listed]
    pose = Pose(*np.array([stand.pose for stand in stands], np.float32).T)
    pitch = np.array([cameras[shots[index].camid].elevation for index, _ in listed])
    views = Views(
        image=np.array([index for index, _ in listed], np.int32),
        rotation=rotation(
            np.array([stand.yaw for stand in stands]), pitch, np.array([stand.stretch for stand in stands])
        ),
        scale=np.array([stand.unit for stand in stands], np.float32),
        foot_px=np.array([stand.foot for stand in stands], np.float32),
        depth_px=np.array([stand.nearer * stand.unit for stand in stands], np.float32),
    )
    return [stand.person for stand in stands], pose, views


def rotation(yaw: Floats, elevation: Floats, stretch: Floats) -> Floats:
    """Person to view: turned by ``yaw`` (0 faces the camera), seen from ``elevation`` above, stretched, [F, 3, 3]."""
    c, s, zero, one = np.cos(yaw), np.sin(yaw), np.zeros_like(yaw), np.ones_like(yaw)
    turn = np.stack([c, zero, s, zero, one, zero, -s, zero, c], axis=1).reshape(-1, 3, 3)
    c, s = np.cos(elevation), np.sin(elevation)
    tilt = np.stack([one, zero, zero, zero, c, -s, zero, s, c], axis=1).reshape(-1, 3, 3)
    whole = tilt @ turn
    whole[:, 0] *= stretch[:, None]
    return np.asarray(whole, np.float32)
