import numpy as np
import pytest
import torch

from reid.matchers.vit import Config, ViT
from reid.types import FeatureSpec
from tests.reference.transformers import vit_score

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})
IMAGE = torch.zeros(1, 3, 96, 32)
SMALL = {"dim": 8, "num_layers": 2, "feedforward": 12}
VARIANTS = [{}, {"pooling": "max", "num_heads": 2}, {"norm": "post", "position_embedding": True, "num_layers": 1}]


def build(options):
    torch.manual_seed(0)
    matcher = ViT(Config(**{**SMALL, **options}), SPEC).double()
    with torch.no_grad():  # norms and biases that are not at their start
        for parameter in matcher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        matcher.score_norm.bn.running_mean.fill_(3.0)
        matcher.score_norm.bn.running_var.fill_(2.0)
    return matcher.eval()


def maps(num, seed):
    return torch.randn(num, 8, 6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(matcher, query, gallery):
    return matcher.score(*(matcher.encode(IMAGE, {16: map_}) for map_ in (query, gallery)))


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
