from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.config import parse
from reid.data.samplers.pk import COMPONENT, Config, PKSampler
from reid.errors import ConfigError, SamplingError


@st.composite
def problems(draw):
    """Labels in random order, and a configuration that fits them."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=25))
    labels = draw(st.permutations([c for c, size in enumerate(sizes) for _ in range(size)]))
    config = Config(
        num_pids=draw(st.integers(1, len(sizes))),
        num_images=draw(st.integers(1, 6)),
        num_batches=draw(st.none() | st.integers(1, 12)),
    )
    return labels, config


def split_by_pid(batch, config):
    return [batch[start : start + config.num_images] for start in range(0, len(batch), config.num_images)]


@given(problems(), st.integers(0, 5), st.integers(0, 1000))
def test_batches_are_p_identities_by_k_images(problem, epoch, seed):
    labels, config = problem
    sampler = PKSampler(config, labels, seed)
    batches = sampler.batches(epoch)
    assert len(batches) == sampler.batches_per_epoch
    for batch in batches:
        assert len(batch) == config.num_pids * config.num_images
        pids = []
        for images in split_by_pid(batch, config):
            (pid,) = {labels[image] for image in images}
            pids.append(pid)
            available = labels.count(pid)
            times = Counter(images)
            assert len(times) == min(available, config.num_images)
            assert max(times.values()) - min(times.values()) <= 1
        assert len(set(pids)) == config.num_pids


@given(problems(), st.integers(0, 5))
def test_identities_are_dealt_evenly(problem, epoch):
    labels, config = problem
    batches = PKSampler(config, labels, seed=1).batches(epoch)
    times = Counter(dict.fromkeys(labels, 0))
    times.update(labels[images[0]] for batch in batches for images in split_by_pid(batch, config))
    assert max(times.values()) - min(times.values()) <= 1
    if config.num_batches is None:
        num_pids = len(set(labels))
        assert min(times.values()) >= 1
        assert len(batches) == -(-num_pids // config.num_pids)


@given(problems(), st.integers(0, 5))
def test_an_epoch_depends_on_seed_and_epoch_alone(problem, epoch):
    labels, config = problem
    through = PKSampler(config, labels, seed=3)
    for earlier in range(epoch):
        through.batches(earlier)
    assert through.batches(epoch) == PKSampler(config, labels, seed=3).batches(epoch)
    assert through.state_dict() == {}


def test_seeds_and_epochs_differ():
    labels = [c for c in range(40) for _ in range(5)]
    epochs = [PKSampler(Config(), labels, seed).batches(epoch) for seed in range(3) for epoch in range(3)]
    assert len({str(batches) for batches in epochs}) == 9


def test_every_image_has_the_same_chance():
    labels = [0] * 6 + [1] * 6
    sampler = PKSampler(Config(num_pids=2, num_images=3), labels, seed=0)
    times = Counter(image for epoch in range(1000) for batch in sampler.batches(epoch) for image in batch)
    assert all(420 < times[image] < 580 for image in range(12))  # 500 wanted; five standard deviations


def test_single_image_is_repeated():
    (batch,) = PKSampler(Config(num_pids=2, num_images=3), [0, 1, 1, 1], seed=0).batches(0)
    assert batch.count(0) == 3


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([0, 1, 1, 1, 2, 2], "2 of 3 identities have fewer than 3 images; theirs repeat within a batch"),
        ([0, 0, 0, 1, 1, 1, 1], None),
    ],
)
def test_repeated_images_are_told(labels, note):
    assert PKSampler(Config(num_pids=2, num_images=3), labels, seed=0).note == note


@pytest.mark.parametrize(("labels", "found"), [([], 0), ([0, 0, 1, 2], 3)])
def test_too_few_identities(labels, found):
    with pytest.raises(SamplingError, match=rf"pk sampler: wanted at least 4 identities .* found {found}\. Train on"):
        PKSampler(Config(num_pids=4), labels, seed=0)


def test_unusable_table():
    with pytest.raises(ConfigError, match="num_pids = 0"):
        parse(Config, {"num_pids": 0}, "x.toml [stage.sampler]")


def test_component():
    assert COMPONENT is PKSampler
