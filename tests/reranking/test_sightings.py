from pathlib import Path

import numpy as np
import pytest

from reid.errors import DatasetError, ShapeError
from reid.reranking._sightings import Sightings
from reid.types import ImageRecord


def record(name, camid, time_s):
    return ImageRecord(path=Path(name), pid=1, camid=camid, time_s=time_s)


def test_sightings_of_records():
    found = Sightings.of([record("a.jpg", 3, 1.5), record("b.jpg", 0, 0.0)])
    assert found.camid_N.tolist() == [3, 0]
    assert found.time_s_N.tolist() == [1.5, 0.0]


@pytest.mark.parametrize(("camid", "time_s", "what"), [(None, 1.0, "camera"), (1, None, "time")])
def test_a_record_without_camera_or_time_is_named(camid, time_s, what):
    with pytest.raises(DatasetError, match=rf"b\.jpg: wanted the {what} of every image.*none for 1 of 2.*another"):
        Sightings.of([record("a.jpg", 0, 0.0), record("b.jpg", camid, time_s)])


def test_missing_values_in_arrays():
    with pytest.raises(DatasetError, match="image 1: wanted the time"):
        Sightings(np.array([0, 1]), np.array([0.0, np.nan]))
    with pytest.raises(DatasetError, match="image 0: wanted the camera"):
        Sightings(np.array([-1, 1]), np.array([0.0, 1.0]))
    with pytest.raises(ShapeError, match=r"found \[2\] and \[1\]"):
        Sightings(np.array([0, 1]), np.array([0.0]))
    with pytest.raises(ShapeError, match="one camera and one time"):
        Sightings.of([])
