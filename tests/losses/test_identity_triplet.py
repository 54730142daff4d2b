import math

import pytest
import torch

from reid.errors import ConfigError, ShapeError
from reid.losses._base import LossSpec
from reid.losses.identity_triplet import Config, IdentityTripletLoss
from reid.types import ImageState
from tests.reference import losses as slow

SPEC = LossSpec(num_pids=3, embedding_dim=4)
LABEL = torch.tensor([0, 0, 1, 2, 1])
UNUSED = torch.zeros(5, 5)


def batch(seed: int = 0) -> ImageState:
    generator = torch.Generator().manual_seed(seed)
    return ImageState({name: torch.randn(5, 4, generator=generator) for name in ("pooled", "normed")})


def seeded(**options: object) -> IdentityTripletLoss:
    torch.manual_seed(0)
    loss = IdentityTripletLoss(Config(**options), SPEC)
    torch.nn.init.normal_(loss.classifier.weight)
    return loss


@pytest.mark.parametrize(("margin", "smoothing"), [(0.3, 0.1), (2.0, 0.0), ("soft", 0.1)])
def test_equals_the_loops(margin, smoothing):
    loss, state = seeded(margin=margin, label_smoothing=smoothing), batch()
    value = loss(state, UNUSED, LABEL)
    logit = (state["normed"] @ loss.classifier.weight.T).detach().double().numpy()
    pooled = state["pooled"].double().numpy()
    wanted = slow.identity_triplet(pooled, logit, LABEL.numpy(), None if margin == "soft" else margin, smoothing)
    assert value.loss.item() == pytest.approx(wanted, rel=1e-5)


def test_by_hand():
    loss = IdentityTripletLoss(Config(label_smoothing=0.0), LossSpec(2, 1))
    torch.nn.init.zeros_(loss.classifier.weight)
    pooled = torch.tensor([[0.0], [1.0], [3.0]])
    value = loss(ImageState({"pooled": pooled, "normed": pooled}), torch.zeros(3, 3), torch.tensor([0, 0, 1]))
    # Softmax over 2 equal logits; distances: row 0 1 - 3 + 0.3 < 0, row 1 1 - 2 + 0.3 < 0, row 2 has no positive.
    assert value.loss.item() == pytest.approx(math.log(2))
    assert value.accuracy == 1.0


def test_every_identity_starts_equally_likely():
    loss = IdentityTripletLoss(Config(), SPEC)
    assert loss.classifier.bias is None
    assert loss.classifier.weight.abs().max() < 0.01


def test_gradients_are_finite_for_equal_images():
    pooled = torch.ones(4, 4, requires_grad=True)
    loss = seeded()
    value = loss(ImageState({"pooled": pooled, "normed": pooled}), torch.zeros(4, 4), torch.tensor([0, 0, 1, 1]))
    value.loss.backward()
    assert pooled.grad.isfinite().all()
    assert loss.classifier.weight.grad.isfinite().all()


def test_rows_that_are_not_finite_are_left_out():
    loss, state = seeded(), batch()
    pooled = state["pooled"].clone()
    pooled[3] = torch.nan
    kept = [0, 1, 2, 4]
    found = loss(ImageState({"pooled": pooled, "normed": state["normed"]}), UNUSED, LABEL)
    wanted = loss(state[kept], torch.zeros(4, 4), LABEL[kept])
    assert found.loss.item() == pytest.approx(wanted.loss.item())
    nothing = ImageState({"pooled": torch.full((5, 4), torch.inf), "normed": state["normed"]})
    assert loss(nothing, UNUSED, LABEL).loss is None


def test_matchers_without_an_embedding_are_refused():
    with pytest.raises(ConfigError, match="kind 'embedding'"):
        IdentityTripletLoss(Config(), LossSpec(3, None))
    with pytest.raises(ShapeError, match=r"found \['keys'\]"):
        seeded()(ImageState({"keys": torch.zeros(5, 4)}), UNUSED, LABEL)
