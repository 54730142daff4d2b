"""The truth between the centres of pixels; the slow form of it is in tests/reference."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.nn.truth import TEAR_PX, truth_at
from tests.evaluation.truths import as_lists, rough, shifted
from tests.reference import correspondences as reference

HEIGHT, WIDTH = 6, 4


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), spread=st.sampled_from([0.3, 2.0]), double=st.booleans())
def test_it_equals_the_slow_form(seed, spread, double):
    """At quarters of a pixel, so that centres, edges and corners come up; some pairs of pixels are torn."""
    rng = np.random.default_rng(seed)
    truth = rough(rng, HEIGHT, WIDTH, num=3, spread=spread).to_gallery
    at = torch.from_numpy(rng.integers(0, 4 * np.array([WIDTH, HEIGHT]) + 1, (3, 9, 2)) / 4)
    at = at if double else at.float()
    spots = truth_at(truth, at)
    assert spots.position_NK2.dtype == at.dtype
    for pair in range(3):
        wanted = [reference.truth_at(as_lists(truth, pair), *point, TEAR_PX) for point in at[pair].tolist()]
        torch.testing.assert_close(spots.position_NK2[pair], at.new_tensor([position for position, _, _ in wanted]))
        assert spots.visible_NK[pair].tolist() == [visible for _, visible, _ in wanted]
        assert spots.known_NK[pair].tolist() == [known for _, _, known in wanted]
        assert spots.seen_NK[pair].tolist() == [visible and known for _, visible, known in wanted]
        assert spots.hidden_NK[pair].tolist() == [known and not visible for _, visible, known in wanted]


def test_between_two_pixels_by_hand():
    truth = shifted(4, 4, 0, 0).to_gallery
    truth.position_NHW2[0, :, 2:, 1] += 3.0  # the right half lies three pixels lower
    spots = truth_at(truth, torch.tensor([[[1.75, 2.5], [2.0, 2.5]]]))
    torch.testing.assert_close(spots.position_NK2, torch.tensor([[[1.75, 2.5 + 0.25 * 3], [2.0, 4.0]]]))
    assert spots.seen_NK.all()


@pytest.mark.parametrize(("apart", "known"), [(TEAR_PX - 0.01, True), (TEAR_PX + 0.01, False)])
def test_across_a_tear_nothing_is_known(apart, known):
    truth = shifted(4, 4, 0, 0).to_gallery
    truth.position_NHW2[0, 2:, :, 0] += apart
    spots = truth_at(truth, torch.tensor([[[1.5, 2.0], [1.5, 1.5], [1.5, 2.0005]]]))
    assert spots.known_NK.tolist() == [[known, True, known]]
    truth.visible_NHW[:] = False
    assert truth_at(truth, torch.tensor([[[1.5, 2.0]]])).hidden_NK.item()  # what is hidden lies nowhere


def test_the_border_belongs_to_its_pixels():
    spots = truth_at(shifted(8, 4, 0, 0).to_gallery, torch.tensor([[[0.0, 0.0], [4.0, 8.0], [-3.0, 99.0]]]))
    torch.testing.assert_close(spots.position_NK2, torch.tensor([[[0.5, 0.5], [3.5, 7.5], [0.5, 7.5]]]))
    assert spots.seen_NK.all()
