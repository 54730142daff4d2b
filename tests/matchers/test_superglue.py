import numpy as np
import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.losses._base import LossSpec
from reid.losses.assignment import AssignmentLoss, assignment_labels
from reid.losses.assignment import Config as LossConfig
from reid.matchers.superglue import Config, SuperGlue
from reid.types import FeatureSpec, ImageState, Warp, Warps
from tests.reference import superglue

SPEC = FeatureSpec((64, 32), {16: (5, 4, 2)})
TINY = {"dim": 8, "num_heads": 2, "num_layers": 3, "train_iterations": 5, "eval_iterations": 8}


def make(features: FeatureSpec = SPEC, **options: object) -> SuperGlue:
    torch.manual_seed(0)
    matcher = SuperGlue(Config(**{**TINY, **options}), features).double()
    with torch.no_grad():
        for name, tensor in matcher.state_dict().items():  # batch norms that have seen something, biases that are not 0
            if name.endswith(("running_mean", "bias")):
                tensor.copy_(0.2 * torch.randn_like(tensor))
            elif name.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand_like(tensor))
    return matcher.eval()


def maps_of(num: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, 5, 4, 2, generator=generator, dtype=torch.float64).relu()


def encoded(matcher: SuperGlue, num: int, seed: int) -> ImageState:
    return matcher.encode(torch.zeros(num, 3, 64, 32), {16: maps_of(num, seed)})


def kinds_of(config: Config) -> list[str]:
    kinds = [("self", "cross")[i % 2] for i in range(config.num_layers)]
    return [kind for kind in kinds if kind == "self" or config.cross]


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "layer", "num_layers": 4, "num_heads": 4},
        {"position": False},
        {"cross": False},
        {"num_layers": 0},
        {"keypoints": "salient", "num_keypoints": 5},
        {"keypoints": "salient", "num_keypoints": 11},
    ],
)
def test_from_maps_to_scores_equals_the_loops(options):
    matcher = make(**options)
    config = matcher.config
    weights = {name: tensor.numpy() for name, tensor in matcher.state_dict().items()}
    num = config.num_keypoints
    sides = [superglue.encode(maps_of(1, seed)[0].numpy(), weights, 16, SPEC.image_size, num) for seed in (0, 1)]
    raw = superglue.matching_scores(*sides, weights, config.num_heads, kinds_of(config))
    dustbin = float(weights["dustbin"])
    mass = superglue.assignment(raw, dustbin, config.eval_iterations)
    wanted = superglue.pair_scores(mass, raw, *sides, dustbin, config.match_threshold)
    outputs = matcher.pair(encoded(matcher, 1, 0), encoded(matcher, 1, 1))
    real = [*range(len(raw)), outputs.log_assignment_NKK.shape[1] - 1]
    np.testing.assert_allclose(outputs.log_assignment_NKK[0].exp().numpy()[np.ix_(real, real)], mass, rtol=1e-6)
    np.testing.assert_allclose(outputs.query_point_NK2[0, real[:-1]], sides[0].points, rtol=1e-6)
    for name, value in wanted.items():
        assert getattr(outputs.scores, f"{name}_N").item() == pytest.approx(value, rel=1e-6)
    sums = np.concatenate([mass[:-1].sum(1), mass[:, :-1].sum(0)])
    assert outputs.marginal_error_N.item() == pytest.approx(abs(sums - 1).max(), rel=1e-5)


@torch.no_grad()
def test_the_logit_is_the_score_that_is_asked_for():
    matcher = make()
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 2, 1)
    untrained = matcher.pair(query, gallery)
    scores = untrained.scores
    torch.testing.assert_close(untrained.logit_N, scores.odds_N + 10 * scores.sim_N - 5)
    matcher.calibration.log_scale.fill_(np.log(2.0))
    matcher.calibration.weight.fill_(3.0)
    matcher.calibration.shift.fill_(-1.0)
    torch.testing.assert_close(matcher.pair(query, gallery).logit_N, 2 * scores.odds_N + 30 * scores.sim_N - 10)
    for name in ("mass", "sim", "ot", "count"):
        other = make(score=name)
        other.load_state_dict(matcher.state_dict(), strict=False)
        torch.testing.assert_close(other.pair(query, gallery).logit_N, getattr(scores, f"{name}_N"))
        assert other.calibration is None


@torch.no_grad()
def test_a_head_that_learns_alone_sees_what_it_will_see_in_use():
    matcher = make(train_iterations=1)
    matcher.final.weight.mul_(10)
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 2, 1)
    in_use = matcher.pair(query, gallery)
    matcher.calibration.train()
    matcher.training = True  # as a stage leaves a module of which a part learns
    torch.testing.assert_close(matcher.pair(query, gallery).scores.odds_N, in_use.scores.odds_N)
    matcher.final.train()
    assert (matcher.pair(query, gallery).scores.odds_N - in_use.scores.odds_N).abs().min() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"keypoints": "salient", "num_keypoints": 6}])
def test_the_order_of_keypoints_does_not_matter(options):
    matcher = make(**options)
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 2, 1)
    wanted = matcher.pair(query, gallery)
    orders = [torch.randperm(matcher.num_keypoints, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    moved = [
        ImageState({name: tensor[:, order] for name, tensor in state.tensors.items()})
        for state, order in zip((query, gallery), orders, strict=True)
    ]
    found = matcher.pair(*moved)
    torch.testing.assert_close(found.logit_N, wanted.logit_N)
    rows, columns = (torch.cat((order, torch.tensor([matcher.num_keypoints]))) for order in orders)
    torch.testing.assert_close(found.log_assignment_NKK, wanted.log_assignment_NKK[:, rows][:, :, columns])


@torch.no_grad()
@pytest.mark.parametrize("score", ["logit", "mass", "sim", "ot", "count"])
def test_swapping_the_images_transposes_the_assignment_also_before_it_has_converged(score):
    matcher = make(score=score, eval_iterations=1)
    matcher.final.weight.mul_(10)
    query, gallery = encoded(matcher, 3, 0), encoded(matcher, 3, 1)
    one, other = matcher.pair(query, gallery), matcher.pair(gallery, query)
    assert one.marginal_error_N.min() > 1e-3
    torch.testing.assert_close(other.log_assignment_NKK, one.log_assignment_NKK.transpose(1, 2))
    torch.testing.assert_close(other.logit_N, one.logit_N)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(norm, training):
    plain = make(keypoints="salient", num_keypoints=8, norm=norm).train(training)
    padded = make(keypoints="salient", num_keypoints=11, norm=norm).train(training)
    padded.load_state_dict(plain.state_dict())
    wanted = plain.pair(*(encoded(plain, 3, seed) for seed in (0, 1)))
    states = [encoded(padded, 3, seed) for seed in (0, 1)]
    for state in states:
        assert state["mask"].sum(1).tolist() == [8, 8, 8]
        for name in ("tokens", "descriptors", "points"):
            state[name][:, 8:] = 100 * torch.randn_like(state[name][:, 8:])
    found = padded.pair(*states)
    torch.testing.assert_close(found.logit_N, wanted.logit_N)
    real = [*range(8), 11]
    torch.testing.assert_close(found.log_assignment_NKK[:, real][:, :, real], wanted.log_assignment_NKK)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(padded.state_dict()[name], tensor)


@torch.no_grad()
@pytest.mark.parametrize("score", ["logit", "mass", "sim", "ot", "count"])
def test_an_image_without_keypoints_matches_nothing(score):
    matcher = make(score=score)
    query, gallery = encoded(matcher, 3, 0), encoded(matcher, 3, 1)
    wanted = matcher.pair(query, gallery).logit_N
    mask = torch.ones(3, 8, dtype=torch.bool)
    mask[1] = False
    bare = ImageState({**query.tensors, "mask": mask})
    for sides in ((bare, gallery), (gallery, bare), (bare, bare)):
        outputs = matcher.pair(*sides)
        assert outputs.logit_N.isfinite().all()
        assert outputs.logit_N[1] <= outputs.logit_N.min()
        assert score == "count" or outputs.logit_N[1] < outputs.logit_N[[0, 2]].min()
        assert len(matcher.correspond(*sides)[1].query_N2) == 0
    torch.testing.assert_close(matcher.pair(bare, gallery).logit_N[[0, 2]], wanted[[0, 2]])


@torch.no_grad()
def test_chunks_change_nothing():
    matcher = make()
    query, gallery = encoded(matcher, 7, 0), encoded(matcher, 7, 1)
    wanted, block = matcher.pair(query, gallery), matcher.score(query, gallery)
    matcher.pairs_per_chunk = 3
    found = matcher.pair(query, gallery)
    torch.testing.assert_close(found.log_assignment_NKK, wanted.log_assignment_NKK)
    torch.testing.assert_close(found.scores.ot_N, wanted.scores.ot_N)
    torch.testing.assert_close(matcher.score(query, gallery), block)
    torch.testing.assert_close(block.diagonal(), wanted.logit_N)
    assert matcher.pair(query[:0], gallery[:0]).logit_N.shape == (0,)


@torch.no_grad()
def test_an_image_matches_itself_where_descriptors_are_all_that_counts():
    matcher = make(num_layers=0, position=False, eval_iterations=200)
    matcher.final.weight.copy_(30 * torch.eye(8))
    matcher.final.bias.zero_()
    matcher.dustbin.fill_(100.0)
    state = encoded(matcher, 2, 0)
    for one in matcher.correspond(state, state):
        assert one.kind == "assignment"
        assert one.query_N2.dtype == one.confidence_N.dtype == torch.float32
        assert torch.equal(one.query_N2, one.gallery_N2)
        assert len(one.confidence_N) == 8
        assert ((one.confidence_N > 0.2) & (one.confidence_N <= 1.001)).all()


def test_it_has_the_published_number_of_parameters():
    features = FeatureSpec((480, 640), {16: (256, 30, 40)})
    matcher = SuperGlue(Config(dim=256, num_layers=18, score="mass"), features)

    def num(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert num(matcher.keypoints.position) == 110_336
    assert [num(layer) for layer in (*matcher.gnn.alone, *matcher.gnn.between)] == 18 * [658_176]
    assert num(matcher) - num(matcher.keypoints.project) == 12_023_297  # the published descriptors come from elsewhere


def test_what_it_offers():
    matcher = make()
    assert matcher.info.kind == "top_k"
    assert matcher.info.symmetric
    assert matcher.info.strides == (16,)
    assert matcher.info.has_correspondences
    state = encoded(matcher, 2, 0)
    assert state["points"][0].tolist() == [[8.0 + 16 * (i % 2), 8.0 + 16 * (i // 2)] for i in range(8)]
    assert state.stored("float16")["points"].dtype == torch.float32
    assert state.stored("float16")["tokens"].dtype == torch.float16
    torch.testing.assert_close(state["descriptors"].norm(dim=2), torch.ones(2, 8, dtype=torch.float64))
    outputs = matcher.pair(state, state)
    assert outputs.cell_px == 16
    assert make(keypoints="salient").pair(*2 * [encoded(make(keypoints="salient"), 1, 0)]).cell_px is None
    encoder, decoder, head = matcher.parameter_groups()
    assert {id(p) for p in head.parameters} == {id(p) for p in matcher.calibration.parameters()}
    assert any(p is matcher.gnn.alone[0].query.weight for p in encoder.parameters)
    assert any(p is matcher.dustbin for p in decoder.parameters)
    assert not list(make(cross=False).gnn.between)
    assert len(make(cross=False, num_layers=6).gnn.alone) == 3


def test_wrong_options_and_states():
    with pytest.raises(ConfigError, match="wanted dim a multiple of num_heads, found 8, 3"):
        make(num_heads=3)
    with pytest.raises(ConfigError, match="num_keypoints is for keypoints = 'salient'"):
        make(num_keypoints=5)
    with pytest.raises(ConfigError, match="stride 8"):
        make(stride=8)
    matcher = make()
    state = encoded(matcher, 2, 0)
    with pytest.raises(ShapeError, match=r"superglue: wanted states with tokens \[N, 8, 8\]"):
        matcher.pair(ImageState({"tokens": torch.zeros(2, 5, 8)}), state)


class Crowd:
    """Pairs of maps that show the same features, shifted, with noise: cells of the query lie elsewhere in the gallery.

    Features are few, and most occur in several cells: only what lies around a cell tells it from its doubles.
    """

    height, width, channels, kinds = 6, 4, 8, 12

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.features = torch.randn(self.kinds, self.channels, generator=torch.Generator().manual_seed(0))

    def draw(self, num: int) -> tuple[torch.Tensor, torch.Tensor, Warps]:
        big = (self.height + 2, self.width + 2)
        scene = self.features[torch.randint(self.kinds, (num, *big), generator=self.generator)].permute(0, 3, 1, 2)
        views, shifts = [], torch.randint(3, (2, num, 2), generator=self.generator)  # top left corners (x, y)
        for corner_N2 in shifts:
            crops = [
                m[:, y : y + self.height, x : x + self.width]
                for m, (x, y) in zip(scene, corner_N2.tolist(), strict=True)
            ]
            view = torch.stack(crops)
            views.append(view + 0.3 * torch.randn(view.shape, generator=self.generator))
        step = (shifts[0] - shifts[1]).float()
        return views[0], views[1], Warps(self.warp(step), self.warp(-step))

    def warp(self, step_N2: torch.Tensor) -> Warp:
        """Where the pixels of a view, four by four to a cell, lie in one that begins ``step`` cells before it."""
        y, x = torch.meshgrid(torch.arange(4.0 * self.height), torch.arange(4.0 * self.width), indexing="ij")
        place = torch.stack((x, y), 2) + 0.5 + 4 * step_N2[:, None, None]
        size = torch.tensor([4.0 * self.width, 4.0 * self.height])
        visible = ((place > 0) & (place < size)).all(3)
        return Warp(place, visible, torch.ones_like(visible))


def matched_share(matcher: SuperGlue, maps: tuple[torch.Tensor, torch.Tensor], warps: Warps) -> tuple[float, float]:
    """Share of true matches found: by the matcher, and by mutual nearest neighbours of the maps' own features."""
    image = torch.zeros(len(maps[0]), 3, 24, 16)
    outputs = matcher.pair(*(matcher.encode(image, {4: m}) for m in maps))
    labels = assignment_labels(outputs, warps, LossConfig())
    matched = labels.matched_NK
    unit = [torch.nn.functional.normalize(m.flatten(2), dim=1) for m in maps]
    guesses = (outputs.log_assignment_NKK[:, :-1, :-1], unit[0].transpose(1, 2) @ unit[1])
    first, second = (float((guess.argmax(2) == labels.gallery_idx_NK)[matched].float().mean()) for guess in guesses)
    return first, second


def test_trained_on_correspondences_it_beats_nearest_neighbours():
    torch.manual_seed(0)
    features = FeatureSpec((24, 16), {4: (Crowd.channels, Crowd.height, Crowd.width)})
    config = Config(stride=4, dim=32, num_layers=4, num_heads=2, score="mass", train_iterations=10)
    matcher, loss = SuperGlue(config, features), AssignmentLoss(LossConfig(), LossSpec(1, None))
    crowd, held_out = Crowd(1), Crowd(2)
    test_maps = held_out.draw(100)
    optimizer = torch.optim.Adam(matcher.parameters(), lr=3e-3)
    for _ in range(60):
        query, gallery, warps = crowd.draw(32)
        states = [matcher.encode(torch.zeros(32, 3, 24, 16), {4: m}) for m in (query, gallery)]
        value = loss(matcher.pair(*states), warps)
        optimizer.zero_grad()
        value.loss.backward()
        optimizer.step()
    with torch.no_grad():
        found, nearest = matched_share(matcher.eval(), test_maps[:2], test_maps[2])
    assert found > nearest + 0.15
