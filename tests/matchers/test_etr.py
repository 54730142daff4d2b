import numpy as np
import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.matchers.etr import Config, Etr, masked_mean
from reid.types import FeatureSpec, ImageState
from tests.reference import rerankers

SPEC = FeatureSpec((48, 32), {16: (5, 3, 2)})
TINY = {"dim": 8, "num_heads": 2, "num_blocks": 2, "feedforward": 12}
BLOCK = {"d": ["self", "cross"], "s": ["cross"]}


def make(features: FeatureSpec = SPEC, **options: object) -> Etr:
    torch.manual_seed(0)
    return Etr(Config(**{**TINY, **options}), features).double().eval()


def maps_of(num: int, seed: int, features: FeatureSpec = SPEC) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {s: torch.randn(num, *shape, generator=generator, dtype=torch.float64) for s, shape in features.maps.items()}


def encoded(matcher: Etr, num: int, seed: int) -> ImageState:
    return matcher.encode(torch.zeros(num, 3, 48, 32), maps_of(num, seed))


def weights_of(matcher: Etr) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in matcher.state_dict().items()}


def tokens_of(matcher: Etr, num: int, seed: int) -> list[list[np.ndarray]]:
    """By the loops, with zeros for padding."""
    maps = maps_of(num, seed)[16].numpy()
    chosen = matcher.tokens.num_locals if matcher.tokens.attended_dim else 0
    sides = [rerankers.tokens([m], weights_of(matcher), chosen) for m in maps]
    return [side + (matcher.tokens.shape[0] - len(side)) * [np.zeros(8)] for side in sides]


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_blocks": 3, "num_heads": 4},
        {"num_blocks": 1, "row_embedding": True},
        {"num_locals": 4},
        {"num_locals": 8},
        {"variant": "s"},
        {"variant": "s", "num_locals": 8, "row_embedding": True},
    ],
)
def test_logits_equal_the_loops(options):
    matcher = make(**options)
    score = matcher.score(encoded(matcher, 2, 0), encoded(matcher, 3, 1))
    kinds = matcher.config.num_blocks * BLOCK[matcher.config.variant]
    num_tokens = matcher.tokens.shape[0]
    num_real = min(num_tokens, 6 + (matcher.config.variant == "d"))
    real = [n < num_real for n in range(num_tokens)]
    query, gallery = tokens_of(matcher, 2, 0), tokens_of(matcher, 3, 1)
    for q in range(2):
        for g in range(3):
            wanted = rerankers.etr_logit(
                query[q], gallery[g], weights_of(matcher), kinds, matcher.config.num_heads, (real, real)
            )
            assert score[q, g].item() == pytest.approx(wanted, rel=1e-9)


def masks(num_query: int, num_gallery: int, num_tokens: int) -> tuple[list[bool], list[bool]]:
    return [n < num_query for n in range(num_tokens)], [n < num_gallery for n in range(num_tokens)]


@torch.no_grad()
@pytest.mark.parametrize("released", [False, True])
def test_images_with_unequally_many_tokens(released):
    matcher = make(variant="d", num_locals=8, num_blocks=1, released=released)
    query, gallery = encoded(matcher, 1, 0), encoded(matcher, 1, 1)
    real = masks(5, 7, 9)
    if not released:  # the first layer has seen the encoder's own mask: encode anew under this one
        plain = [torch.from_numpy(np.array(tokens_of(matcher, 1, seed))) for seed in (0, 1)]
        query, gallery = (reencoded(matcher, x, mask) for x, mask in zip(plain, real, strict=True))
    states = [
        ImageState({"tokens": state["tokens"], "mask": torch.tensor([mask])})
        for state, mask in zip((query, gallery), real, strict=True)
    ]
    sides = tokens_of(matcher, 1, 0)[0], tokens_of(matcher, 1, 1)[0]
    if released:
        wanted = rerankers.etr_released_logit(*sides, weights_of(matcher), 2, real)
    else:
        wanted = rerankers.etr_logit(*sides, weights_of(matcher), ["self", "cross"], 2, real)
    assert matcher.pair(*states).logit_N.item() == pytest.approx(wanted, rel=1e-9)


def reencoded(matcher: Etr, token_NTD: torch.Tensor, mask: list[bool]) -> ImageState:
    token_NTD = token_NTD + matcher.segment(matcher.segment_idx_T)
    return ImageState({"tokens": matcher.layers[0](token_NTD, token_NTD, torch.tensor([mask]))})


@torch.no_grad()
def test_released_is_the_last_layer_on_the_initial_tokens():
    released, chained = make(released=True, num_blocks=3), make(num_blocks=3)
    assert len(released.layers) == 1
    state = {name: value for name, value in chained.state_dict().items() if not name.startswith("layers.")}
    for name, value in chained.layers[5].state_dict().items():
        state[f"layers.0.{name}"] = value
    released.load_state_dict(state)
    query, gallery = tokens_of(released, 2, 0), tokens_of(released, 2, 1)
    found = released.pair(encoded(released, 2, 0), encoded(released, 2, 1)).logit_N
    for n in range(2):
        real = masks(7, 7, 7)
        wanted = rerankers.etr_released_logit(query[n], gallery[n], weights_of(released), 2, real)
        assert found[n].item() == pytest.approx(wanted, rel=1e-9)
    other = chained.pair(encoded(chained, 2, 0), encoded(chained, 2, 1)).logit_N
    assert (other - found).abs().min() > 1e-6


@torch.no_grad()
@pytest.mark.parametrize("variant", ["d", "s"])
def test_the_order_of_local_tokens_does_not_matter(variant):
    matcher = make(variant=variant)
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 2, 1)
    order = [0, 4, 1, 2, 5, 3] if variant == "s" else [0, 4, 1, 6, 2, 5, 3]
    wanted = matcher.pair(query, gallery).logit_N
    for states in (
        (ImageState({"tokens": query["tokens"][:, order]}), gallery),
        (query, ImageState({"tokens": gallery["tokens"][:, order]})),
    ):
        torch.testing.assert_close(matcher.pair(*states).logit_N, wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["d", "s"])
def test_the_order_of_the_cells_does_not_matter(variant):
    matcher = make(variant=variant)
    gallery = encoded(matcher, 2, 1)
    maps = {16: maps_of(2, 0)[16].flip(2, 3)}
    found = matcher.score(matcher.encode(torch.zeros(2, 3, 48, 32), maps), gallery)
    torch.testing.assert_close(found, matcher.score(encoded(matcher, 2, 0), gallery), rtol=1e-12, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["d", "s"])
def test_padding_changes_nothing(variant):
    plain, padded = make(variant=variant), make(variant=variant, num_locals=9)
    padded.load_state_dict(plain.state_dict())
    wanted = plain.score(encoded(plain, 3, 0), encoded(plain, 3, 1))
    query, gallery = encoded(padded, 3, 0), encoded(padded, 3, 1)
    torch.testing.assert_close(padded.score(query, gallery), wanted, rtol=1e-12, atol=1e-12)
    for state in (query, gallery):
        state["tokens"][:, -3:] = 100 * torch.randn(3, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(padded.score(query, gallery), wanted, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_padding_changes_the_released_form():
    matcher = make(released=True, num_locals=9)
    query, gallery = encoded(matcher, 1, 0), encoded(matcher, 1, 1)
    before = matcher.pair(query, gallery).logit_N.item()
    query["tokens"][:, -1] += 1
    assert matcher.pair(query, gallery).logit_N.item() != pytest.approx(before, abs=1e-6)


@torch.no_grad()
def test_chunks_change_nothing():
    matcher = make()
    query, gallery = encoded(matcher, 7, 0), encoded(matcher, 7, 1)
    wanted = matcher.pair(query, gallery).logit_N
    matcher.pairs_per_chunk = 3
    torch.testing.assert_close(matcher.pair(query, gallery).logit_N, wanted, rtol=1e-12, atol=1e-12)
    assert matcher.pair(query[:0], gallery[:0]).logit_N.shape == (0,)


@pytest.mark.parametrize("options", [{"num_blocks": 3}, {"variant": "s", "num_blocks": 3}, {"released": True}])
def test_every_layer_gets_a_gradient(options):
    matcher = make(**options)
    matcher.pair(encoded(matcher, 2, 0), encoded(matcher, 2, 1)).logit_N.sum().backward()
    for name, parameter in matcher.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("options", [{}, {"variant": "s"}, {"released": True}])
def test_gradient(options):
    matcher = make(dim=4, feedforward=3, **options)
    tokens = encoded(matcher, 4, 0)["tokens"].detach().requires_grad_()

    def logit(x: torch.Tensor) -> torch.Tensor:
        return matcher.pair(ImageState({"tokens": x[:2]}), ImageState({"tokens": x[2:]})).logit_N

    assert torch.autograd.gradcheck(logit, [tokens])


def count(matcher: Etr) -> int:
    return sum(parameter.numel() for parameter in matcher.parameters())


def test_it_has_the_published_number_of_parameters():
    strides = tuple(2**n for n in range(7))  # seven scales, as published
    features = FeatureSpec((2, 1), dict.fromkeys(strides, (2048, 2, 1)))
    apart = 7 * (2048 * 128 + 128) + 1  # reductions and the pooling's power: the published inputs are descriptors
    assert count(Etr(Config(strides=strides), features)) - apart == 2_242_817
    layer = 4 * (128 * 128 + 128) + (128 * 1024 + 1024) + (1024 * 128 + 128) + 4 * 128
    assert count(Etr(Config(strides=strides, released=True), features)) - apart == 2_242_817 - 5 * layer
    small = Etr(Config(variant="s"), FeatureSpec((2, 1), {16: (3, 2, 1)}))
    layer = 4 * (256 * 256 + 256) + (256 * 2048 + 2048) + (2048 * 256 + 256) + 4 * 256
    assert count(small) == 2 * layer + (3 * 256 + 256) + 513


def test_masked_mean_by_hand():
    token = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [7.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert masked_mean(token, mask).tolist() == [[2.0], [7.0]]
    assert masked_mean(token[1:], None).tolist() == [[7.0]]


def test_what_it_offers():
    matcher = make(num_locals=4)
    assert matcher.info.kind == "top_k"
    assert not matcher.info.symmetric
    assert matcher.info.strides == (16,)
    assert not matcher.info.has_correspondences
    assert matcher.info.attended_dim == 5
    assert encoded(matcher, 2, 0).stored().tensors.keys() == {"tokens"}
    encoder, decoder = matcher.parameter_groups()
    cached = {id(p) for p in matcher.layers[0].parameters()}
    assert cached < {id(p) for p in encoder.parameters}
    assert not cached & {id(p) for p in decoder.parameters}


def test_wrong_sizes_and_states():
    with pytest.raises(ConfigError, match="variant 'd' only"):
        Config(variant="s", released=True)
    with pytest.raises(ConfigError, match="etr: wanted dim a multiple of num_heads, found 8, 3"):
        make(num_heads=3)
    matcher = make()
    with pytest.raises(ShapeError, match="etr: wanted states with tokens"):
        matcher.pair(ImageState({"tokens": torch.zeros(1, 4, 8)}), ImageState({"tokens": torch.zeros(1, 4, 8)}))
