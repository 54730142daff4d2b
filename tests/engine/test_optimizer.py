import pytest
import torch
from torch.optim import SGD, AdamW

from reid.engine.optimizer import (
    OptimizerConfig,
    build_optimizer,
    clip_gradients,
    flatten_state,
    parameter_groups,
    set_lr_factor,
    unflatten_state,
)
from reid.errors import ConfigError
from reid.experiment import resolve
from reid.losses._base import Loss, LossValue
from reid.models import fresh_model


class WithScale(Loss):
    """A loss with one parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(3))

    def forward(self, state, score_BB, label_B):
        return LossValue(self.scale.sum() * score_BB.mean(), 1.0)


@pytest.fixture
def model(tiny):
    return fresh_model(resolve(tiny, "a test"))


def step(model, loss, optimizer):
    optimizer.zero_grad()
    state = model(torch.rand(4, 3, 64, 32, generator=torch.Generator().manual_seed(0)))
    loss(state, model.matcher.score(state, state), torch.arange(4)).loss.backward()
    optimizer.step()


def ids(parameters):
    return {id(parameter) for parameter in parameters}


def test_every_parameter_is_in_one_group_by_the_released_cut(model):
    loss = WithScale()
    groups = parameter_groups(model, loss)
    assert ids(groups["backbone"]) == ids(model.backbone.parameters())
    assert ids(groups["decoder"]) == ids(model.matcher.decoder.parameters()) | {id(loss.scale)}
    assert ids(groups["encoder"]) == ids(model.matcher.parameters()) - ids(model.matcher.decoder.parameters())
    everything = [id(p) for group in groups.values() for p in group]
    assert len(everything) == len(set(everything)) == len(list(model.parameters())) + 1


@pytest.mark.parametrize("frozen", [("backbone",), ("encoder", "decoder")])
def test_frozen_roles_need_no_gradient_until_they_are_thawed(frozen, model):
    everything = parameter_groups(model, WithScale())
    loss = WithScale()
    groups = parameter_groups(model, loss, frozen)
    assert set(groups) == ({"backbone", "encoder"} - set(frozen)) | {"decoder"}
    assert (ids(groups["decoder"]) == {id(loss.scale)}) is ("decoder" in frozen)
    assert loss.scale.requires_grad
    for role in ("backbone", "encoder"):
        assert {p.requires_grad for p in everything[role]} == {role not in frozen}
    parameter_groups(model, WithScale())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_rates_are_the_released_ones(model):
    optimizer = build_optimizer(OptimizerConfig(), parameter_groups(model, WithScale()))
    assert isinstance(optimizer, SGD)
    found = {group["role"]: group for group in optimizer.param_groups}
    assert {role: group["lr"] for role, group in found.items()} == pytest.approx(
        {"backbone": 0.0005, "encoder": 0.005, "decoder": 0.005}
    )
    for group in found.values():
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)


def test_adamw(model):
    config = OptimizerConfig(name="adamw", lr=0.01, backbone_lr_factor=0.5, weight_decay=0.02)
    optimizer = build_optimizer(config, parameter_groups(model, WithScale(), ("encoder",)))
    assert isinstance(optimizer, AdamW)
    assert [(g["role"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ("backbone", 0.005, 0.02),
        ("decoder", 0.01, 0.02),
    ]


def test_momentum_zero_is_plain_sgd(model):
    optimizer = build_optimizer(OptimizerConfig(momentum=0.0), parameter_groups(model, WithScale()))
    assert {group["nesterov"] for group in optimizer.param_groups} == {False}


def test_nothing_to_train_is_refused(model):
    with pytest.raises(ConfigError, match="all are frozen"):
        parameter_groups(model, WithScale(), ("backbone", "encoder", "decoder"))


def test_roles_that_are_not_there_are_not_frozen(tiny):
    model = fresh_model(resolve({**tiny, "matcher": {"name": "embedding", "stride": 8}}, "a test"))
    with pytest.raises(ConfigError, match="wanted some of backbone, encoder, which Embedding has, found decoder"):
        parameter_groups(model, WithScale(), ("decoder",))


def test_factors_do_not_accumulate(model):
    optimizer = build_optimizer(OptimizerConfig(lr=1.0), parameter_groups(model, WithScale()))
    for factor in (0.1, 0.1, 0.5):
        set_lr_factor(optimizer, factor)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.5, 0.5])


def norm(parameters):
    return torch.stack([parameter.grad.pow(2).sum() for parameter in parameters]).sum().sqrt()


@pytest.mark.parametrize("frozen", [(), ("backbone",)])
def test_backbone_and_encoder_are_clipped_together_and_the_decoder_apart(frozen, model):
    groups = parameter_groups(model, WithScale(), frozen)
    generator = torch.Generator().manual_seed(1)
    for parameters in groups.values():
        for parameter in parameters:
            parameter.grad = torch.rand(parameter.shape, generator=generator)
    together = [*groups.get("backbone", []), *groups["encoder"]]
    before = [parameter.grad.clone() for parameter in together]
    small = 0.001 / norm(groups["decoder"])
    for parameter in groups["decoder"]:
        parameter.grad *= small  # already below the limit: left alone, whatever the others are
    decoder_before = [parameter.grad.clone() for parameter in groups["decoder"]]
    factor = 4.0 / (norm(together) + 1e-6)
    clip_gradients(groups, 4.0)
    for parameter, gradient in zip(together, before, strict=True):
        torch.testing.assert_close(parameter.grad, gradient * factor)
    for parameter, gradient in zip(groups["decoder"], decoder_before, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_a_clip_norm_of_zero_is_off(model):
    groups = parameter_groups(model, WithScale())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    clip_gradients(groups, 0.0)
    assert all((parameter.grad == 100).all() for parameter in model.parameters())


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_state_comes_back_with_its_bits_and_its_layout(name, model):
    loss = WithScale()
    optimizer = build_optimizer(OptimizerConfig(name=name), parameter_groups(model, loss))
    step(model, loss, optimizer)
    saved = {key: tensor.contiguous() for key, tensor in flatten_state(optimizer).items()}
    again = build_optimizer(OptimizerConfig(name=name), parameter_groups(model, loss))
    unflatten_state(again, {**saved, "loss.scale": torch.ones(3)})
    old, new = flatten_state(optimizer), flatten_state(again)
    assert old.keys() == new.keys()
    assert any(not tensor.is_contiguous() for tensor in old.values())  # the backbone is channels last
    for key in old:
        assert torch.equal(old[key], new[key])
        assert old[key].is_contiguous() == new[key].is_contiguous()


def test_rates_are_not_part_of_the_state(model):
    loss = WithScale()
    first = build_optimizer(OptimizerConfig(lr=1.0), parameter_groups(model, loss))
    step(model, loss, first)
    second = build_optimizer(OptimizerConfig(lr=0.1), parameter_groups(model, loss))
    unflatten_state(second, flatten_state(first))
    assert [group["lr"] for group in second.param_groups] == pytest.approx([0.01, 0.1, 0.1])
