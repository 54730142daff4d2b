"""A tiny untrained model, and images for it."""

import pytest

from reid.experiment import resolve
from reid.models import fresh_model
from reid.types import ImageRecord


@pytest.fixture
def model(tiny):
    return fresh_model(resolve(tiny, "a test"))


@pytest.fixture
def records(drawn_root):
    return [ImageRecord(path, pid=0) for path in sorted((drawn_root / "market" / "query").iterdir())[:7]]
