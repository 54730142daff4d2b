import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from reid.nn.transport import NOTHING, log_assignment, marginal_error
from tests.reference import superglue

DUSTBIN = torch.tensor(0.7, dtype=torch.float64)


def scores(*shape: int, seed: int = 0, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(*shape, generator=generator, dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 7), columns=st.integers(1, 7), iterations=st.integers(1, 6), seed=st.integers(0, 99))
def test_it_equals_plain_scaling_of_rows_and_columns(rows, columns, iterations, seed):
    score = scores(2, rows, columns, seed=seed, spread=2.0)
    found = log_assignment(score, DUSTBIN, iterations).exp()
    for n in range(2):
        wanted = superglue.assignment(score[n].numpy(), DUSTBIN.item(), iterations)
        np.testing.assert_allclose(found[n].numpy(), wanted, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6), seed=st.integers(0, 99))
def test_once_converged_it_is_what_the_published_order_gives(rows, columns, seed):
    score = scores(1, rows, columns, seed=seed)
    found = log_assignment(score, DUSTBIN, 300)[0].exp().numpy()
    np.testing.assert_allclose(found, superglue.sinkhorn(score[0].numpy(), DUSTBIN.item(), 300), rtol=1e-6)


def test_by_hand():
    # One keypoint each, score s and dustbin z: the mass m of the match solves m^2 = (1 - m)^2 e^(s - z), corner m.
    for s, z in ((0.0, 0.0), (3.0, 1.0), (-2.0, 0.5)):
        root = np.exp((s - z) / 2)
        found = log_assignment(torch.full((1, 1, 1), s, dtype=torch.float64), torch.tensor(z), 500)[0].exp()
        mass = root / (1 + root)
        np.testing.assert_allclose(found.numpy(), [[mass, 1 - mass], [1 - mass, mass]], rtol=1e-6)


def test_marginals():
    log = log_assignment(scores(3, 5, 8).float(), DUSTBIN, 100)
    mass = log.exp()
    assert log.dtype == torch.float32
    torch.testing.assert_close(mass[:, :5].sum(2), torch.ones(3, 5))
    torch.testing.assert_close(mass[:, :, :8].sum(1), torch.ones(3, 8))
    torch.testing.assert_close(mass[:, 5].sum(1), torch.full((3,), 8.0))
    torch.testing.assert_close(mass[:, :, 8].sum(1), torch.full((3,), 5.0))
    assert (marginal_error(log) < 1e-5).all()


def test_marginal_error_by_hand_and_by_iterations():
    mass = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.6, 0.2], [0.4, 0.05, 1.0]]])
    assert marginal_error(mass.log()).item() == pytest.approx(0.1)  # the sums are 1, 0.9 and 1, 0.9
    error = [marginal_error(log_assignment(scores(1, 20, 20, spread=5.0), DUSTBIN, n)).item() for n in (1, 10, 100)]
    assert error[0] > 2 * error[1] > 4 * error[2]
    padded = torch.tensor([[True, False]])
    assert marginal_error(mass.log(), padded, padded).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_limit_of_large_scores_is_the_best_assignment(seed):
    score = scores(6, 9, seed=seed)
    # A match instead of two dustbins gains score - dustbin: the mass that it frees goes to the corner.
    gain = (score - DUSTBIN).clamp(min=0)
    wanted = torch.zeros(6, 9, dtype=torch.bool)
    rows, columns = linear_sum_assignment(-gain.numpy())
    wanted[torch.as_tensor(rows), torch.as_tensor(columns)] = True
    wanted &= gain > 0
    mass = log_assignment(60 * score[None], 60 * DUSTBIN, 3000)[0].exp()
    assert ((mass[:6, :9] > 0.5) == wanted).all()
    assert torch.equal(mass[:6, 9] > 0.5, ~wanted.any(1))
    assert torch.equal(mass[6, :9] > 0.5, ~wanted.any(0))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_order_and_sides_do_not_matter(data):
    score = scores(1, 4, 6, seed=data.draw(st.integers(0, 99)), spread=4.0)
    rows, columns = (torch.tensor(data.draw(st.permutations(range(num)))) for num in (4, 6))
    log = log_assignment(score, DUSTBIN, 3)
    moved = log_assignment(score[:, rows][:, :, columns], DUSTBIN, 3)
    rows, columns = torch.cat((rows, torch.tensor([4]))), torch.cat((columns, torch.tensor([6])))
    torch.testing.assert_close(moved, log[:, rows][:, :, columns])
    torch.testing.assert_close(log_assignment(score.transpose(1, 2), DUSTBIN, 3), log.transpose(1, 2))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_padding_changes_nothing(data):
    sizes = [data.draw(st.tuples(st.integers(0, 4), st.integers(0, 5))) for _ in range(3)]
    score = scores(3, 4, 5, seed=data.draw(st.integers(0, 99)))
    masks = [
        torch.arange(num) < torch.tensor([size[side] for size in sizes])[:, None] for side, num in ((0, 4), (1, 5))
    ]
    log = log_assignment(score, DUSTBIN, 5, query_mask_NK=masks[0], gallery_mask_NL=masks[1])
    other = score.masked_fill(~(masks[0][:, :, None] & masks[1][:, None]), 1e4)
    assert torch.equal(log_assignment(other, DUSTBIN, 5, query_mask_NK=masks[0], gallery_mask_NL=masks[1]), log)
    for n, (rows, columns) in enumerate(sizes):
        alone = log_assignment(score[n : n + 1, :rows, :columns], DUSTBIN, 5)[0]
        kept_rows, kept_columns = [*range(rows), 4], [*range(columns), 5]
        torch.testing.assert_close(log[n][kept_rows][:, kept_columns], alone)
        assert (log[n, rows:4] == NOTHING).all()
        assert (log[n, :, columns:5] == NOTHING).all()


def test_without_keypoints_all_goes_to_the_dustbin():
    score = scores(2, 3, 2).requires_grad_()
    query, gallery = torch.tensor([[True] * 3, [False] * 3]), torch.zeros(2, 2, dtype=torch.bool)
    log = log_assignment(score, DUSTBIN, 10, query_mask_NK=query, gallery_mask_NL=gallery)
    assert log.isfinite().all()
    torch.testing.assert_close(log[0, :3].exp(), torch.tensor([[0.0, 0.0, 1.0]] * 3, dtype=torch.float64))
    assert log[0, 3].exp().sum() == 0
    assert log[1].exp().sum() == 0
    assert (marginal_error(log, query, gallery) < 1e-9).all()
    log.exp().sum().backward()
    assert score.grad.isfinite().all()


def test_gradient():
    score = scores(2, 3, 4).requires_grad_()
    dustbin = DUSTBIN.clone().requires_grad_()
    mask = torch.tensor([[True, True, False], [True, True, True]])

    assert torch.autograd.gradcheck(lambda x, z: log_assignment(x, z, 3, query_mask_NK=mask), [score, dustbin])


def test_sixteen_bits_are_not_used():
    score = scores(2, 30, 30, spread=2.0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = log_assignment(score, DUSTBIN, 50)
    assert found.dtype == torch.float32
    assert torch.equal(found, log_assignment(score, DUSTBIN, 50))
    assert log_assignment(score.bfloat16(), DUSTBIN, 50).dtype == torch.float32
