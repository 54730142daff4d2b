import numpy as np
import pytest
import torch

from reid.errors import ConfigError
from reid.losses._base import LossSpec
from reid.losses.dense_warp import Config as LossConfig
from reid.losses.dense_warp import DenseWarpLoss
from reid.matchers._dense import DenseOutputs
from reid.matchers._roma_decoder import AnchorGrid, CoarseConfig, CoarseMatcher
from reid.types import Warp, Warps
from tests.reference import roma

TINY = {"stride": 8, "dim": 6, "gp_dim": 4, "num_blocks": 2, "num_heads": 2, "feedforward": 7}


def make(image_size: tuple[int, int] = (24, 16), **options: object) -> CoarseMatcher:
    torch.manual_seed(0)
    config = CoarseConfig(name="roma", **{**TINY, **options})
    return CoarseMatcher(config, image_size, (image_size[0] // 8, image_size[1] // 8)).double().eval()


def features(num: int, cells: int, seed: int, channels: int = 6) -> torch.Tensor:
    return torch.randn(num, cells, channels, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"num_heads": 5, "num_blocks": 1}, {"temperature": 0.5, "noise": 0.3}])
def test_it_equals_the_loops(options):
    matcher = make(**options)
    own, other = features(2, 6, 0), features(2, 6, 1)
    found = matcher(own, other, matcher.weights(other))
    (step,) = found.steps
    weights = {name: tensor.numpy() for name, tensor in matcher.state_dict().items()}
    settings = {"temperature": 0.2, "noise": 0.1, "heads": options.get("num_heads", 2), **options}
    for n in range(2):
        wanted = roma.coarse(own[n].numpy(), other[n].numpy(), (3, 2), weights, settings)
        logits = found.anchor_logit_NAHW[n].flatten(1).T.numpy()
        np.testing.assert_allclose(logits, wanted[:, :-1], rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(step.certainty_NHW[n].flatten().numpy(), wanted[:, -1], rtol=1e-8, atol=1e-10)
        places = [roma.decode(row, 3, 2, 8.0) for row in wanted[:, :-1]]
        np.testing.assert_allclose(step.warp_NHW2[n].flatten(0, 1).numpy(), places, rtol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("head", ["anchors", "regression"])
def test_cells_in_another_order_give_the_same_in_that_order(head):
    matcher = make(head=head)
    own, other = features(2, 6, 0), features(2, 6, 1)
    order = [4, 0, 5, 2, 1, 3]
    wanted = matcher(own, other, matcher.weights(other)).finest
    found = matcher(own[:, order], other, matcher.weights(other)).finest
    torch.testing.assert_close(found.warp_NHW2.flatten(1, 2), wanted.warp_NHW2.flatten(1, 2)[:, order])
    torch.testing.assert_close(found.certainty_NHW.flatten(1), wanted.certainty_NHW.flatten(1)[:, order])


@torch.no_grad()
def test_a_regression_of_nothing_is_the_middle():
    matcher = make(head="regression")
    for parameter in matcher.to_out.parameters():
        parameter.zero_()
    found = matcher(features(1, 6, 0), features(1, 6, 1), matcher.weights(features(1, 6, 1)))
    assert found.anchor_logit_NAHW is None
    assert found.finest.warp_NHW2.flatten(0, 2).unique(dim=0).tolist() == [[8.0, 12.0]]
    matcher.to_out.bias.copy_(torch.tensor([1.0, -1.0, 0.0]))
    found = matcher(features(1, 6, 0), features(1, 6, 1), matcher.weights(features(1, 6, 1)))
    assert found.finest.warp_NHW2.flatten(0, 2).unique(dim=0).tolist() == [[16.0, 0.0]]


@pytest.mark.parametrize(
    ("image_size", "anchor_px", "grid"),
    [((128, 64), 8, (16, 8)), ((384, 128), 8, (48, 16)), ((560, 560), 8.75, (64, 64)), ((128, 64), 16, (8, 4))],
)
def test_anchors_are_square_tiles_of_the_image(image_size, anchor_px, grid):
    centre = AnchorGrid(image_size, anchor_px).centre_A2
    wanted = roma.anchors(*image_size, anchor_px)
    assert len(centre) == grid[0] * grid[1]
    np.testing.assert_allclose(centre.numpy(), wanted, rtol=1e-6)


def test_tiles_that_do_not_fill_the_image_are_refused():
    with pytest.raises(ConfigError, match="found 128 x 60 and 8"):
        AnchorGrid((128, 60), 8)


def logits(shares: dict[tuple[int, int], float], rows: int = 4, columns: int = 3) -> torch.Tensor:
    share = torch.full((rows, columns), 1e-12, dtype=torch.float64)
    for place, value in shares.items():
        share[place] = value
    return share.flatten().log()[None, None]


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({(1, 1): 1.0}, (12, 12)),
        ({(1, 1): 0.6, (1, 2): 0.4}, (12 + 0.4 * 8, 12)),
        ({(1, 1): 0.6, (2, 1): 0.2, (0, 1): 0.1, (1, 0): 0.1}, (12 - 0.1 * 8, 12 + 0.1 * 8)),
        ({(1, 1): 0.5, (3, 1): 0.3, (2, 2): 0.2}, (12, 12)),  # neither far away nor diagonal
        ({(1, 2): 0.6, (2, 0): 0.4}, (20, 12)),  # a row's end, and the start of the next: no neighbours
        ({(2, 0): 0.6, (1, 2): 0.4}, (4, 20)),
        ({(0, 0): 0.5, (0, 1): 0.25, (1, 0): 0.25}, (6, 6)),  # in the corner, which counts once
        ({(3, 2): 0.8, (3, 1): 0.2}, (20 - 0.2 * 8, 28)),
    ],
)
def test_decoding_by_hand(shares, wanted):
    found = AnchorGrid((32, 24), 8).double().decode(logits(shares))
    assert found.flatten().tolist() == pytest.approx(wanted, abs=1e-6)


def test_decoding_equals_the_loops_and_has_no_gradient():
    logit = (3 * features(2, 5, 0, channels=12)).requires_grad_()
    found = AnchorGrid((32, 24), 8).double().decode(logit)
    assert not found.requires_grad
    for n in range(2):
        for s in range(5):
            wanted = roma.decode(logit[n, s].detach().numpy(), 4, 3, 8.0)
            np.testing.assert_allclose(found[n, s].numpy(), wanted, rtol=1e-12)


def test_heads_must_share_the_channels():
    with pytest.raises(ConfigError, match=r"dim \+ gp_dim a multiple of num_heads, found 10, 3"):
        make(num_heads=3)


class TwoPlaces:
    """Images of 4 x 4 cells; a patch of the first is at two places of the second, opposite each other."""

    def __init__(self, num: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.other = torch.randn(num, 16, 12, generator=generator)
        self.first = torch.randint(8, (num,), generator=generator)
        self.second = 15 - self.first
        rows = torch.arange(num)
        self.other[rows, self.second] = self.other[rows, self.first]
        self.order = torch.stack([torch.randperm(16, generator=generator) for _ in range(num)])
        self.own = self.other.gather(1, self.order[..., None].expand(-1, -1, 12))
        self.own += 0.02 * torch.randn(num, 16, 12, generator=generator)

    def truth(self, place: torch.Tensor) -> Warp:
        """Where each cell lies, if the patch is meant to lie at ``place``."""
        twice = (self.order == self.first[:, None]) | (self.order == self.second[:, None])
        at = torch.where(twice, place[:, None], self.order)
        position = torch.stack((at % 4 * 8 + 4.0, at // 4 * 8 + 4.0), dim=2).unflatten(1, (4, 4))
        position = position.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
        everywhere = torch.ones(position.shape[:3], dtype=torch.bool)
        return Warp(position, everywhere, everywhere)


def trained(head: str) -> CoarseMatcher:
    """On the two places in turn, equally often."""
    options = {"dim": 12, "gp_dim": 36, "num_blocks": 1, "num_heads": 2, "feedforward": 64, "head": head}
    matcher = make((32, 32), **options).float().train()
    loss = DenseWarpLoss(LossConfig(), LossSpec(1, None))
    optimizer = torch.optim.Adam(matcher.parameters(), lr=0.006)
    for step in range(150):
        toy = TwoPlaces(16, step)
        found = matcher(toy.own, toy.other, matcher.weights(toy.other))
        anchor = None if matcher.anchors is None else matcher.anchors.centre_A2
        value = loss(
            DenseOutputs(torch.zeros(16), found, found, anchor), Warps(toy.truth(toy.first), toy.truth(toy.second))
        )
        optimizer.zero_grad()
        value.loss.backward()
        optimizer.step()
    return matcher.eval()


def test_anchors_keep_two_places_apart_where_a_regression_returns_the_middle():
    toy = TwoPlaces(100, 1000)
    rows = torch.arange(100)
    cell = (toy.order == toy.first[:, None]).float().argmax(1)
    places = torch.stack([torch.stack((at % 4, at // 4), dim=1) * 8 + 4.0 for at in (toy.first, toy.second)])
    apart = torch.linalg.vector_norm(places[0] - places[1], dim=1)
    anchors, regression = trained("anchors"), trained("regression")
    with torch.no_grad():
        share = anchors(toy.own, toy.other, anchors.weights(toy.other)).anchor_logit_NAHW.softmax(1).flatten(2)
        warp = regression(toy.own, toy.other, regression.weights(toy.other)).finest.warp_NHW2.flatten(1, 2)
    for at in (toy.first, toy.second):
        assert share[rows, at, cell].median() > 0.4
        assert share[rows, at, cell].quantile(0.05) > 0.3
    found = warp[rows, cell]
    middle = torch.linalg.vector_norm(found - places.mean(0), dim=1) / apart
    nearest = torch.linalg.vector_norm(found - places, dim=2).min(0).values / apart
    assert middle.median() < 0.1  # shares of the distance between the places
    assert nearest.median() > 0.4
    other_cell = (toy.order == (toy.first[:, None] + 1) % 8).float().argmax(1)  # one that is there but once
    there = toy.order[rows, other_cell]
    assert share[rows, there, other_cell].median() > 0.7


@torch.no_grad()
def test_in_half_precision_logits_are_not_rounded():
    matcher = make().float()
    own, other = features(2, 6, 0).float(), features(2, 6, 1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logit = matcher(own, other, matcher.weights(other)).anchor_logit_NAHW
    assert logit.dtype == torch.float32
    assert (logit != logit.bfloat16().float()).float().mean() > 0.9
    wanted = matcher(own, other, matcher.weights(other)).anchor_logit_NAHW
    torch.testing.assert_close(logit, wanted, atol=0.05, rtol=0.05)
