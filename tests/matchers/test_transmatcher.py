import math

import numpy as np
import pytest
import torch

from reid.backbones.resnet import Config as ResNetConfig
from reid.backbones.resnet import ResNet
from reid.errors import ConfigError, ShapeError
from reid.kernels.simmax import aligned_maxima, similarity_maxima
from reid.matchers import _all_pairs, _soft_maxima
from reid.matchers._convert import load_matcher, split_released
from reid.matchers.transmatcher import Config, TransMatcher
from reid.types import FeatureSpec, ImageState
from tests.reference.golden import Golden, assert_relative, assert_within_spread
from tests.reference.similarity import transmatcher_score
from tests.reference.transformers import transmatcher_score as score_of_maps

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})
SMALL = Config(dim=16, num_layers=3, feedforward=24, decoder_feedforward=32)


def decoder_from(golden: Golden) -> tuple[TransMatcher, list[str]]:
    """A matcher with the reference decoder's weights, and the names of the prototype's parameters."""
    dim, num_layers, feedforward, height, width, *_ = golden.array("cfg").tolist()
    config = Config(dim=dim, num_layers=num_layers, decoder_feedforward=feedforward)
    matcher = TransMatcher(config, FeatureSpec((height * 16, width * 16), {16: (8, height, width)}))
    released = golden.under("sd/")
    weights = split_released({"model": {}, "criterion": {f"matcher.{name}": w for name, w in released.items()}}, "")
    fresh_encoder = {name: w for name, w in matcher.state_dict().items() if not name.startswith("decoder.")}
    load_matcher(matcher, {**fresh_encoder, **weights.matcher}, "")
    return matcher, [name for name in released if name.startswith("decoder_layer.")]


def keys_of(matcher: TransMatcher, feature_BHWX: torch.Tensor) -> torch.Tensor:
    num_layers, num_positions, dim = matcher.field_shape
    levels = feature_BHWX.reshape(-1, num_positions, num_layers, dim).unbind(2)
    return matcher.decoder.project(levels)


def check_gradients(golden: Golden, mode: str, matcher: TransMatcher, query: torch.Tensor, gallery: torch.Tensor):
    query, gallery = query.double().requires_grad_(), gallery.double().requires_grad_()
    score = matcher.decoder(keys_of(matcher, query), keys_of(matcher, gallery), aligned=False)
    assert_relative(score, golden[f"{mode}_score_f64"], 1e-9)
    matcher.zero_grad()
    (score * golden["cotangent"]).sum().backward()
    assert_relative(query.grad, golden[f"{mode}_grad_tgt"], 1e-6)  # gradients are stored in float32
    assert_relative(gallery.grad, golden[f"{mode}_grad_mem"], 1e-6)
    parameters = dict(matcher.named_parameters())
    largest = max(float(g.abs().max()) for g in golden.under(f"{mode}_grad/").values())
    for name, wanted in golden.under(f"{mode}_grad/").items():
        found = parameters[name].grad
        # Some gradients are zero by construction (a bias before a batch norm): compare against the largest of all.
        assert found.shape == wanted.shape
        tolerance = 1e-6 * max(float(wanted.abs().max()), 1e-7 * largest)
        assert float((found - wanted).abs().max()) <= tolerance, name


def check_levels(golden: Golden, matcher: TransMatcher, query: torch.Tensor, gallery: torch.Tensor):
    """Maxima before the first batch norm, and the score, of each layer by itself."""
    for level, layer in enumerate(matcher.decoder.matching_layers()):
        query_QSD, gallery_GSD = keys_of(matcher, query)[:, level], keys_of(matcher, gallery)[:, level]
        maxima = similarity_maxima(query_QSD, gallery_GSD, layer.weight())
        assert_relative(maxima.over_gallery, golden[f"layer{level}_max_over_gallery_pos"], 1e-9)
        assert_relative(maxima.over_query, golden[f"layer{level}_max_over_probe_pos"], 1e-9)
        pairs = (len(query), len(gallery))
        assert_relative(layer(maxima).view(pairs), golden[f"layer{level}_score_f64"], 1e-9)
        q, g = torch.cartesian_prod(*map(torch.arange, pairs)).unbind(1)
        aligned = aligned_maxima(query_QSD[q], gallery_GSD[g], layer.weight())
        assert_relative(layer(aligned).view(pairs), golden[f"layer{level}_score_f64"], 1e-9)


def check_initialisation(golden: Golden, matcher: TransMatcher):
    """Ours and the reference's fresh weights keep the same bounds, and both come near them."""
    fresh = TransMatcher(matcher.config, FeatureSpec(matcher.image_size, {16: matcher.map_shape})).state_dict()
    _, num_positions, dim = matcher.field_shape
    feedforward = matcher.config.decoder_feedforward
    bound = {
        "score_embed": math.sqrt(6 / (2 * num_positions**2)),
        "fc1.weight": math.sqrt(6 / (2 * dim)),
        "fc2.weight": math.sqrt(6 / (num_positions + feedforward)),
        "fc3.weight": math.sqrt(6 / (feedforward + 1)),
        "fc1.bias": 1 / math.sqrt(dim),
        "fc2.bias": 1 / math.sqrt(num_positions),
        "fc3.bias": 1 / math.sqrt(feedforward),
    }
    for name, largest in zip(golden.array("init_keys").tolist(), golden.array("init_absmax"), strict=True):
        if name.startswith("decoder_layer."):
            continue
        found, kind = float(fresh[name].abs().max()), name.split(".", 3)[-1]
        if kind in bound:
            near = 0.8 * bound[kind] if "weight" in kind or "embed" in kind else 0.0
            assert near < largest <= bound[kind]
            assert near < found <= bound[kind]
        else:
            assert found == largest, name  # batch norms: 1 and 0
        if name.endswith(("fc1.bias", "fc2.bias", "fc3.bias")):
            assert torch.equal(fresh[name], fresh[name.replace(name.split(".")[2], "0", 1)])
    assert not torch.equal(fresh["decoder.layers.0.fc1.weight"], fresh["decoder.layers.1.fc1.weight"])


@pytest.mark.parametrize("name", ["decoder_d16_L3_6x2", "decoder_d32_L3_24x8"])
def test_reference_decoder_to_the_last_array(name):
    golden = Golden(name)
    matcher, prototype = decoder_from(golden)
    query, gallery = golden["tgt_probe"], golden["mem_gallery"]

    def score(q: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        return matcher.decoder(keys_of(matcher, q), keys_of(matcher, g), aligned=False)

    assert_within_spread(score(query, gallery), golden["train_score_f32"], 1e-5)
    matcher, _ = decoder_from(golden)  # the step above moved the running statistics
    matcher.eval()
    assert_within_spread(score(query, gallery), golden["eval_score_f32"], 1e-5)
    with torch.no_grad():  # the fast path, batch norms folded
        assert_within_spread(score(query, gallery), golden["eval_score_f32"], 1e-5)
    matcher.double()
    with torch.no_grad():
        assert_relative(score(query.double(), gallery.double()), golden["eval_score_f64"], 1e-9)
    check_gradients(golden, "eval", matcher, query, gallery)
    assert_relative(score(gallery.double(), query.double()), golden["eval_score_swapped_f64"], 1e-9)
    check_levels(golden, matcher, query.double(), gallery.double())
    matcher.train()
    check_gradients(golden, "train", matcher, query, gallery)
    buffers = dict(matcher.named_buffers())
    for buffer, wanted in golden.under("train_buffers_after/").items():
        if buffer in buffers:  # the unused prototype has buffers too
            assert_relative(buffers[buffer], wanted, 1e-9, buffer)
    check_initialisation(golden, matcher)
    assert sorted(golden.array("params_without_grad")) == sorted(
        p for p in prototype if "running" not in p and "num_" not in p
    )
    golden.check_all_used({})


@pytest.mark.parametrize(("name", "ibn"), [("restranmap_resnet18", "none"), ("restranmap_resnet18_ibnb", "b")])
def test_reference_feature_network_to_the_last_array(name, ibn):
    golden = Golden(name)
    dim, num_encoder, feedforward = golden.array("cfg_neck_enc_ff").tolist()
    config = Config(dim=dim, num_layers=num_encoder + 1, feedforward=feedforward, decoder_feedforward=8)
    matcher = TransMatcher(config, FeatureSpec((64, 32), {16: (256, 4, 2)})).eval()
    weights = split_released({"model": golden.under("sd/"), "criterion": {}}, name)
    decoder = {key: value for key, value in matcher.state_dict().items() if key.startswith("decoder.")}
    load_matcher(matcher, {**decoder, **{key: value.float() for key, value in weights.matcher.items()}}, name)
    backbone = ResNet(ResNetConfig(depth=18, ibn=ibn, normalization="none"), pretrained=False).eval()
    backbone.load_state_dict(dict(weights.backbone))

    def features(maps: dict[int, torch.Tensor]) -> torch.Tensor:
        return torch.cat(matcher.levels(maps), dim=-1).unflatten(1, (4, 2))

    neck = matcher.neck_conv(golden["stage_layer3"])
    assert_within_spread(neck, golden["stage_neck"], 1e-5)
    assert_within_spread(features({16: golden["stage_layer3"]}), golden["feature_f32"], 1e-5)
    assert_within_spread(features(backbone(golden["image"])), golden["feature_f32"], 2e-5)

    both = torch.nn.ModuleDict({"base": backbone, "matcher": matcher}).double()
    image = golden["image"].double().requires_grad_()
    found = features(backbone(image))
    assert_relative(found, golden["feature_f64"], 1e-9)
    (found * golden["cotangent"]).sum().backward()
    assert_relative(image.grad, golden["grad_image"], 1e-6)  # gradients are stored in float32
    parameters = {key.removeprefix("matcher."): value for key, value in both.named_parameters()}
    for key, wanted in golden.under("grad/").items():
        assert_relative(parameters[key].grad, wanted, 1e-6, key)

    names = dict(zip(golden.array("all_state_dict_keys"), golden.array("all_state_dict_shapes"), strict=True))
    own = {**{f"base.{key}": value for key, value in backbone.state_dict().items()}, **matcher.state_dict()}
    for key, shape in names.items():
        if not key.startswith(("base.layer4.", "base.fc.")):
            assert str(list(own[key].shape)) == shape, key
    unused = golden.array("params_without_grad").tolist()
    assert all(key.startswith(("base.layer4.", "base.fc.")) for key in unused)
    golden.check_all_used({"stage_maxpool": "the backbone's tests", "stage_layer[12]": "the backbone's tests"})


def state(num: int, seed: int, config: Config = SMALL) -> ImageState:
    generator = torch.Generator().manual_seed(seed)
    return ImageState({"keys": torch.randn(num, config.num_layers, 12, config.dim, generator=generator)})


def trained(config: Config = SMALL) -> TransMatcher:
    """A matcher whose embeddings and batch norms are not at their start."""
    generator = torch.Generator().manual_seed(5)
    matcher = TransMatcher(config, SPEC)
    with torch.no_grad():
        for name, tensor in matcher.decoder.state_dict().items():
            if "score_embed" in name or "bn" in name or name.startswith("norm"):
                noise = torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else 0
                tensor.add_(noise.abs() if "var" in name else noise)
    return matcher.eval()


def test_score_equals_the_loops():
    matcher = trained()
    query, gallery = state(3, 0), state(4, 1)
    weights = {name: tensor.double().numpy() for name, tensor in matcher.decoder.state_dict().items()}
    wanted = transmatcher_score(query["keys"].double().numpy(), gallery["keys"].double().numpy(), weights)
    matcher.double()
    for with_grad in (True, False):  # without, batch norms are folded
        with torch.set_grad_enabled(with_grad):
            found = matcher.score(query.to(dtype=torch.float64), gallery.to(dtype=torch.float64)).detach()
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_symmetric_embedding_uses_the_mean_with_its_transpose():
    config = SMALL.model_copy(update={"symmetric_embed": True})
    matcher = trained(config)
    layer = matcher.decoder.matching_layers()[0]
    embed = layer.score_embed.detach()[0, 0]
    torch.testing.assert_close(layer.weight().detach(), ((embed + embed.T) / 2).sigmoid())
    a, b = state(3, 0), state(4, 1)
    torch.testing.assert_close(matcher.score(a, b), matcher.score(b, a).T, rtol=1e-5, atol=1e-5)
    released = trained()
    score = released.score(a, b)
    assert (score - released.score(b, a).T).abs().max() > 0.5 * score.std()


def test_blocks_do_not_change_scores(monkeypatch):
    matcher = trained()
    query, gallery = state(7, 0), state(9, 1)
    with torch.no_grad():
        whole = matcher.score(query, gallery)
        for limit in (1, 40_000, 200_000):
            monkeypatch.setattr(_all_pairs, "TEMPORARY_BYTES", limit)
            torch.testing.assert_close(matcher.score(query, gallery), whole, rtol=0, atol=1e-5 * float(whole.std()))


def test_correspondences_by_hand():
    config = Config(dim=2, num_layers=1, feedforward=4, decoder_feedforward=4)
    matcher = TransMatcher(config, FeatureSpec((40, 20), {16: (3, 2, 2)}))
    with torch.no_grad():
        matcher.decoder.layers[0].score_embed.fill_(50.0)  # weight 1
        matcher.decoder.layers[0].score_embed[0, 0, 3, 0] = 0.0  # weight 1/2 for gallery 3 with query 0
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    gallery = torch.tensor([[0.0, 1.0], [2.0, 0.0], [0.0, -3.0], [3.0, 0.0]])
    found = matcher.correspond(ImageState({"keys": query[None, None]}), ImageState({"keys": gallery[None, None]}))
    assert len(found) == 1
    # Cells are 20 x 10 pixels. Query 0: 2 at gallery 1 beats 3 / 2 at gallery 3. Query 2: zeros tie, 0 or 2.
    assert found[0].query_N2.tolist() == [[5.0, 10.0], [15.0, 10.0], [5.0, 30.0], [15.0, 30.0]]
    assert found[0].gallery_N2[[0, 1, 3]].tolist() == [[15.0, 10.0], [5.0, 10.0], [5.0, 30.0]]
    assert found[0].confidence_N.tolist() == [2.0, 1.0, 0.0, 3.0]


def test_correspondences_add_the_layers():
    matcher = trained()
    query, gallery = state(2, 0), state(2, 1)
    found = matcher.correspond(query, gallery)
    for n in range(2):
        total = torch.zeros(12, 12)
        for level, layer in enumerate(matcher.decoder.matching_layers()):
            total += gallery["keys"][n, level] @ query["keys"][n, level].T * layer.weight().detach()
        torch.testing.assert_close(found[n].confidence_N.detach(), total.amax(0))


def test_one_layer_has_no_encoder():
    matcher = TransMatcher(Config(dim=8, num_layers=1, decoder_feedforward=8), SPEC)
    assert not list(matcher.encoder.parameters())
    assert matcher.encode(torch.zeros(2, 3, 96, 32), {16: torch.zeros(2, 8, 6, 2)})["keys"].shape == (2, 1, 12, 8)


def test_independent_initialisation():
    weights = TransMatcher(SMALL.model_copy(update={"init": "independent"}), SPEC).state_dict()
    for part in ("encoder.layers.{}.linear1.weight", "decoder.layers.{}.fc1.bias", "decoder.layers.{}.fc2.bias"):
        assert not torch.equal(weights[part.format(0)], weights[part.format(1)])


def test_stride_the_backbone_does_not_give():
    with pytest.raises(ConfigError, match=r"stride 8, the backbone gives \[16\]"):
        TransMatcher(Config(stride=8), SPEC)


def test_map_of_another_size_and_state_of_another_matcher():
    matcher = TransMatcher(SMALL, SPEC)
    image = torch.zeros(1, 3, 96, 32)
    with pytest.raises(ShapeError, match=r"\[B, 8, 6, 2\], found \[1, 8, 5, 2\]"):
        matcher.encode(image, {16: torch.zeros(1, 8, 5, 2)})
    with pytest.raises(ShapeError, match="found strides"):
        matcher.encode(image, {8: torch.zeros(1, 8, 6, 2)})
    with pytest.raises(ShapeError, match="keys"):
        matcher.score(state(2, 0), ImageState({"embedding": torch.zeros(2, 4)}))
    with pytest.raises(ShapeError, match=r"\[2, 3, 12, 8\]"):
        matcher.score(state(2, 0), ImageState({"keys": torch.zeros(2, 3, 12, 8)}))


def low_rank_pair(dim=8):
    """A matcher whose projections have four singular directions only, and states of some images."""
    torch.manual_seed(0)
    matcher = TransMatcher(Config(dim=dim, num_layers=2, feedforward=16, decoder_feedforward=16), SPEC).eval()
    with torch.no_grad():
        for layer in matcher.decoder.matching_layers():
            whole = torch.randn(dim, 4) @ torch.randn(4, dim + 1)
            layer.fc1.weight.copy_(whole[:, :-1])
            layer.fc1.bias.copy_(whole[:, -1])
    maps = {16: torch.randn(6, *SPEC.maps[16])}
    return matcher, maps, torch.zeros(6, 3, *SPEC.image_size)


@torch.no_grad()
def test_cutting_directions_that_are_not_there_changes_nothing():
    matcher, maps, image = low_rank_pair()
    state = matcher.encode(image, maps)
    wanted = matcher.score(state, state)
    cut = matcher.low_rank(4)
    small = cut.encode(image, maps)
    assert small["keys"].shape == (*state["keys"].shape[:3], 4)
    torch.testing.assert_close(cut.score(small, small), wanted, rtol=0, atol=1e-4 * float(wanted.std()))
    assert torch.equal(matcher.score(state, state), wanted)  # the matcher itself is as it was
    less = matcher.low_rank(2)
    small = less.encode(image, maps)
    assert float((less.score(small, small) - wanted).abs().max()) > 0.01 * float(wanted.std())


def test_more_channels_than_there_are():
    matcher, *_ = low_rank_pair()
    with pytest.raises(ConfigError, match="wanted at most 8, the channels of the keys, found 9"):
        matcher.low_rank(9)


VARIANTS = [
    {"pool": "mean"},
    {"pool": "softmax"},
    {"score_embedding": False},
    {"encoder": False},
    {"position_embedding": True},
    {"pool": "mean", "score_embedding": False, "encoder": False, "position_embedding": True},
    {"pool": "softmax", "score_embedding": False, "num_layers": 1},
]


def variant(options, **size) -> TransMatcher:
    torch.manual_seed(0)
    config = SMALL.model_copy(update={"dim": 8, **options, **size})
    matcher = trained(config).double()
    with torch.no_grad():  # encoder's norms and biases that are not at their start
        for parameter in matcher.encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return matcher


def maps_of(num: int, seed: int) -> torch.Tensor:
    return torch.randn(num, 8, 6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score_maps(matcher: TransMatcher, query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    return matcher.score(*(matcher.encode(torch.zeros(1), {16: map_}) for map_ in (query, gallery)))


@pytest.mark.parametrize("options", [{}, *VARIANTS], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_variants_equal_the_loops(options, training):
    matcher = variant(options)
    query, gallery = maps_of(3, 0), maps_of(4, 1)
    weights = {name: tensor.numpy().copy() for name, tensor in matcher.state_dict().items()}
    pool = matcher.config.pool
    wanted = score_of_maps(query.numpy(), gallery.numpy(), weights, pool=pool, training=training)
    matcher.train(training)
    for with_grad in (True, False):  # without, batch norms are folded in eval mode
        with torch.set_grad_enabled(with_grad):
            found = score_maps(matcher, query, gallery).detach()
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_variants_score_aligned_pairs_alike(options):
    matcher = variant(options)
    query, gallery = (matcher.encode(torch.zeros(1), {16: maps_of(num, num)}) for num in (3, 4))
    q, g = torch.cartesian_prod(torch.arange(3), torch.arange(4)).unbind(1)
    wanted = matcher.score(query, gallery)
    torch.testing.assert_close(matcher.pair(query[q], gallery[g]).logit_N.view(3, 4), wanted)


@pytest.mark.parametrize("limit", [1, 2**28])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("with_weight", [False, True])
@pytest.mark.parametrize("pool", ["mean", "softmax"])
def test_gradients_of_means(pool, with_weight, aligned, limit, monkeypatch):
    monkeypatch.setitem(_soft_maxima._MAP_BYTES, "cpu", limit)  # 1: a block for every pair
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 3), (2 if aligned else 3, 4, 3), *([(4, 4)] if with_weight else [])]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]

    def both(query, gallery, weight=None):
        if pool == "mean":
            return _soft_maxima.similarity_means(query, gallery, weight, aligned=aligned).both
        return _soft_maxima.similarity_softmax(query, gallery, weight, scale=0.7, aligned=aligned).both

    assert torch.autograd.gradcheck(both, inputs)


def test_softmax_blocks_do_not_change_scores(monkeypatch):
    matcher = variant({"pool": "softmax"})
    query, gallery = maps_of(5, 0), maps_of(7, 1)
    whole = score_maps(matcher, query, gallery).detach()
    for limit in (1, 6_000, 15_000):  # 1, 5 and 13 pairs of 12 positions
        monkeypatch.setitem(_soft_maxima._MAP_BYTES, "cpu", limit)
        torch.testing.assert_close(score_maps(matcher, query, gallery).detach(), whole)


def test_a_sharp_softmax_is_the_maximum_and_a_flat_one_the_mean():
    query, gallery = state(3, 0)["keys"][:, 0], state(4, 1)["keys"][:, 0]
    weight = torch.rand(12, 12, generator=torch.Generator().manual_seed(2))
    for scale, wanted in (
        (1e4, similarity_maxima(query, gallery, weight)),
        (0.0, _soft_maxima.similarity_means(query, gallery, weight, aligned=False)),
    ):
        found = _soft_maxima.similarity_softmax(query, gallery, weight, scale=scale, aligned=False)
        torch.testing.assert_close(found.both, wanted.both, rtol=1e-4, atol=1e-4)


def test_parameters_of_the_variants():
    def shapes(**options):
        return {name: w.shape for name, w in TransMatcher(SMALL.model_copy(update=options), SPEC).state_dict().items()}

    released = shapes()
    assert shapes(pool="mean") == shapes(pool="softmax") == released
    assert shapes(score_embedding=False) == {n: s for n, s in released.items() if not n.endswith("score_embed")}
    assert shapes(encoder=False) == {n: s for n, s in released.items() if not n.startswith("encoder.")}
    assert shapes(position_embedding=True) == {**released, "position": (12, 16)}


def test_defaults_draw_the_same_weights_as_without_the_switches():
    """Parameters that variants share start alike, so that a seed's runs can be compared."""
    torch.manual_seed(3)
    plain = TransMatcher(SMALL, SPEC).state_dict()
    torch.manual_seed(3)
    with_positions = TransMatcher(SMALL.model_copy(update={"position_embedding": True}), SPEC).state_dict()
    assert all(torch.equal(plain[name], with_positions[name]) for name in plain)


def test_without_score_embedding_the_score_is_symmetric():
    for pool in ("max", "mean", "softmax"):
        matcher = variant({"score_embedding": False, "pool": pool})
        assert matcher.info.symmetric
        query, gallery = maps_of(3, 0), maps_of(4, 1)
        torch.testing.assert_close(score_maps(matcher, query, gallery), score_maps(matcher, gallery, query).T)


def test_means_have_no_correspondences():
    for pool in ("mean", "softmax"):
        matcher = TransMatcher(SMALL.model_copy(update={"pool": pool}), SPEC)
        assert not matcher.info.has_correspondences
        with pytest.raises(NotImplementedError):
            matcher.correspond(state(1, 0), state(1, 1))


@torch.no_grad()
def test_the_softmax_keeps_its_temperature_where_directions_are_cut():
    _, maps, image = low_rank_pair()
    config = Config(dim=8, num_layers=1, feedforward=16, decoder_feedforward=16, pool="softmax")
    matcher = TransMatcher(config, SPEC).eval()
    layer = matcher.decoder.matching_layers()[0]
    layer.fc1.weight[:, 4:] = 0
    layer.fc1.bias.zero_()  # four directions are left
    keys = matcher.encode(image, maps)
    cut = matcher.low_rank(4)
    small = cut.encode(image, maps)
    wanted = matcher.score(keys, keys)
    torch.testing.assert_close(cut.score(small, small), wanted, rtol=0, atol=1e-4 * float(wanted.std()))
