import pytest
import torch

from reid.nn.attention import EncoderStack
from tests.reference.golden import Golden, assert_relative, assert_within_spread


def test_reference_encoder_to_the_last_array():
    golden = Golden("encoder_d16_h1_L2_6x2")
    dim, heads, feedforward, num_layers, height, width, batch = golden.array("cfg").tolist()
    encoder = EncoderStack(num_layers, dim, feedforward, init="released")
    encoder.load_state_dict(golden.under("sd/"))
    assert heads == encoder.layers[0].self_attn.num_heads
    tokens = golden["x"].transpose(0, 1)  # ours are batch first
    assert tokens.shape == (batch, height * width, dim)

    def run(x: torch.Tensor) -> torch.Tensor:
        return torch.cat(encoder(x), dim=-1).transpose(0, 1)

    encoder.eval()
    assert_within_spread(run(tokens), golden["y_f32"], 1e-5)
    with torch.no_grad():
        assert_within_spread(run(tokens), golden["y_nograd_fastpath_f32"], 1e-5)
    encoder.double()
    with torch.no_grad():
        assert_relative(run(tokens.double()), golden["y_nograd_fastpath_f64"], 1e-9)
    x = tokens.double().requires_grad_()
    found = run(x)
    assert_relative(found, golden["y_f64"], 1e-9)
    (found * golden["cotangent"]).sum().backward()
    assert_relative(x.grad.transpose(0, 1), golden["grad_x"], 1e-6)  # gradients are stored in float32
    for name, parameter in encoder.named_parameters():
        assert_relative(parameter.grad, golden[f"grad/{name}"], 1e-6, name)
    golden.check_all_used({})


def test_released_layers_start_as_copies_and_independent_ones_do_not():
    released, independent = (EncoderStack(2, 8, 16, init=init) for init in ("released", "independent"))
    for name, value in released.layers[0].state_dict().items():
        assert torch.equal(value, released.layers[1].state_dict()[name])
    assert released.layers[0].linear1.weight is not released.layers[1].linear1.weight
    assert not torch.equal(independent.layers[0].linear1.weight, independent.layers[1].linear1.weight)


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_one_output_per_layer(num_layers):
    stack = EncoderStack(num_layers, 8, 16, init="independent")
    assert [tuple(out.shape) for out in stack(torch.zeros(2, 5, 8))] == [(2, 5, 8)] * num_layers
    assert len(list(stack.parameters())) == 12 * num_layers
