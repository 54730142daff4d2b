import numpy as np
import pytest

from reid.datasets.synthped.figures import rotation
from reid.datasets.synthped.raycast import Primitives, Views, cast, local_rays


def one(length, first, last, scale=(1.0, 1.0, 1.0), cut=(-9.0, 9.0), tilt=0.0):
    """One primitive whose axis points up, tilted towards the viewer."""
    c, s = np.cos(tilt), np.sin(tilt)
    frame = np.array([[1, 0, 0], [0, c, -s], [0, s, c]], np.float32)
    number = lambda value: np.full((1, 1), value, np.float32)  # noqa: E731
    return Primitives(
        origin=np.array([[[0.1, 0.2, 0.0]]], np.float32),
        frame=frame[None, None],
        length=number(length),
        start_radius=number(first),
        end_radius=number(last),
        scale=np.array([[scale]], np.float32),
        low=number(cut[0]),
        high=number(cut[1]),
        active=np.ones((1, 1), bool),
    )


def view(yaw=0.4, elevation=0.3, stretch=1.2, scale=30.0):
    turn = rotation(np.array([yaw]), np.array([elevation]), np.array([stretch]))
    number = np.ones(1, np.float32)
    return Views(np.zeros(1, np.int32), turn, number * scale, np.array([[20.0, 50.0]], np.float32), 0 * number)


def swept_depth(primitives, views, size, steps=1500):
    """Depth of the nearest of many ellipsoids along the axis, by solving each one's quadratic: slow and obvious."""
    frame, scale = primitives.frame[0, 0].astype(float), primitives.scale[0, 0].astype(float)
    turn = views.rotation[0].astype(float) * float(views.scale[0])
    best = np.full(size, -np.inf)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    right, up = x - float(views.foot_px[0, 0]), float(views.foot_px[0, 1]) - y
    for share in np.linspace(0, 1, steps):
        radius = float(primitives.start_radius[0, 0] * (1 - share) + primitives.end_radius[0, 0] * share)
        centre = turn @ (primitives.origin[0, 0] + frame[:, 1] * float(primitives.length[0, 0]) * share)
        shape = turn @ frame @ np.diag(scale * radius)
        inverse = np.linalg.inv(shape @ shape.T)
        dx, dy = right - centre[0], up - centre[1]
        a = inverse[2, 2]
        b = 2 * (inverse[0, 2] * dx + inverse[1, 2] * dy)
        c = inverse[0, 0] * dx**2 + 2 * inverse[0, 1] * dx * dy + inverse[1, 1] * dy**2 - 1
        root = b**2 - 4 * a * c
        depth = np.where(root > 0, centre[2] + (-b + np.sqrt(np.maximum(root, 0))) / (2 * a), -np.inf)
        best = np.maximum(best, depth)
    return best


@pytest.mark.parametrize("tilt", [0.0, 0.9, -1.2, 1.5])
@pytest.mark.parametrize(("first", "last"), [(0.3, 0.3), (0.35, 0.15), (0.1, 0.3)])
def test_depth_is_that_of_the_swept_ellipsoids(tilt, first, last):
    primitives, views = one(0.6, first, last, scale=(1.0, 0.7, 0.5), tilt=tilt), view()
    hits = cast(primitives, views, local_rays(primitives, views), (1, 70, 48))
    wanted = swept_depth(primitives, views, (70, 48))
    seen = hits.owner[0] >= 0
    assert (seen != np.isfinite(wanted)).mean() < 0.003
    both = seen & np.isfinite(wanted)
    assert np.abs(hits.depth[0][both] - wanted[both]).max() < 0.15  # the reference's steps are 0.01 px; rims are steep
    assert np.abs(hits.depth[0][both] - wanted[both]).mean() < 0.01


def test_local_coordinates_lead_back_to_the_pixel_and_lie_on_the_surface():
    primitives, views = one(0.6, 0.35, 0.15, scale=(1.0, 0.7, 0.5), tilt=0.4), view()
    rays = local_rays(primitives, views)
    hits = cast(primitives, views, rays, (1, 70, 48))
    row, column = (int(np.argwhere(hits.owner[0] >= 0).mean(axis=0)[axis]) for axis in (0, 1))
    depth = hits.depth[0, row, column]
    local = rays.to_local[0, 0] @ np.array([column + 0.5, row + 0.5, depth, 1.0])
    point = primitives.origin[0, 0] + primitives.frame[0, 0] @ (local * primitives.scale[0, 0])
    seen = views.rotation[0] @ point * views.scale[0]
    assert (20 + seen[0], 50 - seen[1], seen[2]) == pytest.approx((column + 0.5, row + 0.5, depth), abs=1e-3)
    share = hits.along[0, row, column]
    centre = np.array([0.0, share * rays.length[0, 0], 0.0])
    assert np.linalg.norm(local - centre) == pytest.approx(0.35 - 0.2 * share, abs=1e-4)


def test_a_cut_end_is_open():
    whole, cut = one(0.6, 0.3, 0.3), one(0.6, 0.3, 0.3, cut=(0.0, 1.0))
    views = view(elevation=0.0)
    tall = [
        np.ptp(np.nonzero(cast(p, views, local_rays(p, views), (1, 70, 48)).owner[0] >= 0)[0]) for p in (whole, cut)
    ]
    assert tall == [pytest.approx((0.6 + 0.6) * 30, abs=1.5), pytest.approx(0.6 * 30, abs=1.5)]


def test_the_nearer_figure_hides_the_other():
    primitives = one(0.6, 0.3, 0.3)
    two = Primitives(*[np.concatenate([getattr(primitives, name)] * 2) for name in Primitives.__slots__])
    single = view()
    both = Views(*[np.concatenate([getattr(single, name)] * 2) for name in Views.__slots__])
    both.depth_px[1] = 5
    owner = cast(two, both, local_rays(two, both), (1, 70, 48)).owner
    assert set(np.unique(owner)) == {-1, 1}
