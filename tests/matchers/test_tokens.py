import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from reid.errors import ConfigError
from reid.matchers._dot_product import ScoreNorm
from reid.matchers._tokens import Decoder, PairHead, TokenConfig, TokenNeck, encoder, pairs_at_once
from reid.types import FeatureSpec
from tests.reference.transformers import conv3x3

SPEC = FeatureSpec((96, 32), {16: (5, 6, 2)})
SMALL = TokenConfig(name="a test", dim=8, num_layers=2, feedforward=12)


def test_tokens_are_the_convolution_row_by_row():
    config = SMALL.model_copy(update={"position_embedding": True})
    neck = TokenNeck(config, SPEC).double()
    map_ = torch.randn(2, 5, 6, 2, dtype=torch.float64)
    weights = {"weight": neck.conv.weight.detach().numpy(), "bias": neck.conv.bias.detach().numpy()}
    wanted = np.array([conv3x3(image, weights) for image in map_.numpy()]) + neck.position.detach().numpy()
    np.testing.assert_allclose(neck({16: map_}).detach(), wanted, rtol=1e-12)


def test_stride_the_backbone_does_not_give():
    with pytest.raises(ConfigError, match=r"matcher a test: wanted a feature map of stride 8"):
        TokenNeck(SMALL.model_copy(update={"stride": 8}), SPEC)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValidationError, match="wanted num_heads that divides dim 8, found 3"):
        TokenConfig(name="a test", dim=8, num_heads=3)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_decoder_is_torchs_in_two_steps(norm):
    config = SMALL.model_copy(update={"norm": norm, "num_heads": 2})
    ours = Decoder(config).double().eval()
    layers = []
    for layer in (ours.first, *ours.others):
        torchs = nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=norm == "pre").double().eval()
        renamed = {name.replace("cross_attn", "multihead_attn"): w for name, w in layer.state_dict().items()}
        torchs.load_state_dict(renamed)
        layers.append(torchs)
    token, memory = (torch.randn(3, num, 8, dtype=torch.float64) for num in (4, 7))
    wanted = token
    for layer in layers:
        wanted = layer(wanted, memory)
    torch.testing.assert_close(ours(ours.begin(token), memory), ours.norm(wanted))


def test_layers_start_apart():
    first, second, *_ = encoder(SMALL)
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_score_norm_is_a_batch_norm_at_the_start():
    ours, torchs = ScoreNorm(), nn.BatchNorm1d(1)
    for _ in range(3):
        score = torch.randn(4, 5)
        torch.testing.assert_close(ours(score), torchs(score.view(-1, 1)).view(4, 5))
    ours.eval()
    torchs.eval()
    torch.testing.assert_close(ours(score), torchs(score.view(-1, 1)).view(4, 5))


def test_no_step_turns_the_order_of_scores():
    norm = ScoreNorm()
    score = torch.linspace(-1, 1, 9)
    optimizer = torch.optim.SGD(norm.parameters(), lr=1.0)
    for _ in range(20):  # towards scores in the opposite order
        loss = (norm(score) + 3 * score).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (norm.eval()(score).diff() > 0).all()


def test_head_is_float32_under_autocast():
    head = PairHead(8)
    token = torch.randn(3, 5, 8)
    wanted = token.double().mean(1) @ head.linear.weight[0].double() + head.linear.bias.double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(token)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_pairs_at_once_by_hand():
    # Published Transformer-Cat: 384 tokens of 512 + 8 * 128 + 384 numbers of 4 bytes are 2.95 MB; 256 MiB hold 91.
    published = TokenConfig(name="a test", dim=128, feedforward=512)
    assert pairs_at_once(published, 384) == 91
    assert pairs_at_once(SMALL, 2) == 512
    assert pairs_at_once(TokenConfig(name="a test", dim=4096), 10**5) == 1
