"""The table of synthped."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from reid.datasets._base import DatasetConfig


class Config(DatasetConfig):
    """Table of synthped. All counts are ours to choose; an identity looks the same whatever they are."""

    name: Literal["synthped"] = "synthped"
    domain: Literal["studio", "street", "mall"] = Field("studio", description="the place; they differ as real sets do")
    num_train_pids: NonNegativeInt = Field(
        200, description="identities to train on; 200 are enough for a demonstration"
    )
    num_test_pids: NonNegativeInt = Field(100, description="identities in query and gallery")
    num_cameras: int = Field(4, ge=2, le=99, description="cameras; each person passes all of them or all but one")
    images_per_camera: PositiveInt = Field(4, description="images of a person in one camera")
    queries_per_pid: PositiveInt = Field(2, description="query images of a test identity, each in another camera")
    num_distractors: NonNegativeInt = Field(150, description="strangers and false detections in the gallery")
    num_junk: NonNegativeInt = Field(50, description="badly placed boxes, removed from every ranking")
    image_height: int = Field(128, ge=32, le=1024, description="pixels")
    image_width: int = Field(64, ge=16, le=512, description="pixels")
    seed: NonNegativeInt = Field(0, description="draws people, cameras and images")

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_height, self.image_width
