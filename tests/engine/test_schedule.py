import json
import math

import pytest
from pydantic import TypeAdapter

from reid.engine.schedule import (
    AdaptiveConfig,
    ConstantConfig,
    CosineConfig,
    ScheduleConfig,
    StepConfig,
    build_schedule,
)


def factors(config, times, num_epochs=15):
    schedule = build_schedule(config, num_epochs)
    return [schedule.factor(time) for time in times]


def observe(schedule, losses):
    """Train as the trainer does; returns how many epochs it took."""
    epoch = 0
    while epoch < schedule.num_epochs:
        schedule.observe(epoch, losses[epoch])
        epoch += 1
    return epoch


def test_constant():
    assert factors(ConstantConfig(), [0, 0.5, 14.9]) == [1, 1, 1]


def test_step_is_transmatchers():
    assert factors(StepConfig(), [0, 9.99, 10, 14.9, 20]) == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert factors(StepConfig(step_epochs=2, gamma=0.5), [1.9, 2, 4], num_epochs=4) == [1, 0.5, 0.25]


def test_cosine():
    half = math.sqrt(0.5)
    expected = [1, 0.1 + 0.9 * (1 + half) / 2, 0.55, 0.1 + 0.9 * (1 - half) / 2, 0.1, 0.1]
    assert factors(CosineConfig(final_factor=0.1), [0, 2, 4, 6, 8, 9], num_epochs=8) == pytest.approx(expected)


def test_warmup_rises_linearly_and_then_is_over():
    assert factors(ConstantConfig(warmup_epochs=2), [0, 0.5, 1, 2, 3]) == [0, 0.25, 0.5, 1, 1]
    assert factors(StepConfig(step_epochs=1, warmup_epochs=2), [1], num_epochs=3) == pytest.approx([0.05])


def test_adaptive_follows_the_released_rule():
    # base: the second epoch's loss, 10. The first below 7 is the fifth epoch's: all rates x 0.1, end at 5 + 5 // 2.
    schedule = build_schedule(AdaptiveConfig(), 60)
    losses = [1.0, 10.0, 8.0, 7.0, 6.9, 6.0, 6.0]
    assert observe(schedule, losses) == 7
    assert [schedule.factor(time) for time in (0, 4.9, 5, 6.9)] == pytest.approx([1, 1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("losses", "num_epochs", "ends_at"),
    [
        ([9.0, 5.0] + [4.0] * 8, 10, 10),  # 4.0 is not below 3.5: no decay, all epochs
        ([9.0, 5.0, 4.0, 4.0, 3.4, 3.4], 6, 6),  # 5 + 2 = 7 epochs would be more than there are
        ([9.0, 5.0, 1.0, 1.0], 60, 4),  # 3 + 1
    ],
)
def test_adaptive_length(losses, num_epochs, ends_at):
    assert observe(build_schedule(AdaptiveConfig(), num_epochs), losses) == ends_at


def test_adaptive_decays_once():
    schedule = build_schedule(AdaptiveConfig(), 60)
    for epoch, loss in enumerate([9.0, 10.0, 6.0, 0.1, 0.01]):
        schedule.observe(epoch, loss)
    assert (schedule.num_epochs, schedule.factor(4.5)) == (4, pytest.approx(0.1))


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_adaptive_state_survives_json(stop):
    losses = [1.0, 10.0, 8.0, 6.0, 6.0, 6.0]
    whole, resumed = (build_schedule(AdaptiveConfig(), 60) for _ in range(2))
    for epoch in range(stop):
        whole.observe(epoch, losses[epoch])
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    for epoch in range(stop, 6):
        whole.observe(epoch, losses[epoch])
        resumed.observe(epoch, losses[epoch])
    assert resumed.num_epochs == whole.num_epochs == 6
    assert [resumed.factor(t) for t in (0, 3.9, 4)] == [whole.factor(t) for t in (0, 3.9, 4)] == [1, 1, 0.1]


@pytest.mark.parametrize("model", [ConstantConfig, StepConfig, CosineConfig, AdaptiveConfig])
def test_the_name_chooses_the_schedule(model):
    name = model().name
    assert TypeAdapter(ScheduleConfig).validate_python({"name": name}) == model()
