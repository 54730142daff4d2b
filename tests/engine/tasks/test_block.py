import pytest
import torch

from reid.build import build_loss
from reid.data.loader import TrainBatch
from reid.engine.tasks.block import BlockTask
from reid.experiment import resolve
from reid.losses._base import LossSpec
from reid.models import fresh_model


@pytest.fixture
def model(tiny):
    return fresh_model(resolve(tiny, "a test"))


@pytest.mark.parametrize("name", ["pairwise", "triplet"])
def test_the_loss_sees_the_batch_scored_against_itself(name, model):
    loss = build_loss({"name": name}, LossSpec(num_pids=3, embedding_dim=None))
    image_BCHW = torch.randint(0, 256, (6, 3, 64, 32), dtype=torch.uint8)
    label_B = torch.tensor([0, 0, 1, 1, 2, 2])
    task = BlockTask(model, loss).eval()
    value = task(TrainBatch(image_BCHW, label_B, 0.0))
    with torch.no_grad():
        state = model(image_BCHW.float() / 255)
        expected = loss(state, model.matcher.score(state, state), label_B)
    torch.testing.assert_close(value.loss.detach(), expected.loss)
    assert value.accuracy == expected.accuracy


def test_every_parameter_is_the_tasks_and_gets_a_gradient(model):
    loss = build_loss({"name": "pairwise"}, LossSpec(num_pids=4, embedding_dim=None))
    task = BlockTask(model, loss).train()
    task(TrainBatch(torch.rand(8, 3, 64, 32), torch.arange(8) // 2, 0.0)).loss.backward()
    without = [name for name, parameter in task.named_parameters() if parameter.grad is None]
    assert without == []
    assert task.model is model


def test_scores_are_float32_under_autocast(model):
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, state, score_BB, label_B):
            seen.append(score_BB.dtype)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        BlockTask(model, Watch())(TrainBatch(torch.rand(4, 3, 64, 32), torch.arange(4), 0.0))
    assert seen == [torch.float32]
