import numpy as np
import pytest

from reid.datasets.synthped.parts import PARTS, SLOTS, Builder, along


def test_names_are_unique_and_fit_the_buffer():
    assert len(set(PARTS)) == len(PARTS) <= np.iinfo(np.int8).max
    assert len(set(SLOTS)) == len(SLOTS)


def test_builder_makes_right_handed_frames_along_the_axis():
    rng = np.random.default_rng(0)
    builder = Builder(3)
    start, end, front = rng.normal(size=(3, 3, 3)).astype(np.float32)
    for part in PARTS:
        builder.add(part, (start, end), front, (0.1, np.array([0.1, 0.2, 0.3])), ("skin", 0.25, 0.75), active=1.0)
    primitives, charts = builder.stacked()
    frame = primitives.frame[:, 5]
    np.testing.assert_allclose(frame.transpose(0, 2, 1) @ frame, np.tile(np.eye(3), (3, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(frame), 1, atol=1e-5)
    np.testing.assert_allclose(primitives.origin[:, 5] + frame[..., 1] * primitives.length[:, 5, None], end, atol=1e-5)
    assert primitives.end_radius[:, 5] == pytest.approx([0.1, 0.2, 0.3])
    assert charts.extent[0, 5] == pytest.approx(0.5)
    assert charts.mirror[0].tolist() == [part.startswith("right") for part in PARTS]


def test_along():
    np.testing.assert_array_equal(along(np.array([0.0, -1.0, 0.0]), np.array([2.0, 3.0])), [[0, -2, 0], [0, -3, 0]])
