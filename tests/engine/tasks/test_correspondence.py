import pytest
import torch

from reid.build import build_loss, build_model
from reid.data.loader import TrainBatch
from reid.engine.tasks.correspondence import CorrespondenceTask
from reid.errors import ShapeError
from reid.losses._base import LossSpec
from reid.types import Warp, Warps

SIZE = (64, 32)
MATCHER = {"name": "superglue", "stride": 8, "dim": 16, "num_heads": 2, "num_layers": 2}


def still(num: int) -> Warps:
    """Nothing moves, and everything can be seen."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    seen = torch.ones(num, *SIZE, dtype=torch.bool)
    warp = Warp(torch.stack((x, y), dim=2).repeat(num, 1, 1, 1), seen, seen)
    return Warps(warp, warp)


@pytest.fixture
def task():
    torch.manual_seed(0)
    model = build_model({"name": "resnet", "depth": 18, "cut": "layer2"}, MATCHER, SIZE, pretrained=False)
    return CorrespondenceTask(model, build_loss({"name": "assignment"}, LossSpec(2, None))).eval()


def test_the_loss_compares_the_first_half_of_the_images_with_the_second(task):
    image = torch.randint(256, (4, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    value = task(TrainBatch(image, torch.tensor([0, 1, 0, 1]), 0.0, still(2)))
    state = task.model(image)
    wanted = task.loss(task.model.matcher.pair(state[[0, 1]], state[[2, 3]]), still(2))
    torch.testing.assert_close(value.loss, wanted.loss)
    value.loss.backward()
    assert task.model.matcher.keypoints.project.weight.grad.abs().sum() > 0


def test_without_truth_there_is_nothing_to_learn(task):
    image = torch.zeros(4, 3, *SIZE, dtype=torch.uint8)
    for warps in (None, still(3)):
        with pytest.raises(ShapeError, match="a warp for each pair of 4 images"):
            task(TrainBatch(image, torch.zeros(4, dtype=torch.int64), 0.0, warps))
