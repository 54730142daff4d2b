"""What every matcher promises (see ``reid/matchers/_base.py``), for every file of the folder."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file, save_file

import reid.matchers
from reid.errors import ShapeError
from reid.losses import assignment, attention, dense_warp, identity_triplet, pair_bce, pairwise, triplet
from reid.losses._base import CorrespondenceLoss, Loss, LossSpec, LossValue, PairLoss
from reid.matchers._base import Matcher, MatcherConfig
from reid.matchers.roma import RoMa
from reid.matchers.superglue import SuperGlue
from reid.types import FeatureSpec, ImageState, Warp, Warps

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})
NAMES = sorted(p.stem for p in Path(reid.matchers.__file__).parent.glob("*.py") if not p.stem.startswith("_"))

ROMA: dict[str, object] = {
    "dim": 8,
    "gp_dim": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "feedforward": 16,
    "fine_channels": [4, 4, 6, 8],
    "refiners": [
        {"stride": 8, "dim": 6, "displacement": 4, "radius": 1, "num_blocks": 1},
        {"stride": 4, "dim": 4, "displacement": 4, "radius": 0, "num_blocks": 1},
    ],
}
ROMA_DKM: dict[str, object] = {
    **ROMA,
    "head": "regression",
    "score": "certainty_sim",
    "refiners": [
        {"stride": 16, "dim": 8, "displacement": 4, "radius": 1, "num_blocks": 1},
        {"stride": 8, "dim": 6, "displacement": 4, "radius": 0, "num_blocks": 1},
    ],
}

SUPERGLUE: dict[str, object] = {"dim": 16, "num_heads": 2, "train_iterations": 5, "eval_iterations": 10}

SMALL: dict[str, list[dict[str, object]]] = {
    "color_histogram": [{}],
    "embedding": [{}, {"pooling": "gem", "neck_dim": 6}],
    "etr": [
        {"dim": 16, "num_heads": 2, "num_blocks": 2, "feedforward": 24, "row_embedding": True, "num_locals": 14},
        {"dim": 16, "num_heads": 2, "num_blocks": 2, "feedforward": 24, "num_locals": 7, "attention_hidden": 6},
        {"dim": 16, "num_heads": 2, "feedforward": 24, "num_locals": 14, "released": True},
        {"dim": 16, "num_heads": 2, "feedforward": 24, "variant": "s"},
    ],
    "qaconv": [{"dim": 16}, {"dim": 16, "neck_statistics": "batch"}],
    "rrt": [
        {"dim": 16, "num_heads": 2, "num_layers": 2, "feedforward": 24, "row_embedding": True, "num_locals": 14},
        {"dim": 16, "num_heads": 2, "num_layers": 2, "feedforward": 24, "num_locals": 7, "attention_hidden": 6},
    ],
    "roma": [ROMA, ROMA_DKM],
    "superglue": [
        {**SUPERGLUE, "num_layers": 4},
        {**SUPERGLUE, "num_layers": 3, "norm": "layer", "keypoints": "salient", "num_keypoints": 14},
        {**SUPERGLUE, "num_layers": 2, "score": "sim"},
    ],
    "transmatcher": [
        {"dim": 16, "num_layers": 3, "feedforward": 24, "decoder_feedforward": 32},
        {"dim": 16, "num_layers": 2, "feedforward": 24, "decoder_feedforward": 32, "symmetric_embed": True},
        {"dim": 16, "num_layers": 2, "feedforward": 24, "decoder_feedforward": 32, "pool": "mean"},
        {"dim": 16, "num_layers": 2, "feedforward": 24, "decoder_feedforward": 32, "pool": "softmax"},
        {"dim": 16, "num_layers": 2, "feedforward": 24, "decoder_feedforward": 32, "score_embedding": False},
        {"dim": 16, "num_layers": 2, "decoder_feedforward": 32, "encoder": False, "position_embedding": True},
    ],
    "transformer": [
        {"dim": 16, "num_layers": 2, "feedforward": 24},
        {"dim": 16, "num_layers": 1, "feedforward": 24, "num_queries": 3, "num_heads": 2, "norm": "pre"},
    ],
    "transformer_cat": [
        {"dim": 16, "num_layers": 2, "feedforward": 24},
        {"dim": 16, "num_layers": 1, "feedforward": 24, "norm": "pre", "position_embedding": True},
    ],
    "transformer_cross": [
        {"dim": 16, "num_layers": 2, "feedforward": 24},
        {"dim": 16, "num_layers": 1, "feedforward": 24, "symmetric": True, "norm": "pre"},
    ],
    "vit": [
        {"dim": 16, "num_layers": 2, "feedforward": 24},
        {"dim": 16, "num_layers": 1, "feedforward": 24, "pooling": "max", "norm": "post", "position_embedding": True},
    ],
}
"""Configs that are quick to test; a new matcher adds its own."""


def test_every_matcher_is_tested():
    assert sorted(SMALL) == NAMES


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"reid.matchers.{name}")


def inputs(num: int, seed: int) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    height, width = SPEC.image_size
    stripes = torch.rand(num, 3, 6, 1, generator=generator).repeat_interleave(height // 6, dim=2)  # clothes of a colour
    image = 0.8 * stripes + 0.2 * torch.rand(num, 3, height, width, generator=generator)
    # A map per image that is partly its own and partly common to all, as real ones are.
    common = torch.randn(1, 8, 6, 2, generator=torch.Generator().manual_seed(99))
    return image, {16: (common + torch.randn(num, 8, 6, 2, generator=generator)).relu()}


CASES = {f"{name}-{i}": (name, options) for name in SMALL for i, options in enumerate(SMALL[name])}


@pytest.fixture(params=CASES.values(), ids=CASES)
def matcher(request) -> Matcher:
    """In eval mode, with batch norms that have seen data."""
    name, options = request.param
    module = module_of(name)
    config: MatcherConfig = module.Config(**options)
    torch.manual_seed(0)
    matcher: Matcher = module.COMPONENT(config, SPEC)
    matcher.train()
    with torch.no_grad():
        for seed in range(20):
            state = matcher.encode(*inputs(6, seed))
            matcher.score(state, state)
    return matcher.eval()


@torch.no_grad()
def encoded(matcher: Matcher, num: int, seed: int) -> ImageState:
    return matcher.encode(*inputs(num, seed))


def assert_same_scores(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.dtype == wanted.dtype == torch.float32
    # scores that differ little from each other cannot be told apart more finely than float32 resolves them
    resolution = 8 * torch.finfo(torch.float32).eps * float(wanted.abs().max())
    assert float((found - wanted).abs().max()) <= max(1e-5 * float(wanted.std()), resolution)


class Joint(torch.nn.Module):
    """A loss on pairs beside that of the attention which chooses their local features."""

    def __init__(self, pairs: PairLoss, auxiliary: attention.AttentionLoss) -> None:
        super().__init__()
        self.pairs = pairs
        self.auxiliary = auxiliary


class Located(torch.nn.Module):
    """A loss on pairs beside one on where they match."""

    def __init__(self, pairs: PairLoss, places: CorrespondenceLoss) -> None:
        super().__init__()
        self.pairs = pairs
        self.places = places


def moved(num: int) -> Warps:
    """The truth about pairs whose second image shows the first one 3 px further right and 9 px further down."""
    height, width = SPEC.image_size
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")

    def warp(sign: int) -> Warp:
        position = torch.stack((x + 3 * sign, y + 9 * sign), dim=2).expand(num, -1, -1, -1)
        visible = ((position > 0) & (position < torch.tensor([width, height]))).all(3)
        return Warp(position, visible, torch.ones_like(visible))

    return Warps(warp(1), warp(-1))


def losses_for(matcher: Matcher, state: ImageState) -> list[Loss | PairLoss | Joint | Located]:
    """Those that the matcher is trained with."""
    spec = LossSpec(4, matcher.info.embedding_dim, matcher.info.attended_dim)
    if matcher.info.attended_dim is not None:
        auxiliary = attention.COMPONENT(attention.Config(), spec)
        return [Joint(pair_bce.COMPONENT(pair_bce.Config(), spec), auxiliary)]
    if isinstance(matcher, RoMa):
        places = dense_warp.COMPONENT(dense_warp.Config(), spec)
        return [Located(pair_bce.COMPONENT(pair_bce.Config(), spec), places)]
    if isinstance(matcher, SuperGlue) and matcher.calibration is None:  # without it, identities teach nothing
        places = assignment.COMPONENT(assignment.Config(), spec)
        return [Located(pair_bce.COMPONENT(pair_bce.Config(), spec), places)]
    if matcher.info.kind == "top_k":
        return [pair_bce.COMPONENT(pair_bce.Config(), spec)]
    if "pooled" in state.tensors:  # a metric loss and an identity loss read the embedding itself
        return [identity_triplet.COMPONENT(identity_triplet.Config(), spec)]
    return [pairwise.COMPONENT(pairwise.Config(), spec), triplet.COMPONENT(triplet.Config(), spec)]


def loss_of(
    loss: Loss | PairLoss | Joint | Located, matcher: Matcher, state: ImageState, label: torch.Tensor
) -> LossValue:
    """Of all pairs of a batch; fails where a score is not float32."""
    if isinstance(loss, Joint):
        value = loss_of(loss.pairs, matcher, state, label)
        return LossValue(value.loss + loss.auxiliary(state, label).loss, value.accuracy)
    if isinstance(loss, PairLoss | Located):
        q, g = torch.cartesian_prod(torch.arange(len(label)), torch.arange(len(label))).unbind(1)
        outputs = matcher.pair(state[q], state[g])
        assert outputs.logit_N.dtype == torch.float32
        if isinstance(loss, PairLoss):
            return loss(outputs, label[q] == label[g])
        value = loss.places(outputs, moved(len(q)))
        return LossValue(value.loss + loss.pairs(outputs, label[q] == label[g]).loss, value.accuracy)
    score = matcher.score(state, state)
    assert score.dtype == torch.float32
    return loss(state, score, label)


@torch.no_grad()
def test_block_is_pairs_is_one_by_one(matcher):
    query, gallery = encoded(matcher, 5, 100), encoded(matcher, 7, 101)
    block = matcher.score(query, gallery)
    assert block.shape == (5, 7)
    q, g = torch.cartesian_prod(torch.arange(5), torch.arange(7)).unbind(1)
    assert_same_scores(matcher.pair(query[q], gallery[g]).logit_N.view(5, 7), block)
    one_by_one = [matcher.score(query[[i]], gallery[[j]]) for i in range(5) for j in range(7)]
    assert_same_scores(torch.cat(one_by_one).view(5, 7), block)
    assert_same_scores(Matcher.score(matcher, query, gallery), block)
    assert_same_scores(matcher.score(query[1:4], gallery[2:5]), block[1:4, 2:5])


@torch.no_grad()
def test_batch_composition_changes_nothing(matcher):
    image, maps = inputs(6, 100)
    together = matcher.encode(image, maps)
    alone = [matcher.encode(image[[i]], {16: maps[16][[i]]}) for i in range(6)]
    gallery = encoded(matcher, 4, 101)
    assert_same_scores(matcher.score(ImageState.cat(alone), gallery), matcher.score(together, gallery))


@torch.no_grad()
def test_no_hidden_state(matcher):
    before = {name: value.clone() for name, value in matcher.state_dict().items()}
    query, gallery = encoded(matcher, 3, 100), encoded(matcher, 4, 101)
    first = matcher.score(query, gallery)
    encoded(matcher, 5, 102)
    matcher.score(gallery, query)
    assert torch.equal(matcher.score(query, gallery), first)
    assert all(torch.equal(value, before[name]) for name, value in matcher.state_dict().items())


@torch.no_grad()
def test_declared_symmetry_is_true(matcher):
    a, b = encoded(matcher, 5, 100), encoded(matcher, 6, 101)
    if matcher.info.symmetric:
        assert_same_scores(matcher.score(b, a).T, matcher.score(a, b))
    else:
        difference = (matcher.score(b, a).T - matcher.score(a, b)).abs().max()
        assert difference > 1e-4, "symmetric in effect: declare it"


@torch.no_grad()
def test_save_and_load(matcher, tmp_path):
    save_file(matcher.state_dict(), tmp_path / "matcher.safetensors")
    torch.manual_seed(1)
    again = type(matcher)(matcher.config, SPEC).eval()
    again.load_state_dict(load_file(tmp_path / "matcher.safetensors"))
    query, gallery = encoded(matcher, 3, 100), encoded(matcher, 4, 101)
    loaded = again.score(encoded(again, 3, 100), encoded(again, 4, 101))
    assert torch.equal(loaded, matcher.score(query, gallery))


def spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    ranks = torch.stack([x.flatten().argsort().argsort().double() for x in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


@torch.no_grad()
def test_stored_states_keep_the_ranking(matcher):
    query, gallery = encoded(matcher, 12, 100), encoded(matcher, 15, 101)
    wanted = matcher.score(query, gallery)
    found = matcher.score(query.stored("float16"), gallery.stored("float16"))
    assert found.dtype == torch.float32
    assert spearman(found, wanted) >= 0.999
    coarse = matcher.score(query.stored("bfloat16"), gallery.stored("bfloat16"))
    assert coarse.dtype == torch.float32
    assert spearman(coarse, wanted) >= 0.99  # of a small untrained matcher; a trained one's is 0.99999


@torch.no_grad()
def test_states_can_be_split_stored_and_stripped(matcher):
    state = encoded(matcher, 5, 100)
    assert len(state) == 5
    assert set(state.fields) <= set(state.tensors)
    rejoined = ImageState.cat(list(state.split(2)))
    assert all(torch.equal(rejoined[name], state[name]) for name in state.tensors)
    kept = [name for name in state.tensors if name not in state.fields or state.fields[name].cached]
    stripped = ImageState({name: state[name] for name in kept}, {n: f for n, f in state.fields.items() if n in kept})
    assert torch.equal(matcher.score(stripped, stripped), matcher.score(state, state))
    for name, tensor in state.stored().tensors.items():
        if name in state.fields and tensor.is_floating_point():
            assert tensor.dtype == (torch.bfloat16 if state.fields[name].bears_halving else torch.float32)


def test_parameter_groups_hold_every_parameter_once(matcher):
    grouped = [parameter for group in matcher.parameter_groups() for parameter in group.parameters]
    assert len({id(p) for p in grouped}) == len(grouped)
    assert {id(p) for p in grouped} == {id(p) for p in matcher.parameters()}


@pytest.mark.parametrize("autocast", [False, True])
def test_every_parameter_gets_a_finite_gradient_through_its_loss(matcher, autocast):
    label = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    parameters = dict(matcher.named_parameters())
    for loss in losses_for(matcher, encoded(matcher, 1, 100)) if parameters else []:
        matcher.train()
        matcher.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = loss_of(loss, matcher, matcher.encode(*inputs(8, 100)), label)
        assert value.loss is not None
        value.loss.backward()
        for name, parameter in parameters.items():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        moved = sum(bool(p.grad.abs().max() > 0) for p in parameters.values())
        assert moved >= 0.7 * len(parameters)  # biases before a batch norm have none by construction


def test_training_lowers_the_loss(matcher):
    if not list(matcher.parameters()):
        pytest.skip("nothing to train")
    top_k = matcher.info.kind == "top_k"  # attention over pairs learns the share of matches first, then, slowly, pairs
    num_images, rate, num_steps, target = (4, 0.003, 400, 0.6) if top_k else (8, 0.01, 15, 0.8)
    label = torch.arange(num_images // 2).repeat_interleave(2)
    loss = losses_for(matcher, encoded(matcher, 1, 100))[0]
    matcher.train()
    optimizer = torch.optim.Adam([*matcher.parameters(), *loss.parameters()], lr=rate)
    values = []
    for _ in range(num_steps):
        value = loss_of(loss, matcher, matcher.encode(*inputs(num_images, 100)), label).loss
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
        if top_k and values[-1] < target * values[0]:
            break
    assert values[-1] < target * values[0]


@torch.no_grad()
def test_nan_stays_with_its_image(matcher):
    if not matcher.info.strides:
        pytest.skip("reads no map")
    image, maps = inputs(4, 100)
    maps[16][2, 0, 0, 0] = torch.nan
    query, gallery = matcher.encode(image, maps), encoded(matcher, 3, 101)
    score = matcher.score(query, gallery)
    assert score[2].isnan().all()
    assert_same_scores(score[[0, 1, 3]], matcher.score(query[[0, 1, 3]], gallery))
    halves = matcher.score(query.stored("bfloat16"), gallery.stored("bfloat16"))
    assert halves[2].isnan().all()
    assert halves[[0, 1, 3]].isfinite().all()


@torch.no_grad()
def test_map_of_another_shape_is_refused(matcher):
    if not matcher.info.strides:
        pytest.skip("reads no map")
    image, maps = inputs(2, 100)
    for wrong in (maps[16][:, :, :5], maps[16][:, :7], maps[16][0]):
        with pytest.raises(ShapeError, match="wanted a map of stride 16"):
            matcher.encode(image, {16: wrong})


@torch.no_grad()
def test_pairs_of_unequal_length_are_refused(matcher):
    if not matcher.info.strides:
        pytest.skip("reads no map")
    for num in (2, 700):
        with pytest.raises(ShapeError, match=f"found {num} and 3|{num} query and 3 gallery"):
            matcher.pair(encoded(matcher, num, 100), encoded(matcher, 3, 101))


@torch.no_grad()
def test_correspondences_lie_in_the_image(matcher):
    query, gallery = encoded(matcher, 3, 100), encoded(matcher, 3, 101)
    if not matcher.info.has_correspondences:
        with pytest.raises(NotImplementedError):
            matcher.correspond(query, gallery)
        return
    found = matcher.correspond(query, gallery)
    assert len(found) == 3
    height, width = SPEC.image_size
    for one in found:
        for points in (one.query_N2, one.gallery_N2):
            assert points.shape == (len(one.confidence_N), 2)
            assert points.dtype == torch.float32
            assert ((points > 0) & (points < torch.tensor([width, height]))).all()
