"""Three optimiser steps of the released recipe: backbone, matcher, loss, clipping and SGD together."""

import pytest
import torch

from reid.backbones.resnet import Config as ResNetConfig
from reid.backbones.resnet import ResNet
from reid.engine.model import Model
from reid.engine.optimizer import OptimizerConfig, build_optimizer, clip_gradients, parameter_groups
from reid.losses._base import LossSpec
from reid.losses.pairwise import Config as LossConfig
from reid.losses.pairwise import PairwiseMatchingLoss
from reid.matchers._convert import load_matcher, split_released
from reid.matchers.transmatcher import Config, TransMatcher
from reid.types import FeatureSpec
from tests.reference.golden import Golden, assert_relative

TOLERANCE = 1e-5
"""Of the largest magnitude of each array after each step. Both sides are float32 and sum in different orders, through
the backward pass of a ResNet-18 and three steps."""


def build(golden: Golden) -> Model:
    base = Golden("restranmap_resnet18_ibnb")
    matcher = TransMatcher(
        Config(dim=16, num_layers=3, feedforward=32, decoder_feedforward=32), FeatureSpec((64, 32), {16: (256, 4, 2)})
    )
    criterion = {f"matcher.{name}": value for name, value in golden.under("matcher_sd/").items()}
    released = split_released({"model": base.under("sd/"), "criterion": criterion}, "golden")
    load_matcher(matcher, {name: value.float() for name, value in released.matcher.items()}, "golden")
    backbone = ResNet(ResNetConfig(depth=18, ibn="b", normalization="none"), pretrained=False)
    backbone.load_state_dict(dict(released.backbone))
    model = Model(backbone, matcher, (64, 32)).train()
    backbone.eval()
    return model


def test_three_steps_to_the_last_array():
    golden = Golden("trainstep")
    model = build(golden)
    backbone, matcher = model.backbone, model.matcher
    loss_function = PairwiseMatchingLoss(LossConfig(), LossSpec(4, None))
    groups = parameter_groups(model, loss_function)
    optimizer = build_optimizer(OptimizerConfig(), groups)
    label = golden["labels"]
    frozen = {name: value.clone() for name, value in backbone.named_buffers()}
    for step, image_u8 in enumerate(golden["images"]):
        state = model(image_u8)
        score = matcher.score(state, state)
        value = loss_function(state, score, label)
        for row in range(len(label)):
            only = torch.full_like(score.detach(), torch.nan)
            only[row] = score.detach()[row]
            alone = loss_function(state, only, label)
            assert alone.loss.item() == pytest.approx(golden.array(f"step{step}/loss_rows")[row], rel=TOLERANCE)
            assert alone.accuracy == golden.array(f"step{step}/acc")[row]
        assert value.loss.item() == pytest.approx(float(golden.array(f"step{step}/loss")), rel=TOLERANCE)
        optimizer.zero_grad()
        value.loss.backward()
        for name, roles in (("model", ("backbone", "encoder")), ("matcher", ("decoder",))):
            norm = torch.nn.utils.get_total_norm([p.grad for role in roles for p in groups[role]])
            wanted = float(golden.array(f"step{step}/gradnorm_{name}_before_clip"))
            assert norm.item() == pytest.approx(wanted, rel=TOLERANCE)
        clip_gradients(groups, 4.0)
        optimizer.step()
        found = {**{f"base.{name}": p for name, p in backbone.named_parameters()}, **dict(matcher.named_parameters())}
        for name, wanted in golden.under(f"step{step}/param/").items():
            assert_relative(found[name], wanted, TOLERANCE, f"step {step} {name}")
        state_dict = matcher.state_dict()
        for name, wanted in golden.under(f"step{step}/matcher/").items():
            assert_relative(state_dict[name], wanted, TOLERANCE, f"step {step} {name}")
    unchanged = all(torch.equal(value, frozen[name]) for name, value in backbone.named_buffers())
    assert bool(golden.array("base_bn_running_stats_unchanged")) == unchanged
    golden.check_all_used({"decoder_layer_prototype_unchanged": "we have no prototype layer"})
