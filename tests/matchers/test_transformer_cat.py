import numpy as np
import pytest
import torch

from reid.errors import ShapeError
from reid.matchers import _tokens
from reid.matchers.transformer_cat import Config, TransformerCat
from reid.types import ImageState
from tests.matchers.small_maps import build_on_maps, maps, score
from tests.reference.transformers import cat_score

SMALL = {"dim": 8, "num_layers": 2, "feedforward": 12}
VARIANTS = [{}, {"num_heads": 2, "position_embedding": True}, {"norm": "pre", "num_layers": 1}]


def build(options):
    return build_on_maps(TransformerCat, Config(**{**SMALL, **options}))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_score_equals_the_loops(options):
    matcher = build(options)
    query, gallery = maps(3, 0), maps(4, 1)
    weights = {name: w.numpy() for name, w in matcher.state_dict().items()}
    settings = {"heads": matcher.config.num_heads, "pre": matcher.config.norm == "pre"}
    wanted = cat_score(query.numpy(), gallery.numpy(), weights, **settings)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            found = score(matcher.train(mode), query, gallery).detach()
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_gradient_reaches_both_maps():
    matcher = build({"num_layers": 1})
    query, gallery = maps(1, 0).requires_grad_(), maps(2, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, g: score(matcher, q, g), (query, gallery))


def test_without_image_types_it_would_be_symmetric():
    matcher = build({})
    query, gallery = maps(3, 0), maps(4, 1)
    assert (score(matcher, query, gallery) - score(matcher, gallery, query).T).abs().max() > 1e-3
    with torch.no_grad():
        matcher.image_type.zero_()
    torch.testing.assert_close(score(matcher, query, gallery), score(matcher, gallery, query).T)


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
    with pytest.raises(ShapeError, match="transformer_cat: wanted states with tokens"):
        build({}).pair(ImageState({"tokens": torch.zeros(2, 12, 9)}), ImageState({"tokens": torch.zeros(2, 12, 9)}))
