import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.data.samplers._base import Neighbours
from reid.data.samplers.triplets import Config, TripletSampler
from reid.errors import SamplingError


def everyone(num, seed):
    """Each image's list is all others in random order."""
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(np.delete(np.arange(num), image)) for image in range(num)])


def triplets(batch):
    return np.array(batch).reshape(-1, 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(2, 6), st.integers(1, 4), st.integers(0, 99))
def test_triplets_are_what_they_are_called(num_pids, num_images, num_triplets, seed):
    label = np.repeat(np.arange(num_pids), num_images)
    camid = np.tile(np.arange(num_images) % 2, num_pids)
    found = Neighbours(everyone(len(label), seed), camid)
    sampler = TripletSampler(Config(num_triplets=num_triplets), label.tolist(), seed, found)
    batches = sampler.batches(0)
    assert len(batches) == sampler.batches_per_epoch == -(-len(label) // num_triplets)
    assert sampler.layout == "triplets"
    for batch in batches:
        assert len(batch) == 3 * num_triplets
        for anchor, positive, negative in triplets(batch):
            assert label[anchor] == label[positive] != label[negative]
            assert camid[anchor] != camid[positive]
    assert {row[0] for batch in batches for row in triplets(batch)} == set(range(len(label)))
    assert sampler.batches(0) == batches
    assert sampler.batches(1) != batches or len(label) < 6


def test_positives_and_negatives_come_from_the_head_of_the_list():
    label = [0, 0, 0, 1, 1, 2]
    lists = np.array(
        [[1, 3, 2, 4, 5], [0, 4, 2, 3, 5], [5, 4, 3, 0, 1], [4, 0, 1, 2, 5], [5, 3, 0, 1, 2], [0, 1, 2, 3, 4]]
    )
    sampler = TripletSampler(Config(num_triplets=2, top_k=2), label, 0, Neighbours(lists, np.full(6, -1)))
    # of image 2 the first two are strangers, image 5 is alone
    found = {tuple(row) for batch in sampler.batches(0) for row in triplets(batch).tolist()}
    assert found == {(0, 1, 3), (1, 0, 4), (3, 4, 0), (4, 3, 5)}
    assert sampler.note.startswith("4 of 6 images are anchors")
    assert TripletSampler.num_neighbours(Config(top_k=7)) == 7


def test_number_of_batches():
    label = [0, 0, 1, 1]
    found = Neighbours(everyone(4, 0), np.full(4, -1))
    sampler = TripletSampler(Config(num_triplets=3, num_batches=5), label, 0, found)
    assert [len(batch) for batch in sampler.batches(3)] == [9] * 5
    assert sampler.note is None


@pytest.mark.parametrize(
    ("label", "camid", "options"),
    [
        ([0, 0, 0], [0, 1, 2], {}),  # nobody else
        ([0, 1, 2], [0, 1, 2], {}),  # nobody twice
        ([0, 0, 1], [0, 0, 1], {}),  # not in another camera
        ([0, 0, 1, 1], [0, 1, 0, 1], {"min_positives": 2}),
    ],
)
def test_nothing_to_learn_from_is_an_error(label, camid, options):
    with pytest.raises(SamplingError, match="triplets sampler: wanted images with at least"):
        TripletSampler(Config(**options), label, 0, Neighbours(everyone(len(label), 0), np.array(camid)))
