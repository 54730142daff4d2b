import copy

import pytest
import torch
from torch import nn

from reid.nn.norm import affine, normalised_linear


def settled(norm: nn.BatchNorm1d) -> nn.BatchNorm1d:
    for tensor in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm.double()


def test_affine_is_the_norm_in_eval_mode():
    norm = settled(nn.BatchNorm1d(5)).eval()
    x = torch.randn(7, 5, dtype=torch.float64)
    scale, shift = affine(norm)
    torch.testing.assert_close(x * scale + shift, norm(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_normalised_linear_layer_is_both_layers(training, momentum):
    linear, norm = nn.Linear(6, 9).double(), settled(nn.BatchNorm1d(9, momentum=momentum)).train(training)
    rows = torch.randn(12, 6, dtype=torch.float64) * 3 + 1
    twins = copy.deepcopy((linear, norm))
    cotangent = torch.randn(12, 9, dtype=torch.float64)
    found, wanted = [], []
    for layers, outcome in (((linear, norm), found), (twins, wanted)):
        x = rows.clone().requires_grad_()
        if layers is twins:
            y = layers[1](layers[0](x))
        else:
            weight, bias = normalised_linear(*layers, x)
            y = nn.functional.linear(x, weight, bias)
        (y * cotangent).sum().backward()
        gradients = [parameter.grad for layer in layers for parameter in layer.parameters()]
        outcome += [y.detach(), x.grad, *gradients, *layers[1].buffers()]
    for own, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
