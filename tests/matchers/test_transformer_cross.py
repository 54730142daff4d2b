import numpy as np
import pytest
import torch

from reid.errors import ShapeError
from reid.matchers import _tokens
from reid.matchers.transformer_cross import Config, TransformerCross
from reid.types import ImageState
from tests.matchers.small_maps import IMAGE, build_on_maps, maps, score
from tests.reference.transformers import cross_score

SMALL = {"dim": 8, "num_layers": 2, "feedforward": 12}
VARIANTS = [
    {},
    {"symmetric": True, "num_heads": 2},
    {"norm": "pre", "position_embedding": True, "num_layers": 3},
]


def build(options):
    return build_on_maps(TransformerCross, Config(**{**SMALL, **options}))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_score_equals_the_loops(options):
    matcher = build(options)
    query, gallery = maps(3, 0), maps(4, 1)
    weights = {name: w.numpy() for name, w in matcher.state_dict().items()}
    settings = {"heads": matcher.config.num_heads, "pre": matcher.config.norm == "pre"}
    wanted = cross_score(query.numpy(), gallery.numpy(), weights, **settings, symmetric=matcher.config.symmetric)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            found = score(matcher.train(mode), query, gallery).detach()
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradient_reaches_both_maps(symmetric):
    matcher = build({"num_layers": 1, "symmetric": symmetric})
    query, gallery = maps(1, 0).requires_grad_(), maps(2, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, g: score(matcher, q, g), (query, gallery))


def test_symmetric_is_the_mean_of_both_directions():
    query, gallery = maps(3, 0), maps(4, 1)
    one_way, both = build({}), build({"symmetric": True})
    assert (one_way.info.symmetric, both.info.symmetric) == (False, True)
    wanted = (score(one_way, query, gallery) + score(one_way, gallery, query).T) / 2
    torch.testing.assert_close(score(both, query, gallery), wanted)


def test_what_depends_on_one_image_is_not_computed_for_pairs():
    """The first self-attention runs in encode; a pair goes through the others only."""
    matcher = build({"num_layers": 3})
    calls = []
    for name, module in matcher.decoder.named_modules():
        if name.endswith("self_attn"):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    state = matcher.encode(IMAGE, {16: maps(2, 0)})
    assert calls == ["first.self_attn"]
    matcher.pair(state, state)
    assert calls[1:] == ["others.0.self_attn", "others.1.self_attn"]


@torch.no_grad()
def test_chunks_of_pairs_change_nothing(monkeypatch):
    matcher = build({})
    query, gallery = maps(3, 0), maps(4, 1)
    whole = score(matcher, query, gallery)
    for limit in (1, 40_000):
        monkeypatch.setattr(_tokens, "TEMPORARY_BYTES", limit)
        torch.testing.assert_close(score(matcher, query, gallery), whole)


def test_published_widths():
    config = Config()
    assert (config.dim, config.feedforward, config.num_layers) == (128, 512, 2)


def test_state_of_another_matcher():
    state = ImageState({"tokens": torch.zeros(2, 12, 8)})
    with pytest.raises(ShapeError, match="transformer_cross: wanted states with memory"):
        build({}).pair(state, state)
