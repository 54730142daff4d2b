import pytest
import torch
from torch import nn

from reid.backbones import mobilenet, resnet
from reid.nn.folding import folded


def settle(module):
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)
            part.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
    return module.eval()


def count(module, kind):
    return sum(isinstance(part, kind) for part in module.modules())


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (lambda: mobilenet.MobileNet(mobilenet.Config(), pretrained=False), 0),
        (lambda: resnet.ResNet(resnet.Config(depth=18, cut="layer3"), pretrained=False), 0),
        (lambda: resnet.ResNet(resnet.Config(depth=50, cut="layer3", ibn="b"), pretrained=False), 0),
        # instance and batch norm share a convolution's channels there, in the first convolution of 13 blocks
        (lambda: resnet.ResNet(resnet.Config(depth=50, cut="layer3", ibn="a"), pretrained=False), 13),
    ],
    ids=["mobilenet", "resnet18", "resnet50_ibn_b", "resnet50_ibn_a"],
)
def test_the_copy_computes_the_same_without_batch_norms(build, left):
    torch.manual_seed(0)
    backbone = settle(build())
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    image = torch.rand(2, 3, 96, 64)
    copy = folded(backbone, image[:1])
    assert count(copy, nn.BatchNorm2d) == left
    with torch.no_grad():
        for stride, wanted in backbone(image).items():
            torch.testing.assert_close(copy(image)[stride], wanted, rtol=0, atol=1e-4 * float(wanted.std()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_a_batch_norm_on_its_own_stays():
    module = settle(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)))
    assert count(folded(module, torch.rand(1, 3, 4, 4)), nn.BatchNorm2d) == 2
