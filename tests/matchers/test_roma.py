import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from reid.errors import ConfigError, ShapeError
from reid.losses._base import LossSpec
from reid.losses.dense_warp import Config as LossConfig
from reid.losses.dense_warp import DenseWarpLoss, at_stride
from reid.matchers._dense import DenseStep
from reid.matchers.roma import Config, RoMa
from reid.nn.grid import cell_centres
from reid.types import FeatureSpec, ImageState, Warp, Warps
from tests.reference import roma

SPEC = FeatureSpec((32, 16), {8: (5, 4, 2)})
TINY = {
    "stride": 8,
    "dim": 6,
    "gp_dim": 4,
    "num_blocks": 1,
    "num_heads": 2,
    "feedforward": 8,
    "fine_channels": (3, 3, 4, 4),
    "refiners": (
        {"stride": 8, "dim": 6, "displacement": 2, "radius": 1, "num_blocks": 1},
        {"stride": 4, "dim": 3, "displacement": 2, "radius": 1, "num_blocks": 1},
        {"stride": 2, "dim": 2, "displacement": 2, "radius": 0, "num_blocks": 1},
    ),
}


def make(features: FeatureSpec = SPEC, **options: object) -> RoMa:
    torch.manual_seed(0)
    matcher = RoMa(Config(**{**TINY, **options}), features)
    for name, buffer in matcher.named_buffers():  # as if it had been trained
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return matcher.double().eval()


def inputs(num: int, seed: int) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(num, 3, 32, 16, dtype=torch.float64, generator=generator)
    return image, {8: torch.randn(num, 5, 4, 2, dtype=torch.float64, generator=generator)}


def encoded(matcher: RoMa, num: int, seed: int) -> ImageState:
    return matcher.encode(*inputs(num, seed))


@torch.no_grad()
def test_from_states_to_the_finest_warp_equals_the_loops():
    matcher = make()
    query, gallery = encoded(matcher, 1, 0), encoded(matcher, 1, 1)
    found = matcher.pair(query, gallery)
    weights = {name: tensor.numpy() for name, tensor in matcher.state_dict().items()}
    settings = {"temperature": 0.2, "noise": 0.1, "heads": 2}
    for direction, own, other in ((found.to_gallery, query, gallery), (found.to_query, gallery, query)):
        coarse = [state["coarse"][0].numpy() for state in (own, other)]
        out = roma.coarse(*coarse, (4, 2), roma.part(weights, "coarse"), settings)
        warp = np.array([roma.decode(row, 4, 2, 8.0) for row in out[:, :-1]]).reshape(4, 2, 2)
        np.testing.assert_allclose(direction.steps[0].warp_NHW2[0].numpy(), warp, rtol=1e-8)
        maps = [rows.T.reshape(6, 4, 2) for rows in coarse]
        seen = roma.refiner_inputs(*maps, warp, roma.part(weights, "refiners.0"), 8, 1, 8)
        shift = roma.refined(seen, roma.part(weights, "refiners.0"))
        step = direction.steps[1]
        np.testing.assert_allclose(step.warp_NHW2[0].numpy(), warp + shift[:2].transpose(1, 2, 0), rtol=1e-8)
        certainty = out[:, -1].reshape(4, 2) + shift[2]
        np.testing.assert_allclose(step.certainty_NHW[0].numpy(), certainty, rtol=1e-8)
        fine = direction.steps[2]
        maps = [state["fine4"][0].numpy() for state in (own, other)]
        start = fine.start_NHW2[0].numpy()
        seen = roma.refiner_inputs(*maps, start, roma.part(weights, "refiners.1"), 4, 1, 8)
        shift = roma.refined(seen, roma.part(weights, "refiners.1"))
        np.testing.assert_allclose(fine.warp_NHW2[0].numpy(), start + shift[:2].transpose(1, 2, 0) / 2, rtol=1e-8)


@torch.no_grad()
def test_outputs_are_coarse_to_fine_in_both_directions():
    matcher = make()
    found = matcher.pair(encoded(matcher, 3, 0), encoded(matcher, 3, 1))
    assert found.logit_N.shape == (3,)
    assert found.anchor_A2.shape == (8, 2)
    for direction in (found.to_gallery, found.to_query):
        assert [step.stride for step in direction.steps] == [8, 8, 4, 2]
        for step in direction.steps:
            assert step.warp_NHW2.shape == (3, 32 // step.stride, 16 // step.stride, 2)
            assert step.certainty_NHW.shape == step.warp_NHW2.shape[:3]
        assert direction.anchor_logit_NAHW.shape == (3, 8, 4, 2)
    back = matcher.pair(encoded(matcher, 3, 1), encoded(matcher, 3, 0))
    torch.testing.assert_close(back.to_query.finest.warp_NHW2, found.to_gallery.finest.warp_NHW2)
    torch.testing.assert_close(back.logit_N, found.logit_N)


def test_strides_learn_apart():
    matcher = make().train()
    state = encoded(matcher, 4, 0)
    found = matcher.pair(state, state[[1, 2, 3, 0]]).to_gallery
    found.finest.warp_NHW2.sum().backward(retain_graph=True)
    assert matcher.refiners[2].out.weight.grad is not None
    assert matcher.refiners[1].out.weight.grad is None
    assert matcher.coarse.to_out.weight.grad is None
    found.steps[0].certainty_NHW.sum().backward()
    assert matcher.refiners[0].out.weight.grad is None
    assert matcher.coarse.to_out.weight.grad is not None


@torch.no_grad()
def test_chunks_change_nothing():
    matcher = make()
    query, gallery = encoded(matcher, 5, 0), encoded(matcher, 5, 1)
    wanted, block = matcher.pair(query, gallery), matcher.score(query, gallery)
    matcher.pairs_per_chunk = 2
    found = matcher.pair(query, gallery)
    torch.testing.assert_close(found.logit_N, wanted.logit_N)
    torch.testing.assert_close(found.to_query.finest.warp_NHW2, wanted.to_query.finest.warp_NHW2)
    for name, score_N in wanted.other_scores.items():
        torch.testing.assert_close(found.other_scores[name], score_N)
    torch.testing.assert_close(matcher.score(query, gallery), block)
    torch.testing.assert_close(block.diagonal(), wanted.logit_N)


@torch.no_grad()
def test_the_score_without_labels():
    matcher = make(score="certainty_sim")
    assert matcher.evidence_head is None
    state = encoded(matcher, 2, 0)
    found = matcher.pair(state, state)
    assert ((found.logit_N > -1) & (found.logit_N < 1)).all()
    names = {"certainty", "sim", "certainty_sim"}
    assert set(found.other_scores) == names
    torch.testing.assert_close(found.other_scores["certainty"] * found.other_scores["sim"], found.logit_N)
    torch.testing.assert_close(found.other_scores["certainty_sim"], found.logit_N)
    again = make()
    assert again.evidence_head.linear.weight.shape == (1, 5)
    assert make(head="regression").evidence_head.linear.weight.shape == (1, 4)


@torch.no_grad()
def test_correspondences_are_the_finest_cells():
    matcher = make()
    query, gallery = encoded(matcher, 2, 0), encoded(matcher, 2, 1)
    finest = matcher.pair(query, gallery).to_gallery.finest
    found = matcher.correspond(query, gallery)
    for n, one in enumerate(found):
        assert one.kind == "warp"
        assert torch.equal(one.query_N2, cell_centres(16, 8, 2, torch.zeros(1)).reshape(-1, 2))
        warp = finest.warp_NHW2[n].reshape(-1, 2)
        inside = ((warp > 0) & (warp < torch.tensor([16, 32]))).all(1)
        torch.testing.assert_close(one.gallery_N2[inside], warp[inside].float())
        torch.testing.assert_close(
            one.confidence_N[inside], finest.certainty_NHW[n].flatten().sigmoid()[inside].float()
        )


@torch.no_grad()
def test_what_lies_outside_is_moved_to_the_border_without_confidence(monkeypatch):
    matcher = make()
    state = encoded(matcher, 1, 0)
    outputs = matcher.pair(state, state)
    outputs.to_gallery.finest.warp_NHW2[0, 0, :3] = torch.tensor([[-3.0, 5.0], [8.0, 40.0], [8.0, 31.9]])
    monkeypatch.setattr(matcher, "pair", lambda query, gallery: outputs)
    (found,) = matcher.correspond(state, state)
    assert found.gallery_N2[:2].tolist() == [[0.5, 5.0], [8.0, 31.5]]
    assert found.gallery_N2[2].tolist() == pytest.approx([8.0, 31.9])
    assert found.confidence_N[:2].tolist() == [0.0, 0.0]
    assert found.confidence_N[2] > 0


@torch.no_grad()
def test_states_bear_storing():
    spec = FeatureSpec((128, 64), {16: (256, 8, 4)})
    torch.manual_seed(0)
    matcher = RoMa(Config(), spec).eval()
    state = matcher.encode(torch.rand(2, 3, 128, 64), {16: torch.rand(2, 256, 8, 4)})
    kept = state.stored()
    assert kept.tensors.keys() == {"coarse", "weights", "appearance", "fine8", "fine4"}
    assert kept["coarse"].dtype == kept["weights"].dtype == torch.float32
    assert kept["fine4"].dtype == torch.bfloat16
    assert kept.nbytes == 2 * 98_304
    difference = matcher.pair(kept, kept[[1, 0]]).logit_N - matcher.pair(state, state[[1, 0]]).logit_N
    assert difference.abs().max() < 0.1


def published() -> RoMa:
    refiners = [(14, 512, 128, 7), (8, 512, 64, 3), (4, 256, 32, 2), (2, 64, 16, 0), (1, 9, 6, 0)]
    config = Config(
        stride=14,
        dim=512,
        gp_dim=512,
        num_blocks=5,
        num_heads=8,
        feedforward=4096,
        anchor_px=8.75,
        fine_channels=(64, 128, 256, 512),
        fine_convs=(2, 2, 4, 4),
        refiners=tuple(
            {"stride": s, "dim": d, "displacement": e, "radius": r, "num_blocks": 9} for s, d, e, r in refiners
        ),
    )
    with torch.device("meta"):  # 111 million numbers need not exist to be counted
        return RoMa(config, FeatureSpec((560, 560), {14: (1024, 40, 40)}))


def test_it_has_the_published_number_of_parameters():
    def count(*modules: torch.nn.Module) -> int:
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    matcher = published()
    assert len(matcher.coarse.anchors) == 64 * 64
    assert count(matcher.coarse.gp) == 1536
    assert count(matcher.fine.levels) == 10_592_064  # VGG19's up to the convolution before its fourth pooling
    assert count(matcher.coarse.blocks, matcher.coarse.to_out) == 67_165_185
    assert count(matcher.refiners) == 32_664_756
    assert count(matcher.project, matcher.fine.project) == 864_795
    assert count(matcher) == 10_592_064 + 67_165_185 + 32_664_756 + 864_795 + 1536 + 6  # and what weighs the evidence


@pytest.mark.parametrize(
    ("options", "features", "message"),
    [
        ({"stride": 16}, SPEC, "wanted a feature map of stride 16"),
        ({}, FeatureSpec((36, 16), {8: (5, 5, 2)}), r"multiples of the strides \[8, 8, 4, 2\], found 36 x 16"),
        ({}, FeatureSpec((32, 16), {8: (5, 4, 3)}), "found one of 4 x 3 cells"),
        ({"anchor_px": 5}, SPEC, "multiples of anchor_px"),
        ({"num_heads": 3}, SPEC, "multiple of num_heads"),
        ({"refiners": ({"stride": 4, "dim": 3}, {"stride": 8, "dim": 6})}, SPEC, r"falling strides .* found \[4, 8\]"),
        ({"refiners": ({"stride": 3, "dim": 3},)}, SPEC, r"found \[3\]"),
        ({"refiners": ({"stride": 8, "dim": 6},)}, SPEC, r"the last below it, found \[8\]"),
        ({"refiners": ({"stride": 8, "dim": 5}, {"stride": 4, "dim": 6})}, SPEC, "wanted dim = 6"),
    ],
)
def test_what_does_not_fit_is_refused(options, features, message):
    with pytest.raises(ConfigError, match=message):
        make(features, **options)


def test_wrong_images_and_states_are_refused():
    matcher = make()
    image, maps = inputs(2, 0)
    with pytest.raises(ShapeError, match=r"wanted images \[B, 3, 32, 16\]"):
        matcher.encode(image[:, :, :0, :0], maps)
    with pytest.raises(ShapeError, match="found 2 and 3"):
        matcher.pair(encoded(matcher, 2, 0), encoded(matcher, 3, 0))
    with pytest.raises(ShapeError, match="roma: wanted states with coarse"):
        matcher.pair(ImageState({"tokens": image}), ImageState({"tokens": image}))


def test_what_it_offers():
    matcher = make()
    assert matcher.info.kind == "top_k"
    assert matcher.info.symmetric
    assert matcher.info.has_correspondences
    assert matcher.info.reads_pixels
    assert matcher.info.strides == (8,)
    encoder, decoder, head = matcher.parameter_groups()
    assert {id(p) for p in head.parameters} == {id(p) for p in matcher.evidence_head.parameters()}
    assert any(p is matcher.coarse.gp.position.weight for p in encoder.parameters)
    assert any(p is matcher.coarse.to_out.weight for p in decoder.parameters)


HEIGHT, WIDTH, ROOM = 48, 24, 16


def moved_images(num: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, Warps]:
    """Two windows into one picture, by whole pixels apart."""
    generator = torch.Generator().manual_seed(seed)
    size = (HEIGHT + ROOM, WIDTH + ROOM)

    def blobs(height: int, width: int) -> torch.Tensor:
        drawn = torch.rand(num, 3, height, width, generator=generator)
        return functional.interpolate(drawn, size, mode="bilinear", align_corners=False)

    picture = 0.8 * blobs(6, 4) + 0.2 * blobs(21, 13)
    at = torch.randint(ROOM + 1, (2, num, 2), generator=generator)  # (x, y) of each window

    def window(side: int) -> torch.Tensor:
        return torch.stack([picture[n, :, y : y + HEIGHT, x : x + WIDTH] for n, (x, y) in enumerate(at[side].tolist())])

    def truth(shift_N2: torch.Tensor) -> Warp:
        position = cell_centres(HEIGHT, WIDTH, 1, torch.zeros(1)) + shift_N2[:, None, None].float()
        visible = ((position > 0) & (position < torch.tensor([WIDTH, HEIGHT]))).all(3)
        return Warp(position, visible, torch.ones_like(visible))

    return window(0), window(1), Warps(truth(at[0] - at[1]), truth(at[1] - at[0]))


def drawn_maps(image: torch.Tensor) -> dict[int, torch.Tensor]:
    """In place of a backbone: each cell's pixels, blurred to 2 x 2."""
    return {8: functional.pixel_unshuffle(functional.avg_pool2d(image, 4), 2)}


def end_point_error(step: DenseStep, truth: Warp) -> float:
    """Mean over visible pixels of the whole image, whatever the stride: each takes its cell's displacement."""
    found = step.warp_NHW2 - cell_centres(*step.warp_NHW2.shape[1:3], step.stride, step.warp_NHW2)
    found = found.repeat_interleave(step.stride, 1).repeat_interleave(step.stride, 2)
    wanted = truth.position_NHW2 - cell_centres(HEIGHT, WIDTH, 1, found)
    return float(torch.linalg.vector_norm(found - wanted, dim=3)[truth.visible_NHW].mean())


def trained(num_steps: int) -> RoMa:
    torch.manual_seed(0)
    config = Config(
        stride=8,
        dim=24,
        gp_dim=48,
        num_blocks=1,
        num_heads=2,
        feedforward=96,
        anchor_px=4,
        fine_channels=(8, 8, 12, 16),
        fine_convs=(1, 1, 1, 1),
        refiners=(
            {"stride": 4, "dim": 12, "displacement": 8, "num_blocks": 2},
            {"stride": 2, "dim": 8, "displacement": 8, "radius": 1, "num_blocks": 1},
        ),
    )
    matcher = RoMa(config, FeatureSpec((HEIGHT, WIDTH), {8: (12, 6, 3)})).train()
    loss = DenseWarpLoss(LossConfig(), LossSpec(1, None))
    optimizer = torch.optim.Adam(matcher.parameters(), lr=0.006)
    for step in range(num_steps):
        query, gallery, warps = moved_images(8, step)
        outputs = matcher.pair(*(matcher.encode(image, drawn_maps(image)) for image in (query, gallery)))
        value = loss(outputs, warps)
        optimizer.zero_grad()
        value.loss.backward()
        optimizer.step()
    return matcher.eval()


def test_training_finds_where_things_moved():
    matcher = trained(80)
    query, gallery, warps = moved_images(40, 10_000)
    with torch.no_grad():
        outputs = matcher.pair(*(matcher.encode(image, drawn_maps(image)) for image in (query, gallery)))
    for direction, truth in ((outputs.to_gallery, warps.to_gallery), (outputs.to_query, warps.to_query)):
        errors = [end_point_error(step, truth) for step in direction.steps]
        finest = direction.finest
        stay = cell_centres(*finest.certainty_NHW.shape[1:], finest.stride, query).expand_as(finest.warp_NHW2)
        identity = end_point_error(dataclasses.replace(finest, warp_NHW2=stay), truth)
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.85 * errors[0]
        assert errors[0] < 0.65 * identity
        target = at_stride(truth, finest.stride)
        certainty = finest.certainty_NHW
        assert certainty[target.visible_NHW].mean() - certainty[~target.visible_NHW].mean() > 1
