import numpy as np
import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.matchers.rrt import Config, Rrt
from reid.types import FeatureSpec, ImageState
from tests.reference import rerankers

SPEC = FeatureSpec((48, 32), {16: (5, 3, 2)})
TINY = {"dim": 8, "num_heads": 2, "num_layers": 2, "feedforward": 12}


def make(features: FeatureSpec = SPEC, **options: object) -> Rrt:
    torch.manual_seed(0)
    return Rrt(Config(**{**TINY, **options}), features).double().eval()


def encoded(matcher: Rrt, num: int, seed: int) -> ImageState:
    generator = torch.Generator().manual_seed(seed)
    shapes = matcher.tokens.map_shapes
    maps = {s: torch.randn(num, *shape, generator=generator, dtype=torch.float64) for s, shape in shapes.items()}
    return matcher.encode(torch.zeros(num, 3, 48, 32), maps)


def weights_of(matcher: Rrt) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in matcher.state_dict().items()}


@torch.no_grad()
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 1, "num_heads": 4}, {"row_embedding": True}, {"num_locals": 4}, {"num_locals": 8}]
)
def test_logits_equal_the_loops(options):
    matcher = make(**options)
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 3, 1)
    score = matcher.score(query, gallery)
    real = query["mask"][0].tolist() if "mask" in query.tensors else None
    for q in range(2):
        for g in range(3):
            sides = [list(state["tokens"][n].numpy()) for state, n in ((query, q), (gallery, g))]
            wanted = rerankers.rrt_logit(*sides, weights_of(matcher), matcher.config.num_heads, real)
            assert score[q, g].item() == pytest.approx(wanted, rel=1e-9)


@torch.no_grad()
def test_from_maps_to_logit_equals_the_loops():
    features = FeatureSpec((48, 32), {16: (5, 3, 2), 8: (4, 6, 4)})
    matcher = make(features, strides=(8, 16), num_locals=7, attention_hidden=6, row_embedding=True)
    generator = torch.Generator().manual_seed(0)
    maps = {s: torch.randn(2, *shape, generator=generator, dtype=torch.float64) for s, shape in features.maps.items()}
    state = matcher.encode(torch.zeros(2, 3, 48, 32), maps)
    sides = [rerankers.tokens([maps[8][n].numpy(), maps[16][n].numpy()], weights_of(matcher), 7, 1) for n in range(2)]
    wanted = rerankers.rrt_logit(*sides, weights_of(matcher), 2)
    assert matcher.pair(state[[0]], state[[1]]).logit_N.item() == pytest.approx(wanted, rel=1e-9)


def test_a_place_does_not_drown_what_is_there():
    """Tokens have unit length; the vectors of their map and row begin sqrt(2 dim / (num + dim)) long."""
    features = FeatureSpec((48, 32), {16: (5, 3, 2), 8: (4, 6, 4)})
    tokens = make(features, strides=(8, 16), row_embedding=True, dim=128).tokens
    for embedding, num in ((tokens.scale_embedding, 2), (tokens.row_embedding, 9)):
        wanted = (2 * 128 / (num + 128)) ** 0.5
        assert embedding.weight.norm(dim=1).mean().item() == pytest.approx(wanted, rel=0.1)


@torch.no_grad()
def test_the_order_of_local_tokens_does_not_matter_but_which_is_global_does():
    matcher = make()
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 2, 1)
    wanted = matcher.pair(query, gallery).logit_N
    for side, order in (("query", [0, 4, 1, 6, 2, 5, 3]), ("gallery", [0, 6, 5, 4, 3, 2, 1])):
        states = {"query": query, "gallery": gallery}
        states[side] = ImageState({"tokens": states[side]["tokens"][:, order]})
        torch.testing.assert_close(matcher.pair(**states).logit_N, wanted, rtol=1e-12, atol=1e-12)
    swapped = ImageState({"tokens": query["tokens"][:, [1, 0, 2, 3, 4, 5, 6]]})
    assert (matcher.pair(swapped, gallery).logit_N - wanted).abs().min() > 1e-6


@torch.no_grad()
def test_padding_changes_nothing():
    plain, padded = make(), make(num_locals=9)
    padded.load_state_dict(plain.state_dict())
    wanted = plain.score(encoded(plain, 3, 0), encoded(plain, 3, 1))
    query, gallery = encoded(padded, 3, 0), encoded(padded, 3, 1)
    torch.testing.assert_close(padded.score(query, gallery), wanted, rtol=1e-12, atol=1e-12)
    for state in (query, gallery):
        state["tokens"][:, 7:] = 100 * torch.randn(3, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(padded.score(query, gallery), wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_chunks_change_nothing():
    matcher = make()
    query, gallery = encoded(matcher, 7, 0), encoded(matcher, 7, 1)
    wanted = matcher.pair(query, gallery).logit_N
    matcher.pairs_per_chunk = 3
    torch.testing.assert_close(matcher.pair(query, gallery).logit_N, wanted, rtol=1e-12, atol=1e-12)
    assert matcher.pair(query[:0], gallery[:0]).logit_N.shape == (0,)


def test_gradient():
    matcher = make(dim=4, feedforward=3)
    tokens = encoded(matcher, 4, 0)["tokens"].detach().requires_grad_()

    def logit(x: torch.Tensor) -> torch.Tensor:
        return matcher.pair(ImageState({"tokens": x[:2]}), ImageState({"tokens": x[2:]})).logit_N

    assert torch.autograd.gradcheck(logit, [tokens])


def test_it_has_the_published_number_of_parameters():
    strides = tuple(2**n for n in range(7))  # seven scales, as published
    matcher = Rrt(Config(strides=strides), FeatureSpec((2, 1), dict.fromkeys(strides, (2048, 2, 1))))
    total = sum(parameter.numel() for parameter in matcher.parameters())
    reduction, power = 7 * (2048 * 128 + 128), 1  # not part of the published count: its inputs are descriptors
    assert total - reduction - power == 2_243_201
    layer = 4 * (128 * 128 + 128) + (128 * 1024 + 1024) + (1024 * 128 + 128) + 4 * 128
    assert 6 * layer + (2048 * 128 + 128) + 7 * 128 + 6 * 128 + 129 == 2_243_201


def test_what_it_offers():
    matcher = make(num_locals=4)
    assert matcher.info.kind == "top_k"
    assert not matcher.info.symmetric
    assert matcher.info.strides == (16,)
    assert not matcher.info.has_correspondences
    assert matcher.info.attended_dim == 5
    state = encoded(matcher, 2, 0)
    assert state.stored().tensors.keys() == {"tokens"}
    encoder, decoder = matcher.parameter_groups()
    assert {id(p) for p in encoder.parameters} == {id(p) for p in matcher.tokens.parameters()}
    assert any(p is matcher.segment.weight for p in decoder.parameters)


def test_wrong_sizes_and_states():
    with pytest.raises(ConfigError, match="rrt: wanted dim a multiple of num_heads, found 8, 3"):
        make(num_heads=3)
    matcher = make()
    with pytest.raises(ShapeError, match="rrt: wanted states with tokens"):
        matcher.pair(ImageState({"tokens": torch.zeros(1, 4, 8)}), ImageState({"tokens": torch.zeros(1, 4, 8)}))
