import numpy as np
import pytest
import torch

from reid.errors import ShapeError
from reid.matchers.qaconv import Config, QAConv
from reid.types import FeatureSpec, ImageState
from tests.reference.golden import Golden, assert_relative, assert_within_spread
from tests.reference.similarity import qaconv_score

SPEC = FeatureSpec((96, 32), {16: (8, 6, 2)})


def state_of(map_NCHW: torch.Tensor) -> ImageState:
    return ImageState({"features": map_NCHW.flatten(2).transpose(1, 2)})


def from_reference(golden: Golden) -> QAConv:
    matcher = QAConv(Config(dim=golden.array("cfg").tolist()[0]), SPEC)
    matcher.load_state_dict({**matcher.state_dict(), **golden.under("sd/")})
    return matcher


def check_gradients(golden: Golden, mode: str, matcher: QAConv):
    query, gallery = (golden[name].double().requires_grad_() for name in ("prob", "gal"))
    score = matcher.score(state_of(query), state_of(gallery))
    for name in (f"{mode}_score_f64", f"{mode}_score_tmversion_f64"):
        assert_relative(score, golden[name], 1e-9)
    matcher.zero_grad()
    (score * golden["cotangent"]).sum().backward()
    assert_relative(query.grad, golden[f"{mode}_grad_prob"], 1e-9)
    assert_relative(gallery.grad, golden[f"{mode}_grad_gal"], 1e-9)
    wanted = golden.under(f"{mode}_grad/")
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    for name, grad in wanted.items():  # some are zero by construction: a bias before a batch norm
        found = matcher.get_parameter(name).grad
        assert found.shape == grad.shape
        assert float((found - grad).abs().max()) <= 1e-9 * max(float(grad.abs().max()), 1e-3 * largest), name


def test_reference_to_the_last_array():
    golden = Golden("qaconv_c16_6x2")
    matcher = from_reference(golden)
    query, gallery = state_of(golden["prob"]), state_of(golden["gal"])
    train_score = matcher.score(query, gallery)
    matcher = from_reference(golden).eval()
    eval_score = matcher.score(query, gallery)
    with torch.no_grad():  # batch norms folded
        folded_score = matcher.score(query, gallery)
    assert_within_spread(folded_score, golden["eval_score_f32"], 1e-5)
    for version in ("", "_tmversion"):
        assert_within_spread(train_score, golden[f"train_score{version}_f32"], 1e-5)
        assert_within_spread(eval_score, golden[f"eval_score{version}_f32"], 1e-5)
    matcher.double()
    check_gradients(golden, "eval", matcher)
    matcher.train()
    check_gradients(golden, "train", matcher)
    for name, wanted in golden.under("train_buffers_after/").items():
        assert_relative(matcher.get_buffer(name), wanted, 1e-9, name)
    fresh = QAConv(Config(dim=4), SPEC)
    assert fresh.fc.weight.unique().tolist() == golden.array("init_fc_weight_unique").tolist()
    golden.check_all_used({})


def test_score_equals_the_loops():
    golden = Golden("qaconv_c16_6x2")
    matcher = from_reference(golden).eval().double()
    query, gallery = golden["prob"].double(), golden["gal"].double()
    weights = {name: tensor.numpy() for name, tensor in matcher.state_dict().items()}
    wanted = qaconv_score(state_of(query)["features"].numpy(), state_of(gallery)["features"].numpy(), weights)
    for with_grad in (True, False):
        with torch.set_grad_enabled(with_grad):
            found = matcher.score(state_of(query), state_of(gallery)).detach().numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_features_have_unit_length():
    matcher = QAConv(Config(dim=5), SPEC)
    maps = {16: torch.randn(2, 8, 6, 2, generator=torch.Generator().manual_seed(0))}
    features = matcher.encode(torch.zeros(2, 3, 96, 32), maps)["features"]
    assert features.shape == (2, 12, 5)
    torch.testing.assert_close(features.norm(dim=2), torch.ones(2, 12))


@pytest.mark.parametrize(("statistics", "moved"), [("fixed", False), ("batch", True)])
def test_neck_statistics(statistics, moved):
    matcher = QAConv(Config(dim=5, neck_statistics=statistics), SPEC)
    maps = {16: torch.randn(2, 8, 6, 2, generator=torch.Generator().manual_seed(0))}
    for mode in (True, False, True):
        matcher.train(mode)
    matcher.encode(torch.zeros(2, 3, 96, 32), maps)
    assert bool(matcher.neck_bn.running_mean.abs().sum() > 0) is moved
    assert matcher.bn.training


def test_correspondences_by_hand():
    matcher = QAConv(Config(dim=2), FeatureSpec((40, 20), {16: (3, 2, 1)}))
    query = ImageState({"features": torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])})
    gallery = ImageState({"features": torch.tensor([[[0.6, 0.8], [0.8, -0.6]]])})
    found = matcher.correspond(query, gallery)[0]
    assert found.query_N2.tolist() == [[10.0, 10.0], [10.0, 30.0]]
    assert found.gallery_N2.tolist() == [[10.0, 30.0], [10.0, 10.0]]
    assert found.confidence_N.tolist() == pytest.approx([0.8, 0.8])


def test_wrong_map_and_state():
    matcher = QAConv(Config(dim=5), SPEC)
    with pytest.raises(ShapeError, match="qaconv: wanted a map"):
        matcher.encode(torch.zeros(1, 3, 96, 32), {16: torch.zeros(1, 8, 6, 3)})
    with pytest.raises(ShapeError, match="qaconv: wanted states with features"):
        matcher.pair(state_of(torch.zeros(1, 4, 6, 2)), state_of(torch.zeros(1, 4, 6, 2)))
