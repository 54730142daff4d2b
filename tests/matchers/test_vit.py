import numpy as np
import pytest
import torch

from reid.matchers.vit import Config, ViT
from tests.matchers.small_maps import IMAGE, build_on_maps, maps, score
from tests.reference.transformers import vit_score

SMALL = {"dim": 8, "num_layers": 2, "feedforward": 12}
VARIANTS = [{}, {"pooling": "max", "num_heads": 2}, {"norm": "post", "position_embedding": True, "num_layers": 1}]


def build(options):
    return build_on_maps(ViT, Config(**{**SMALL, **options}))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_score_equals_the_loops(options, training):
    matcher = build(options)
    query, gallery = maps(3, 0), maps(4, 1)
    weights = {name: w.numpy().copy() for name, w in matcher.state_dict().items()}
    settings = {"heads": matcher.config.num_heads, "pre": matcher.config.norm == "pre"}
    wanted = vit_score(
        query.numpy(), gallery.numpy(), weights, **settings, pooling=matcher.config.pooling, training=training
    )
    matcher.train(training)
    for with_grad in (True, False):
        with torch.set_grad_enabled(with_grad):
            np.testing.assert_allclose(score(matcher, query, gallery).detach(), wanted, rtol=1e-9, atol=1e-9)


def test_gradient_reaches_the_map_in_training():
    matcher = build({"num_layers": 1}).train()
    query, gallery = maps(2, 0).requires_grad_(), maps(2, 1)
    assert torch.autograd.gradcheck(lambda x: score(matcher, x, gallery), query)


def test_published_widths():
    config = Config()
    assert (config.dim, config.feedforward, config.num_layers) == (512, 2048, 3)


def test_info_names_the_field_and_its_dimension():
    matcher = build({})
    state = matcher.encode(IMAGE, {16: maps(3, 0)})
    assert (matcher.info.kind, matcher.info.embedding_dim) == ("embedding", 8)
    assert state["embedding"].shape == (3, 8)


def test_scores_keep_the_order_of_dot_products():
    matcher = build({})
    query, gallery = maps(2, 0), maps(9, 1)
    a, b = (matcher.encode(IMAGE, {16: map_})["embedding"] for map_ in (query, gallery))
    with torch.no_grad():
        matcher.score_norm.log_scale.fill_(-2.0)  # e^-2: a negative parameter does not turn the order
    assert torch.equal(score(matcher, query, gallery).argsort(1), (a @ b.T).argsort(1))
