import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.config import parse
from reid.data.samplers.graph import COMPONENT, Config, GraphSampler
from reid.errors import CheckpointError, ConfigError, SamplingError
from tests.reference.samplers_graph import SlowGraphSampler

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "graph_sampler.npz")


@st.composite
def problems(draw):
    """Labels in random order, distances without ties, and a configuration that fits them."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=2, max_size=15))
    labels = draw(st.permutations([c for c, size in enumerate(sizes) for _ in range(size)]))
    num_images = draw(st.integers(1, 4))
    config = Config(batch_size=num_images * draw(st.integers(2, len(sizes))), num_images=num_images)
    ranks = np.random.default_rng(draw(st.integers(0, 1000))).permutation(len(sizes) ** 2)
    return labels, torch.from_numpy(ranks.reshape(len(sizes), -1)).float(), config


def rows_of(batch, config):
    return [batch[start : start + config.num_images] for start in range(0, len(batch), config.num_images)]


def legacy(seed):
    """The released code's generators: one of each for the whole run."""
    both = random.Random(seed), np.random.RandomState(seed)
    return lambda step: both


@pytest.mark.parametrize("case", ["p20_b8_k2", "p30_b16_k4"])
def test_two_epochs_equal_the_released_ones(case):
    golden = {key.removeprefix(f"{case}/"): GOLDEN[key] for key in GOLDEN.files if key.startswith(case)}
    batch_size, num_images, seed = golden["batch_instances_seed"].tolist()
    config = Config(batch_size=batch_size, num_images=num_images)
    sampler = GraphSampler(config, golden["pid_of_image"].tolist(), seed=0, generators=legacy(seed))
    assert sampler.batches_per_epoch == golden["len_before_first_iter"]
    assert sampler.batches_per_epoch * batch_size == golden["len_after"]
    for epoch in range(2):
        representatives = []

        def distances(chosen, into=representatives):
            into.extend(chosen)
            return torch.from_numpy(golden["dist"])

        batches = sampler.batches(epoch, distances)
        assert representatives == golden[f"epoch{epoch}_representatives"].tolist()
        assert batches == golden[f"epoch{epoch}_indices"].tolist()
        for batch in batches:
            *neighbours, anchor = [int(golden["pid_of_image"][row[0]]) for row in rows_of(batch, config)]
            assert neighbours == golden["topk_neighbours"][anchor].tolist()


@given(problems(), st.integers(0, 1000))
def test_three_epochs_equal_the_slow_sampler(problem, seed):
    labels, distance_CC, config = problem
    sampler = GraphSampler(config, labels, seed=0, generators=legacy(seed))
    slow = SlowGraphSampler(labels, config.batch_size, config.num_images, *legacy(seed)(0))
    for epoch in range(3):
        representatives = []
        batches = sampler.batches(epoch, lambda chosen, into=representatives: into.extend(chosen) or distance_CC)
        assert representatives == slow.representatives()
        assert batches == slow.epoch(distance_CC.tolist())


@given(problems(), st.integers(0, 1000))
def test_every_identity_is_the_anchor_once_among_its_nearest(problem, seed):
    labels, distance_CC, config = problem
    sampler = GraphSampler(config, labels, seed)
    for epoch in range(2):
        batches = sampler.batches(epoch, lambda chosen: distance_CC)
        anchors = []
        for batch in batches:
            assert len(batch) == config.batch_size
            pids = [{labels[image] for image in row} for row in rows_of(batch, config)]
            *neighbours, anchor = [pid for (pid,) in pids]
            anchors.append(anchor)
            others = [pid for pid in np.argsort(distance_CC[anchor].numpy()).tolist() if pid != anchor]
            assert neighbours == others[: len(neighbours)]
        assert sorted(anchors) == sorted(set(labels))


@given(problems(), st.integers(0, 1000))
def test_an_identity_uses_all_its_images_before_one_comes_again(problem, seed):
    labels, distance_CC, config = problem
    times = Counter(dict.fromkeys(range(len(labels)), 0))
    sampler = GraphSampler(config, labels, seed)
    for epoch in range(3):
        for batch in sampler.batches(epoch, lambda chosen: distance_CC):
            times.update(batch)
            for row in rows_of(batch, config):
                available = labels.count(labels[row[0]])
                assert max(Counter(row).values()) <= -(-config.num_images // available) + 1
                if available % config.num_images == 0:
                    assert len(set(row)) == config.num_images
    for pid in set(labels):
        counts = [times[image] for image, label in enumerate(labels) if label == pid]
        assert max(counts) - min(counts) <= 1


@given(problems(), st.integers(0, 1000))
def test_representatives_are_one_image_of_each_identity(problem, seed):
    labels, distance_CC, config = problem
    chosen = []
    GraphSampler(config, labels, seed).batches(0, lambda images: chosen.extend(images) or distance_CC)
    assert [labels[image] for image in chosen] == sorted(set(labels))


@given(problems(), st.integers(1, 3))
@settings(deadline=None)
def test_resumed_equals_uninterrupted(problem, stop):
    labels, distance_CC, config = problem
    through = GraphSampler(config, labels, seed=5)
    epochs = [through.batches(epoch, lambda chosen: distance_CC) for epoch in range(4)]

    first = GraphSampler(config, labels, seed=5)
    for epoch in range(stop):
        first.batches(epoch, lambda chosen: distance_CC)
    second = GraphSampler(config, labels, seed=5)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [second.batches(epoch, lambda chosen: distance_CC) for epoch in range(stop, 4)] == epochs[stop:]
    assert second.state_dict() == through.state_dict()


def test_state_is_a_copy():
    sampler = GraphSampler(Config(batch_size=4, num_images=2), [0, 0, 0, 1, 1, 1], seed=0)
    state = sampler.state_dict()
    before = json.dumps(state)
    sampler.batches(0, lambda chosen: torch.zeros(2, 2))
    assert json.dumps(state) == before
    sampler.load_state_dict(state)
    sampler.batches(0, lambda chosen: torch.zeros(2, 2))
    assert json.dumps(state) == before


def test_seeds_differ():
    labels = [c for c in range(8) for _ in range(5)]
    distance_CC = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    config = Config(batch_size=8, num_images=2)
    runs = [GraphSampler(config, labels, seed).batches(0, lambda chosen: distance_CC) for seed in range(5)]
    assert len({str(batches) for batches in runs}) == 5


def test_num_batches_takes_a_random_part_of_the_whole_epoch():
    labels = [c for c in range(10) for _ in range(4)]
    distance_CC = torch.rand(10, 10, generator=torch.Generator().manual_seed(0))

    def first_epoch(num_batches, seed):
        config = Config(batch_size=4, num_images=2, num_batches=num_batches)
        sampler = GraphSampler(config, labels, seed)
        batches = sampler.batches(0, lambda chosen: distance_CC)
        assert len(batches) == sampler.batches_per_epoch
        return batches

    assert first_epoch(3, seed=0) == first_epoch(None, seed=0)[:3]
    anchors = {labels[batch[-1]] for seed in range(40) for batch in first_epoch(3, seed)}
    assert anchors == set(range(10))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_model_has_diverged(value):
    distance_CC = torch.zeros(2, 2)
    distance_CC[0, 1] = value
    sampler = GraphSampler(Config(batch_size=4, num_images=2), [0, 1], seed=0)
    with pytest.raises(SamplingError, match="the model has diverged"):
        sampler.batches(0, lambda chosen: distance_CC)


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([0, 1, 1, 2, 2, 2], "1 of 3 identities have fewer than 2 images; theirs repeat within a batch"),
        ([0, 0, 1, 1, 1], None),
    ],
)
def test_repeated_images_are_told(labels, note):
    assert GraphSampler(Config(batch_size=4, num_images=2), labels, seed=0).note == note


def test_distances_are_needed():
    with pytest.raises(SamplingError, match="found None"):
        GraphSampler(Config(batch_size=4, num_images=2), [0, 1], seed=0).batches(0)


def test_too_few_identities():
    with pytest.raises(SamplingError, match=r"graph sampler: wanted at least 16 identities .* found 3\. Train on"):
        GraphSampler(Config(), [0, 1, 1, 2], seed=0)


def test_more_batches_than_identities():
    with pytest.raises(SamplingError, match=r"wanted num_batches = 5 .* found 3 identities\. Lower"):
        GraphSampler(Config(batch_size=4, num_images=2, num_batches=5), [0, 1, 2], seed=0)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"images": [[0, 1]], "used": [0]},
        {"images": [[0, 2], [1, 3]], "used": [0, 0]},
        {"images": [[0, 1], [2, 3]], "used": [0, 2]},
        {"images": [[0, 1], [2, 3]], "used": [0]},
    ],
)
def test_state_of_another_training_set(state):
    sampler = GraphSampler(Config(batch_size=4, num_images=2), [0, 0, 1, 1], seed=0)
    with pytest.raises(CheckpointError, match=r"wanted the state of a training set with 4 images of 2 identities"):
        sampler.load_state_dict(state)


@pytest.mark.parametrize("table", [{"batch_size": 30}, {"batch_size": 4}, {"batch_size": 12, "num_images": 5}])
def test_batch_that_is_no_multiple(table):
    with pytest.raises(ConfigError, match="must be two or more times num_images"):
        parse(Config, table, "x.toml [stage.sampler]")


def test_component():
    assert COMPONENT is GraphSampler
