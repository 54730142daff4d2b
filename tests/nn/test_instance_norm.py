import pytest
import torch
from torch import nn

from reid.nn.instance_norm import InstanceNorm


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_equals_torchs_and_keeps_the_order_of_memory(order):
    norm, reference = InstanceNorm(6), nn.InstanceNorm2d(6, affine=True)
    nn.init.normal_(norm.weight)
    reference.load_state_dict(norm.state_dict())
    x = torch.randn(3, 6, 5, 4).contiguous(memory_format=order)
    assert norm(x).is_contiguous(memory_format=order)
    torch.testing.assert_close(norm(x), reference(x))
