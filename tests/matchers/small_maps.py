"""What the tests of the Transformer baselines share: a small map, and matchers on it away from their start."""

import torch

from reid.types import FeatureSpec

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})
IMAGE = torch.zeros(1, 3, 96, 32)


def build_on_maps(matcher_class, config):
    """In float64 and eval mode; weights, norms and biases are not what they start with."""
    torch.manual_seed(0)
    matcher = matcher_class(config, SPEC).double()
    with torch.no_grad():
        for parameter in matcher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        if hasattr(matcher, "score_norm"):
            matcher.score_norm.bn.running_mean.fill_(3.0)
            matcher.score_norm.bn.running_var.fill_(2.0)
    return matcher.eval()


def maps(num, seed):
    return torch.randn(num, 8, 6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(matcher, query, gallery):
    return matcher.score(*(matcher.encode(IMAGE, {16: map_}) for map_ in (query, gallery)))
