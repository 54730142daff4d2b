"""Which surface a pixel sees: swept ellipsoids, hit in closed form, many figures at once.

A primitive is the union of the ellipsoids on a straight axis, their size growing linearly from ``start_radius`` to
``end_radius``: a capsule, a rounded cone, or, of length 0, an ellipsoid. A shear of its local frame turns the
ellipsoids into spheres whose centres lie on the y axis, and turns a ray into a straight line again. There, with X the
coordinate along the projected axis, Y across it and s in [0, 1] along the axis, the sphere at s is met at depth

    f(s) = e s + sqrt(C + 2 B s - A s^2),    A = a^2 - d^2,  B = r d + a X,  C = r^2 - X^2 - Y^2

(a, e: length of the axis across and along the ray; r, d: first radius and its growth). f is concave, so the point
that is seen is where f' = 0, s = (B + e sqrt((A C + B^2) / (A + e^2))) / A, held to [0, 1]. Own derivation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.datasets.synthped.people import Floats

Ints = NDArray[np.int32]
FAR = np.float32(-1e9)


@dataclass(frozen=True, slots=True)
class Primitives:
    """P primitives of F figures, in the persons' own coordinates (metres).

    Attributes:
        origin: start of the axis, [F, P, 3].
        frame: columns are the local axes x, y (the axis) and z (front), [F, P, 3, 3].
        length: of the axis, [F, P]. start_radius, end_radius: [F, P]. scale: stretch of the ellipsoids along the local
            axes, [F, P, 3].
        low, high: the surface is cut off below and above these shares of the axis, [F, P].
        active: which exist, [F, P], bool.
    """

    origin: Floats
    frame: Floats
    length: Floats
    start_radius: Floats
    end_radius: Floats
    scale: Floats
    low: Floats
    high: Floats
    active: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Views:
    """Where F figures stand in their images.

    Attributes:
        image: index of the image, [F].
        rotation: person to view (x right, y up, z to the viewer), [F, 3, 3]; it may stretch as well.
        scale: pixels per metre, [F]. foot_px: image (x, y) of the person's origin, [F, 2]. depth_px: added to the
            depth; a figure that is nearer has more, [F].
    """

    image: Ints
    rotation: Floats
    scale: Floats
    foot_px: Floats
    depth_px: Floats


@dataclass(frozen=True, slots=True)
class Hits:
    """What the pixels see. ``owner`` = figure * P + primitive, -1 for nothing; [N, H, W] each.

    ``depth`` in pixels, larger is nearer; ``along`` = s of the primitive's axis, 0..1.
    """

    owner: Ints
    depth: Floats
    along: Floats


@dataclass(frozen=True, slots=True)
class LocalRays:
    """Pixel (x, y, depth) -> the local coordinates in which the ellipsoids are spheres.

    ``to_local`` [F, P, 3, 4]: q = M (x, y, depth, 1). ``length`` [F, P]: of the axis in q.
    """

    to_local: Floats
    length: Floats


def local_rays(primitives: Primitives, views: Views) -> LocalRays:
    """The maps from pixels to local coordinates; see :class:`LocalRays`."""
    flip = np.array([1.0, -1.0, 1.0], np.float32) / views.scale[:, None]
    from_view = np.linalg.inv(views.rotation) * flip[:, None, :]
    shift = np.concatenate([views.foot_px, views.depth_px[:, None]], axis=1)
    base = -(from_view @ shift[:, :, None])
    person = np.concatenate([from_view, base], axis=2)[:, None].repeat(primitives.length.shape[1], axis=1)
    person[..., 3] -= primitives.origin
    to_local = (primitives.frame.transpose(0, 1, 3, 2) @ person) / primitives.scale[..., None]
    return LocalRays(to_local.astype(np.float32), primitives.length / primitives.scale[..., 1])


def cast(primitives: Primitives, views: Views, rays: LocalRays, shape: tuple[int, int, int]) -> Hits:
    """Find what every pixel sees.

    Args:
        primitives: of F figures.
        views: of the same figures; several may stand in one image.
        rays: from :func:`local_rays`.
        shape: (N, H, W) images and pixels; the centre of the first pixel is at (0.5, 0.5).

    Returns:
        The nearest surface of each pixel.
    """
    hits = Hits(np.full(shape, -1, np.int32), np.full(shape, FAR, np.float32), np.zeros(shape, np.float32))
    solver = _Solver(primitives, rays)
    boxes = _boxes(primitives, views, shape[1:])
    turns = _turns(views.image)
    for turn in range(int(turns.max(initial=-1)) + 1):
        figures = np.nonzero(turns == turn)[0]
        for part in range(primitives.length.shape[1]):
            box = boxes[:, figures, part]
            shown = primitives.active[figures, part] & _has_area(box)
            if shown.any():
                _draw(hits, solver, figures[shown], part, box[:, shown], views.image[figures[shown]])
    return hits


def _turns(image: Ints) -> Ints:
    """How many figures of the same image come before: figures of one turn never share an image."""
    seen: dict[int, int] = {}
    turns = np.zeros(len(image), np.int32)
    for position, index in enumerate(image.tolist()):
        turns[position] = seen.get(index, 0)
        seen[index] = turns[position] + 1
    return turns


def _boxes(primitives: Primitives, views: Views, size: tuple[int, int]) -> Ints:
    """Pixel bounds (x0, x1, y0, y1) of every primitive, [4, F, P], held to the image."""
    axes = (views.rotation[:, None] @ primitives.frame) * views.scale[:, None, None, None]
    reach = np.linalg.norm(axes * primitives.scale[..., None, :], axis=3)
    start = (views.rotation[:, None] @ primitives.origin[..., None])[..., 0] * views.scale[:, None, None]
    end = start + axes[..., 1] * primitives.length[..., None]
    first, last = reach * primitives.start_radius[..., None], reach * primitives.end_radius[..., None]
    low, high = np.minimum(start - first, end - last), np.maximum(start + first, end + last)
    x, y = views.foot_px[:, 0, None], views.foot_px[:, 1, None]
    bounds = np.stack([x + low[..., 0] - 0.5, x + high[..., 0] + 0.5, y - high[..., 1] - 0.5, y - low[..., 1] + 0.5])
    limit = np.array([size[1], size[1], size[0], size[0]], np.float32)[:, None, None]
    whole = np.concatenate([np.floor(bounds[0::2]), np.ceil(bounds[1::2])])[[0, 2, 1, 3]]
    return np.asarray(np.clip(whole, 0, limit), np.int32)


def _has_area(box: Ints) -> NDArray[np.bool_]:
    return np.asarray((box[1] > box[0]) & (box[3] > box[2]))


class _Solver:
    """The per-primitive constants of the formula in the module's docstring, [F, P] each."""

    def __init__(self, primitives: Primitives, rays: LocalRays) -> None:
        ray = rays.to_local[..., 2]
        self.stretch = np.linalg.norm(ray, axis=-1)
        ray = ray / self.stretch[..., None]
        self.cosine = ray[..., 1]
        self.sine = np.sqrt(np.maximum(1 - self.cosine**2, 1e-6))
        up = np.array([0.0, 1.0, 0.0], np.float32)
        along = (up - self.cosine[..., None] * ray) / self.sine[..., None]
        rows = np.stack([along, np.cross(along, ray), ray], axis=-2)
        self.plane = rows @ rays.to_local[..., [0, 1, 3]]
        self.across, self.deep = rays.length * self.sine, rays.length * self.cosine
        self.radius, self.growth = primitives.start_radius, primitives.end_radius - primitives.start_radius
        self.low, self.high = primitives.low * rays.length, primitives.high * rays.length
        self.bend = self.across**2 - self.growth**2
        self.safe_bend = np.maximum(self.bend, 1e-6)


def _draw(hits: Hits, solver: _Solver, figures: NDArray[np.intp], part: int, box: Ints, image: Ints) -> None:
    """Draw one primitive of several figures, each in its own image, into ``hits``."""
    x0, x1, y0, y1 = box
    x = (x0[:, None] + np.arange(int((x1 - x0).max())) + 0.5).astype(np.float32)
    y = (y0[:, None] + np.arange(int((y1 - y0).max())) + 0.5).astype(np.float32)
    plane = solver.plane[figures, part]
    across, over, depth0 = (
        (plane[:, row, 0, None] * x)[:, None, :] + (plane[:, row, 1, None] * y + plane[:, row, 2, None])[:, :, None]
        for row in range(3)
    )

    def constant(value: Floats) -> Floats:
        return np.asarray(value[figures, part][:, None, None])

    radius, growth, deep = constant(solver.radius), constant(solver.growth), constant(solver.deep)
    bend, safe = constant(solver.bend), constant(solver.safe_bend)
    inside = radius**2 - across * across - over * over
    slope = across * constant(solver.across) + radius * growth
    root = safe * inside + slope * slope
    seen = root > 0
    np.maximum(root, 0, out=root)
    along = (slope + deep / np.sqrt(safe + deep * deep) * np.sqrt(root)) / safe
    np.clip(along, 0, 1, out=along)
    height = inside + along * (2 * slope - bend * along)
    seen &= height > 0
    deepness = deep * along + np.sqrt(np.maximum(height, 0))
    axial = across * constant(solver.sine) + deepness * constant(solver.cosine)
    seen &= (axial >= constant(solver.low)) & (axial <= constant(solver.high))
    seen &= (x < x1[:, None])[:, None, :] & (y < y1[:, None])[:, :, None]
    depth = (deepness - depth0) / constant(solver.stretch)
    figure, row, column = np.nonzero(seen)
    size = hits.depth.shape
    place = (image[figure] * size[1] + y0[figure] + row) * size[2] + x0[figure] + column
    values = depth[seen]
    nearer = values > hits.depth.reshape(-1)[place]
    place = place[nearer]
    hits.depth.reshape(-1)[place] = values[nearer]
    hits.along.reshape(-1)[place] = along[seen][nearer]
    hits.owner.reshape(-1)[place] = (figures * solver.radius.shape[1] + part)[figure[nearer]]
