import torch

from reid.vision import functional, models


def test_models_and_transforms_work_beside_any_torch():
    assert models.resnet18(weights=None).layer3 is not None
    assert functional.resize(torch.zeros(3, 4, 4), [2, 2]).shape == (3, 2, 2)


def test_operator_schemas_exist():
    assert hasattr(torch.ops.torchvision, "nms")
