"""The losses on scores against numbers of the released code, every array of the file."""

import torch

from reid.losses import pairwise, triplet
from reid.losses._base import Loss, LossSpec
from reid.matchers._convert import split_released
from reid.matchers.transmatcher import Config, TransMatcher
from reid.types import FeatureSpec, ImageState
from tests.reference.golden import Golden, assert_relative

SPEC = LossSpec(num_pids=10, embedding_dim=None)
STATE = ImageState({"none": torch.zeros(1)})
LAYOUTS = ("4x4", "8x2", "uneven", "shuffled_4x4", "singleton")


def losses() -> dict[str, tuple[Loss, float]]:
    """Name in the file -> loss, relative tolerance (the reference's cross-entropy has float32 targets)."""
    return {
        "pairwise": (pairwise.COMPONENT(pairwise.Config(), SPEC), 5e-7),
        "triplet16": (triplet.COMPONENT(triplet.Config(), SPEC), 1e-9),
        "triplet2": (triplet.COMPONENT(triplet.Config(margin=2.0), SPEC), 1e-9),
    }


def check_rows(golden: Golden, prefix: str, loss: Loss, tolerance: float, score: torch.Tensor, label: torch.Tensor):
    """Loss and accuracy of each row: what is left when all other rows are not finite."""
    values = []
    for row in range(len(label)):
        only = torch.full_like(score, torch.nan)
        only[row] = score[row]
        values.append(loss(STATE, only, label))
    assert_relative(torch.stack([value.loss for value in values]), golden[f"{prefix}_loss"], tolerance, prefix)
    assert [value.accuracy for value in values] == golden.array(f"{prefix}_acc").tolist()


def released_matcher(golden: Golden) -> tuple[TransMatcher, torch.Tensor]:
    """A small matcher in training mode, and the features of one batch, [B, H, W, L * D], with gradient."""
    config = Config(dim=16, num_layers=2, decoder_feedforward=24)
    matcher = TransMatcher(config, FeatureSpec((96, 32), {16: (4, 6, 2)})).double()
    criterion = {f"matcher.{name}": value for name, value in golden.under("tm/sd/").items()}
    decoder = split_released({"model": {}, "criterion": criterion}, "").matcher
    matcher.decoder.load_state_dict({name.removeprefix("decoder."): value for name, value in decoder.items()})
    return matcher, golden["tm/feature"].double().requires_grad_()


def test_every_array():
    golden = Golden("losses")
    for layout in LAYOUTS:
        label = golden[f"{layout}/labels"]
        for name, (loss, tolerance) in losses().items():
            prefix = f"{layout}/{name}"
            score = golden[f"{layout}/score"].double().requires_grad_()
            value = loss(STATE, score, label)
            assert_relative(value.loss, golden[f"{prefix}_trainer_loss"], tolerance, prefix)
            assert abs(value.accuracy - golden.array(f"{prefix}_acc").mean()) < 1e-6
            value.loss.backward()
            assert_relative(score.grad, golden[f"{prefix}_grad_score_of_mean"], tolerance, prefix)
            check_rows(golden, prefix, loss, tolerance, score.detach(), label)
    for name, (loss, tolerance) in losses().items():
        if name == "triplet2":
            continue
        matcher, feature = released_matcher(golden)
        keys = matcher.decoder.project(feature.reshape(8, 12, 2, 16).unbind(2))
        state = ImageState({"keys": keys})
        score, label = matcher.score(state, state), golden["tm/labels"]
        loss(state, score, label).loss.backward()
        assert_relative(feature.grad, golden[f"tm/{name}_grad_feature"], tolerance, name)
        check_rows(golden, f"tm/{name}", loss, tolerance, score.detach(), label)
    golden.check_all_used({})
