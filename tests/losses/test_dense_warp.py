import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ConfigError, ShapeError
from reid.losses._base import LossSpec
from reid.losses.dense_warp import Config, DenseWarpLoss, at_stride
from reid.matchers._base import PairOutputs
from reid.matchers._dense import DenseDirection, DenseOutputs, DenseStep
from reid.nn.grid import cell_centres
from reid.types import Warp, Warps

HEIGHT, WIDTH = 16, 8
ANCHORS = cell_centres(2, 1, 8, torch.zeros(1, dtype=torch.float64)).reshape(-1, 2)  # (4, 4) and (4, 12)


def loss_with(**options: object) -> DenseWarpLoss:
    return DenseWarpLoss(Config(**options), LossSpec(1, None))


def truth(shift: tuple[float, float] = (0.0, 0.0), *, visible: bool = True, known: bool = True) -> Warp:
    """Of one image of 16 x 8, moved."""
    position = cell_centres(HEIGHT, WIDTH, 1, torch.zeros(1, dtype=torch.float64)) + torch.tensor(shift)
    full = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    return Warp(position[None], full & visible, full & known)


def both(warp: Warp) -> Warps:
    return Warps(warp, warp)


def step(stride: int, shift: tuple[float, float], logit: float = 0.0, start: tuple[float, float] | None = None):
    """One that finds every cell of one image moved by ``shift``."""
    centre = cell_centres(HEIGHT // stride, WIDTH // stride, stride, ANCHORS)[None]
    certainty = torch.full(centre.shape[:3], logit, dtype=torch.float64)
    begun = None if start is None else centre + torch.tensor(start)
    return DenseStep(stride, centre + torch.tensor(shift, dtype=torch.float64), certainty, begun)


def outputs(*steps: DenseStep, anchors: torch.Tensor | None = None) -> DenseOutputs:
    direction = DenseDirection(steps, anchors)
    return DenseOutputs(torch.zeros(1), direction, direction, None if anchors is None else ANCHORS)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def test_anchors_by_hand():
    logits = torch.zeros(1, 2, 2, 1, dtype=torch.float64)
    logits[0, 1, 0, 0], logits[0, 1, 1, 0] = 2.0, 3.0  # the second anchor, for the upper and for the lower cell
    found = outputs(step(8, (0.0, 0.0), 0.5), anchors=logits)
    value = loss_with()(found, both(truth()))
    cross_entropy = (softplus(2.0) + softplus(-3.0)) / 2  # the first is nearest to the upper cell's place
    assert value.loss.item() == pytest.approx(cross_entropy + 0.01 * softplus(-0.5))
    assert value.accuracy == 1.0


def test_the_nearest_anchor_is_the_target():
    logits = torch.zeros(1, 2, 2, 1, dtype=torch.float64)
    logits[0, 1] = 5.0
    found = outputs(step(8, (0.0, 0.0)), anchors=logits)
    near, far = (loss_with(certainty_weight=0)(found, both(truth((0.0, y)))).loss.item() for y in (3.0, 5.0))
    assert near == pytest.approx((softplus(5.0) + softplus(-5.0)) / 2)
    assert far == pytest.approx(softplus(-5.0))  # both cells now lie nearer to the second


def test_the_nearest_of_many_anchors_is_found_where_another_is_nearly_as_near():
    """Each cell of 384 x 128 lies 3.9998 px below its centre: its own anchor is 0.0004 px nearer than the next."""
    height, width = 384, 128
    anchors = cell_centres(48, 16, 8, torch.zeros(1)).reshape(-1, 2)
    shift = torch.tensor([0.0, 3.9998])
    visible = torch.ones(1, height, width, dtype=torch.bool)
    truth = Warp(cell_centres(height, width, 1, torch.zeros(1))[None] + shift, visible, visible)
    own = 100 * torch.eye(len(anchors)).reshape(1, -1, 48, 16)
    there = DenseStep(8, anchors.reshape(1, 48, 16, 2) + shift, torch.zeros(1, 48, 16))
    direction = DenseDirection((there,), own)
    found = DenseOutputs(torch.zeros(1), direction, direction, anchors)
    assert loss_with(certainty_weight=0)(found, both(truth)).loss.item() == pytest.approx(0, abs=1e-6)


def test_a_regressed_coarse_step_has_its_mean_error():
    found = outputs(step(8, (3.0, 4.0), -1.0))
    value = loss_with()(found, both(truth()))
    assert value.loss.item() == pytest.approx(5.0 + 0.01 * softplus(1.0))
    assert value.accuracy == 0.0


@pytest.mark.parametrize(("robust", "wanted"), [(True, (25 + (0.03 * 4) ** 2) ** 0.25), (False, 5.0)])
def test_refiners_by_hand(robust, wanted):
    found = outputs(step(8, (0.0, 0.0)), step(4, (3.0, 4.0), 0.0, (0.0, 0.0)))
    value = loss_with(robust=robust)(found, both(truth()))
    assert value.loss.item() == pytest.approx(wanted + 2 * 0.01 * math.log(2))


def test_directions_count_by_their_visible_cells():
    there, back = truth(), truth(visible=False)
    found = outputs(step(8, (3.0, 4.0), -1.0))
    value = loss_with()(found, Warps(there, back))
    certainty = (softplus(1.0) + softplus(-1.0)) / 2
    assert value.loss.item() == pytest.approx(5.0 + 0.01 * certainty)


def test_a_refiner_that_starts_far_away_learns_no_place_and_no_certainty():
    near = outputs(step(8, (0.0, 0.0)), step(4, (1.0, 0.0), 2.0, (0.0, 15.9)))
    far = outputs(step(8, (0.0, 0.0)), step(4, (1.0, 0.0), 2.0, (0.0, 16.1)))
    coarse = 0.01 * math.log(2)
    charbonnier = (1 + 0.12**2) ** 0.25
    assert loss_with()(near, both(truth())).loss.item() == pytest.approx(coarse + charbonnier + 0.01 * softplus(-2.0))
    assert loss_with()(far, both(truth())).loss.item() == pytest.approx(coarse + 0.01 * softplus(2.0))
    assert loss_with(gate=5)(far, both(truth())).loss.item() > 1
    same_stride = outputs(step(8, (0.0, 0.0)), step(8, (1.0, 0.0), 2.0, (0.0, 99.0)))  # not finer: no gate
    assert loss_with()(same_stride, both(truth())).loss.item() > 1


def gradient(error: float, **options: object) -> float:
    warp = step(4, (0.0, 0.0)).warp_NHW2
    moved = (warp + torch.tensor([error, 0.0], dtype=torch.float64)).requires_grad_()
    fine = DenseStep(4, moved, torch.zeros(1, 4, 2, dtype=torch.float64), warp)
    loss_with(**options)(outputs(step(8, (0.0, 0.0)), fine), both(truth())).loss.backward()
    return float(moved.grad[..., 0].sum())


def test_the_robust_gradient_grows_with_the_error_and_falls_with_its_root():
    small = [gradient(error) / error for error in (1e-4, 1e-3, 4e-3)]
    assert small[1] == pytest.approx(small[0], rel=1e-3)
    assert small[2] == pytest.approx(small[0], rel=1e-2)
    assert small[0] == pytest.approx(0.5 * 0.12 ** (2 * (0.25 - 1)), rel=1e-3)
    large = [gradient(error) * error**0.5 for error in (3.0, 12.0, 48.0)]
    assert large == pytest.approx([0.5] * 3, rel=2e-3)
    plain = [gradient(error, robust=False) for error in (1e-3, 1.0, 48.0)]
    assert plain == pytest.approx([1.0] * 3)
    assert gradient(0.0) == gradient(0.0, robust=False) == 0.0


def best_place(target: torch.Tensor, **options: object) -> torch.Tensor:
    """Where a warp that is the same for all 8 cells comes to rest."""
    truth = target.double().view(1, 4, 2, 2).repeat_interleave(4, 1).repeat_interleave(4, 2)
    full = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    place = truth.mean((0, 1, 2)).requires_grad_()
    loss, optimizer = loss_with(**options), torch.optim.Adam([place], lr=0.2)
    coarse = DenseStep(8, torch.zeros(1, 2, 1, 2).double(), torch.zeros(1, 2, 1).double())
    for _ in range(60):
        warp = place.expand(1, 4, 2, 2)
        fine = DenseStep(4, warp, torch.zeros(1, 4, 2, dtype=torch.float64), torch.zeros_like(warp))
        value = loss(outputs(coarse, fine), both(Warp(truth, full, full)))
        optimizer.zero_grad()
        value.loss.backward()
        optimizer.step()
    return place.detach()


def test_outliers_pull_a_plain_loss_further_than_a_robust_one():
    clean = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [0.0, 0.0]]
    target = torch.tensor([*clean, [12.0, 3.0], [12.0, -3.0], [13.0, 0.0]])  # three of eight are wrong, all to one side
    robust, plain = (float(best_place(target, robust=robust).norm()) for robust in (True, False))
    assert robust < 0.3
    assert plain > 3 * robust


@settings(max_examples=30, deadline=None)
@given(stride=st.sampled_from([1, 2, 4, 8]), a=st.floats(-1.2, 1.2), b=st.floats(-1.2, 1.2), x=st.floats(-9, 9))
def test_an_affine_truth_is_exact_at_the_centres_of_cells(stride, a, b, x):
    matrix = torch.tensor([[1 + a / 4, b / 4], [-b / 4, 1 - a / 4]], dtype=torch.float64)
    pixel = cell_centres(HEIGHT, WIDTH, 1, matrix)
    full = torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool)
    found = at_stride(Warp((pixel @ matrix + x)[None], full, full), stride)
    wanted = cell_centres(HEIGHT // stride, WIDTH // stride, stride, matrix) @ matrix + x
    torch.testing.assert_close(found.position_NHW2[0], wanted)
    assert found.visible_NHW.all()
    assert found.known_NHW.all()


def test_cells_on_an_outline_are_not_known():
    warp = truth()
    visible, known = warp.visible_NHW.clone(), warp.known_NHW.clone()
    visible[0, :, 4:] = False  # through the middle of the first column of stride 8
    known[0, 4] = False  # a line of pixels in the middle of the upper cell
    torn = warp.position_NHW2.clone()
    torn[0, :, 4:] += 5
    cases = [(visible, True, [False, False]), (True, known, [False, True])]
    for seen, told, wanted in cases:
        found = at_stride(Warp(warp.position_NHW2, warp.visible_NHW & seen, warp.known_NHW & told), 8)
        assert found.known_NHW.flatten().tolist() == wanted
        assert found.visible_NHW.flatten().tolist() == wanted
    found = at_stride(Warp(torn, warp.visible_NHW, warp.known_NHW), 8)
    assert found.known_NHW.flatten().tolist() == [False, False]
    hidden = at_stride(Warp(torn, warp.visible_NHW & False, warp.known_NHW), 8)
    assert hidden.known_NHW.all()
    assert not hidden.visible_NHW.any()
    odd = at_stride(truth((2.0, 0.0)), 1)
    assert torch.equal(odd.position_NHW2, truth((2.0, 0.0)).position_NHW2)


def test_nothing_visible_trains_certainty_alone():
    logits = torch.zeros(1, 2, 2, 1, dtype=torch.float64)
    found = outputs(step(8, (0.0, 0.0), 1.0), step(4, (0.0, 0.0), 2.0, (0.0, 0.0)), anchors=logits)
    value = loss_with()(found, both(truth(visible=False)))
    assert value.loss.item() == pytest.approx(0.01 * (softplus(1.0) + softplus(2.0)))
    assert value.accuracy == 0.0


def test_nothing_known_is_no_loss():
    found = outputs(step(8, (0.0, 0.0)), step(4, (0.0, 0.0), 0.0, (0.0, 0.0)))
    value = loss_with()(found, both(truth(known=False)))
    assert value.loss is None
    assert value.accuracy == 0.0


def test_accuracy_is_the_share_of_the_finest_cells_within_4_px():
    fine = step(4, (0.0, 0.0), 0.0, (0.0, 0.0))
    fine.warp_NHW2[0, 0] += 4.1
    fine.warp_NHW2[0, 1, 0, 0] += 3.9
    value = loss_with()(outputs(step(8, (9.0, 9.0)), fine), both(truth()))
    assert value.accuracy == pytest.approx(6 / 8)


def test_cells_that_are_not_finite_are_left_out():
    broken = step(4, (3.0, 4.0), 0.0, (0.0, 0.0))
    broken.warp_NHW2[0, 0, 0] = torch.nan
    broken.certainty_NHW[0, 1, 1] = torch.inf
    whole = step(4, (3.0, 4.0), 0.0, (0.0, 0.0))
    coarse = step(8, (0.0, 0.0))
    wanted = loss_with()(outputs(coarse, whole), both(truth()))
    found = loss_with()(outputs(coarse, broken), both(truth()))
    assert found.loss.item() == pytest.approx(wanted.loss.item())


def test_gradient():
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    inputs = [random(1, 2, 2, 1), random(1, 2, 1), random(1, 4, 2, 2), random(1, 4, 2)]
    begun = step(4, (1.0, 1.0))

    def loss(anchors: torch.Tensor, coarse: torch.Tensor, shift: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        steps = (DenseStep(8, step(8, (0.0, 0.0)).warp_NHW2, coarse), DenseStep(4, begun.warp_NHW2 + shift, fine))
        return loss_with()(outputs(*steps, anchors=anchors), both(truth())).loss

    assert torch.autograd.gradcheck(loss, inputs)


def test_other_matchers_and_other_images_are_refused():
    with pytest.raises(ConfigError, match="such as roma, found PairOutputs"):
        loss_with()(PairOutputs(torch.zeros(1)), both(truth()))
    found = outputs(step(8, (0.0, 0.0)))
    with pytest.raises(ShapeError, match="about 1 pairs of images of 16 x 8, both ways, found 1 of 8 x 8"):
        loss_with()(
            found, both(Warp(truth().position_NHW2[:, :8], truth().visible_NHW[:, :8], truth().known_NHW[:, :8]))
        )
