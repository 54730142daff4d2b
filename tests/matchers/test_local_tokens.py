import numpy as np
import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.matchers._local_tokens import LocalTokens, TokensConfig
from reid.matchers._token_matcher import AttentionLayer
from reid.types import FeatureSpec
from tests.reference import rerankers

ONE = FeatureSpec((96, 32), {16: (8, 6, 2)})
TWO = FeatureSpec((32, 16), {16: (5, 2, 1), 8: (4, 4, 2)})


def maps_of(features: FeatureSpec, num: int = 3) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {s: torch.randn(num, *shape, generator=generator, dtype=torch.float64) for s, shape in features.maps.items()}


def make(features: FeatureSpec, dim: int = 6, *, with_global: bool = True, **options: object) -> LocalTokens:
    torch.manual_seed(0)
    config = TokensConfig(name="tested", **options)
    return LocalTokens(config, features, dim, with_global=with_global, with_scale=True).double().eval()


def weights_of(tokens: LocalTokens) -> dict[str, np.ndarray]:
    return {f"tokens.{name}": tensor.detach().numpy() for name, tensor in tokens.state_dict().items()}


@pytest.mark.parametrize(
    ("features", "options"),
    [
        (ONE, {}),
        (ONE, {"row_embedding": True, "num_locals": 5, "attention_hidden": 7}),
        (ONE, {"with_global": False, "num_locals": 11, "attention_hidden": 3}),
        (TWO, {"strides": (8, 16), "row_embedding": True}),
        (TWO, {"strides": (16, 8), "num_locals": 6, "attention_hidden": 7}),
    ],
)
def test_tokens_equal_the_loops(features, options):
    tokens = make(features, **options)
    maps = maps_of(features)
    found = tokens(maps)
    strides = options.get("strides", (16,))
    assert found["tokens"].shape == (3, *tokens.shape)
    assert "mask" not in found
    for n in range(3):
        own = [maps[stride][n].numpy() for stride in strides]
        deepest = strides.index(max(strides))
        wanted = rerankers.tokens(own, weights_of(tokens), options.get("num_locals", 0), deepest)
        np.testing.assert_allclose(found["tokens"][n].detach().numpy(), np.array(wanted), rtol=1e-9, atol=1e-12)
        if tokens.attended_dim is not None:
            attended, error = rerankers.attended(own, weights_of(tokens))
            assert found["attended"].shape == (3, tokens.attended_dim)
            np.testing.assert_allclose(found["attended"][n].detach().numpy(), attended, rtol=1e-9)
            assert found["reconstruction_error"][n].item() == pytest.approx(error, rel=1e-9)
        else:
            assert found.keys() == {"tokens"}


def test_scale_is_known_only_where_there_are_several():
    assert make(ONE).scale_embedding is None
    assert make(TWO, strides=(16, 8)).scale_embedding.weight.shape == (2, 6)
    assert make(ONE).row_embedding is None
    assert make(TWO, strides=(16, 8), row_embedding=True).row_embedding.weight.shape == (2 + 4, 6)


@pytest.mark.parametrize(("num_locals", "attended_dim"), [(0, None), (9, 9), (10, None), (13, None)])
def test_attention_is_off_where_it_would_choose_all(num_locals, attended_dim):
    tokens = make(TWO, strides=(16, 8), num_locals=num_locals)
    assert tokens.attended_dim == attended_dim
    assert (len(tokens.attention) > 0) is (attended_dim is not None)


def test_padding_stands_last_and_is_marked():
    plain, padded = make(ONE), make(ONE, num_locals=15)
    padded.load_state_dict(plain.state_dict())
    wanted, found = plain(maps_of(ONE)), padded(maps_of(ONE))
    assert found["tokens"].shape == (3, 16, 6)
    assert torch.equal(found["tokens"][:, :13], wanted["tokens"])
    assert found["tokens"][:, 13:].abs().sum() == 0
    assert found["mask"].tolist() == 3 * [13 * [True] + 3 * [False]]
    without_global = make(ONE, with_global=False, num_locals=15)(maps_of(ONE))
    assert without_global["mask"].tolist() == 3 * [12 * [True] + 3 * [False]]


def test_the_attention_loss_stops_at_the_map_and_moves_what_it_should():
    tokens = make(ONE, num_locals=5, attention_hidden=7)
    maps = {16: maps_of(ONE)[16].requires_grad_()}
    found = tokens(maps)
    (found["attended"].square().sum() + found["reconstruction_error"].sum()).backward()
    assert maps[16].grad is None
    moved = {name for name, parameter in tokens.named_parameters() if parameter.grad is not None}
    assert moved == {name for name, _ in tokens.named_parameters() if name.startswith(("attention.", "reduce."))}
    tokens(maps)["tokens"].square().sum().backward()
    assert maps[16].grad is not None  # the loss on pairs may train the backbone


def test_attended_is_finite_where_no_cell_tells_anything():
    tokens = make(ONE, num_locals=5, attention_hidden=7).float()
    with torch.no_grad():
        tokens.attention[0].score.bias.fill_(-1e6)
    found = tokens({16: maps_of(ONE)[16].float()})
    assert found["attended"].abs().sum() == 0
    assert found["tokens"].isfinite().all()


def test_layer_equals_torchs_own():
    torch.manual_seed(0)
    own = AttentionLayer(8, 2, 12).double()
    theirs = torch.nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    names = {"self_attn.in_proj_": "in_proj.", "self_attn.out_proj": "out_proj"}
    state = theirs.state_dict()
    for old, new in names.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    own.load_state_dict(state)
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1]])
    wanted = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(own(x, x, mask), wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(own(x[:, :1], x, mask), wanted[:, :1], rtol=1e-9, atol=1e-12)


def test_layer_gradient():
    torch.manual_seed(0)
    layer = AttentionLayer(4, 2, 3).double()
    x, y = (torch.randn(2, n, 4, dtype=torch.float64, requires_grad=True) for n in (2, 3))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.autograd.gradcheck(lambda a, b: layer(a, b, mask), [x, y])


def test_wrong_strides_and_maps():
    with pytest.raises(ConfigError, match="strides that differ"):
        TokensConfig(name="tested", strides=(16, 16))
    with pytest.raises(ConfigError, match="stride 8"):
        make(ONE, strides=(16, 8))
    with pytest.raises(ShapeError, match="tested: wanted a map of stride 8"):
        make(TWO, strides=(16, 8))({16: maps_of(TWO)[16]})
