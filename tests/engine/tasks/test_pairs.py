import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.build import build_model
from reid.data.loader import TrainBatch
from reid.engine.tasks import pairs
from reid.engine.tasks.pairs import PairsTask, preferred_pairs, triplet_pairs
from reid.losses import attention, pair_bce
from reid.losses._base import LossSpec

BACKBONE = {"name": "resnet", "depth": 18, "cut": "layer2"}
RRT = {"name": "rrt", "strides": [8], "dim": 16, "num_heads": 2, "num_layers": 1, "feedforward": 16}


def test_triplets_become_pairs():
    assert triplet_pairs(6).tolist() == [[0, 1], [0, 2], [3, 4], [3, 5]]


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(1, 4), st.integers(1, 60), st.integers(0, 99))
def test_preferred_pairs_are_all_of_one_identity_and_the_strangers_that_are_preferred(
    num_pids, num_images, max_pairs, seed
):
    label = torch.arange(num_pids).repeat_interleave(num_images)
    descriptor = torch.randn(len(label), 3, generator=torch.Generator().manual_seed(seed))
    similar = descriptor @ descriptor.T
    pairs = preferred_pairs(label, similar, max_pairs).tolist()
    same = [(q, g) for q, g in pairs if label[q] == label[g]]
    assert sorted(same) == [
        (q, g) for q in range(len(label)) for g in range(len(label)) if q != g and label[q] == label[g]
    ]
    others = [(q, g) for q, g in pairs if label[q] != label[g]]
    room = max(0, max_pairs - len(same)) // len(label)
    assert len(others) == min(room, len(label) - num_images) * len(label)
    assert len(set(map(tuple, pairs))) == len(pairs)
    for q in range(len(label)):
        chosen = {g for p, g in others if p == q}
        left = {g for g in range(len(label)) if label[g] != label[q]} - chosen
        assert all(similar[q, g] >= similar[q, h] for g in chosen for h in left)


@pytest.fixture
def images():
    return torch.randint(256, (6, 3, 64, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def task(matcher, layout, **options):
    torch.manual_seed(0)
    model = build_model(BACKBONE, matcher, (64, 32), pretrained=False)
    spec = LossSpec(3, None, model.matcher.info.attended_dim)
    auxiliary = attention.COMPONENT(attention.Config(), spec) if options.pop("auxiliary", False) else None
    loss = pair_bce.COMPONENT(pair_bce.Config(), spec)
    return PairsTask(model, loss, layout, max_pairs=24, auxiliary=auxiliary, **options)


def test_the_loss_is_that_of_the_chosen_pairs(images):
    step = task(RRT, "triplets").eval()
    label = torch.tensor([0, 0, 1, 2, 2, 0])
    state = step.model(images)
    logit = step.model.matcher.pair(state[[0, 0, 3, 3]], state[[1, 2, 4, 5]]).logit_N
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor([1.0, 0, 1, 0]))
    value = step(TrainBatch(images, label, 0.0))
    torch.testing.assert_close(value.loss, wanted)
    torch.testing.assert_close(
        step(TrainBatch(step.model.feature_maps(images), label, 0.0)).loss, wanted
    )  # maps are as good


def test_a_batch_of_identities(images):
    step = task(RRT, "any").eval()
    value = step(TrainBatch(images, torch.tensor([0, 0, 1, 1, 2, 2]), 0.0))
    value.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in step.model.matcher.parameters())


def test_an_auxiliary_loss_is_added_and_saved_with_the_other(images):
    step = task({**RRT, "num_locals": 5}, "any", negatives="similar", auxiliary=True).eval()
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    value = step(TrainBatch(images, label, 0.0))
    auxiliary = step.loss["auxiliary"](step.model(images), label)
    alone = PairsTask(step.model, step.loss["pairs"], "any", max_pairs=24, negatives="similar")(
        TrainBatch(images, label, 0.0)
    )
    torch.testing.assert_close(value.loss, alone.loss + auxiliary.loss)
    assert value.accuracy == alone.accuracy
    assert "auxiliary.classifier.weight" in step.loss.state_dict()


@pytest.mark.parametrize(("negatives", "changes"), [("random", True), ("similar", False)])
def test_random_strangers_are_drawn_anew_every_step_from_torchs_state(negatives, changes, images, monkeypatch):
    step, label = task(RRT, "any", negatives=negatives).eval(), torch.tensor([0, 0, 1, 1, 2, 2])
    seen = []

    def spy(labels, preference, max_pairs):
        seen.append(preference)
        return preferred_pairs(labels, preference, max_pairs)

    monkeypatch.setattr(pairs, "preferred_pairs", spy)
    for seed in (5, None, 5):
        if seed is not None:
            torch.manual_seed(seed)
        step(TrainBatch(images, label, 0.0))
    first, second, again = seen
    assert torch.equal(first, again)
    assert torch.equal(first, second) != changes
