"""Three optimiser steps of the released recipe: backbone, matcher, loss, clipping and SGD together."""

import pytest
import torch

from reid.backbones.resnet import Config as ResNetConfig
from reid.backbones.resnet import ResNet
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


def build(golden: Golden) -> tuple[ResNet, TransMatcher]:
    base = Golden("restranmap_resnet18_ibnb")
    matcher = TransMatcher(
        Config(dim=16, num_layers=3, feedforward=32, decoder_feedforward=32), FeatureSpec((64, 32), {16: (256, 4, 2)})
    )
    criterion = {f"matcher.{name}": value for name, value in golden.under("matcher_sd/").items()}
    released = split_released({"model": base.under("sd/"), "criterion": criterion}, "golden")
    load_matcher(matcher, {name: value.float() for name, value in released.matcher.items()}, "golden")
    backbone = ResNet(ResNetConfig(depth=18, ibn="b", normalization="none"), pretrained=False)
    backbone.load_state_dict(dict(released.backbone))
    return backbone.eval(), matcher.train()


def test_three_steps_to_the_last_array():
    golden = Golden("trainstep")
    backbone, matcher = build(golden)
    encoder, decoder = (list(group.parameters) for group in matcher.parameter_groups())
    groups = [
        {"params": list(backbone.parameters()), "lr": 0.0005},
        {"params": encoder, "lr": 0.005},
        {"params": decoder, "lr": 0.005},
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=5e-4, nesterov=True)
    loss_function = PairwiseMatchingLoss(LossConfig(), LossSpec(4, None))
    label = golden["labels"]
    frozen = {name: value.clone() for name, value in backbone.named_buffers()}
    for step, image_u8 in enumerate(golden["images"]):
        image = image_u8.float() / 255
        state = matcher.encode(image, backbone(image))
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
        norms = [
            torch.nn.utils.clip_grad_norm_([*backbone.parameters(), *encoder], 4.0),
            torch.nn.utils.clip_grad_norm_(decoder, 4.0),
        ]
        for name, norm in zip(("model", "matcher"), norms, strict=True):
            wanted = float(golden.array(f"step{step}/gradnorm_{name}_before_clip"))
            assert norm.item() == pytest.approx(wanted, rel=TOLERANCE)
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
