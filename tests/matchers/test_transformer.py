import numpy as np
import pytest
import torch

from reid.matchers.transformer import Config, Transformer
from tests.matchers.small_maps import IMAGE, build_on_maps, maps, score
from tests.reference.transformers import transformer_score

SMALL = {"dim": 8, "num_layers": 2, "feedforward": 12}
VARIANTS = [{}, {"num_queries": 3, "num_heads": 2}, {"norm": "pre", "position_embedding": True, "num_layers": 3}]


def build(options):
    return build_on_maps(Transformer, Config(**{**SMALL, **options}))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_score_equals_the_loops(options, training):
    matcher = build(options)
    query, gallery = maps(3, 0), maps(4, 1)
    weights = {name: w.numpy().copy() for name, w in matcher.state_dict().items()}
    settings = {"heads": matcher.config.num_heads, "pre": matcher.config.norm == "pre"}
    wanted = transformer_score(query.numpy(), gallery.numpy(), weights, **settings, training=training)
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
    assert (config.dim, config.feedforward, config.num_layers, config.num_queries) == (512, 2048, 3, 1)


def test_outputs_of_all_queries_are_joined():
    matcher = build({"num_queries": 3})
    assert matcher.info.embedding_dim == 24
    assert matcher.encode(IMAGE, {16: maps(5, 0)})["embedding"].shape == (5, 24)


def test_positions_of_the_map_may_be_permuted_after_the_neck():
    """Attention to a memory without position embedding is a sum over its positions."""
    matcher = build({})
    memory = torch.randn(2, 12, 8, dtype=torch.float64)
    begun = matcher.decoder.begin(matcher.queries.expand(2, -1, -1))
    shuffled = memory[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(matcher.decoder(begun, shuffled), matcher.decoder(begun, memory))
