import pytest
import torch

from reid.kernels import mlp_head, simmax
from reid.kernels.mlp_head import MlpHead
from reid.kernels.native import amx


def draw_head(num_inputs: int, hidden: int, dtype: torch.dtype) -> MlpHead:
    make = torch.Generator().manual_seed(0)
    return MlpHead(
        *(torch.randn(size, generator=make, dtype=torch.float64).to(dtype) for size in ((hidden, num_inputs), hidden)),
        torch.randn(hidden, generator=make, dtype=torch.float64).to(dtype),
    )


def slow_logits(head: MlpHead, rows: torch.Tensor) -> list[float]:
    return [
        sum(
            float(out) * max(0.0, float((row.double() * weight.double()).sum()) + float(bias))
            for weight, bias, out in zip(head.weight_FS, head.bias_F, head.out_F, strict=True)
        )
        for row in rows
    ]


@pytest.mark.parametrize("size", [(1, 1, 1), (5, 7, 33), (3, 40, 64)], ids=str)
@pytest.mark.parametrize("entries", [1, 10**6])
def test_logits_are_the_sum_over_hidden_units(monkeypatch, size, entries):
    num_rows, num_inputs, hidden = size
    monkeypatch.setitem(mlp_head._HIDDEN_BYTES, "cpu", entries)
    head, rows = draw_head(num_inputs, hidden, torch.float64), torch.randn(num_rows, num_inputs, dtype=torch.float64)
    torch.testing.assert_close(
        head.logits(rows, halves=False).tolist(), slow_logits(head, rows), rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(head.trainable_logits(rows).tolist(), slow_logits(head, rows), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["eager", "native"])
@pytest.mark.parametrize("size", [(1, 1, 1), (37, 35, 33), (64, 192, 96)], ids=str)
def test_half_precision_is_near(backend, size):
    if backend == "native" and amx().library is None:
        pytest.skip(amx().reason)
    num_rows, num_inputs, hidden = size
    head, rows = draw_head(num_inputs, hidden, torch.float32), torch.randn(num_rows, num_inputs)
    wanted = torch.tensor(slow_logits(head, rows))
    with simmax.using(backend):
        found = head.logits(rows, halves=True)
    assert found.dtype == torch.float32
    scale = float((hidden * num_inputs) ** 0.5)
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=2e-2 * scale)


def test_hidden_units_are_not_kept_for_the_backward_pass(monkeypatch):
    monkeypatch.setattr(mlp_head, "_TRAINED_BYTES", 64 * 4 * 10)
    head, rows = draw_head(4, 64, torch.float32), torch.randn(100, 4, requires_grad=True)
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        head.trainable_logits(rows).sum().backward()
    assert max(kept) <= 64 * 10  # of one part at a time, while it is computed again


def test_gradients_of_parts():
    head, rows = draw_head(4, 6, torch.float64), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    parameters = [tensor.requires_grad_() for tensor in (head.weight_FS, head.bias_F, head.out_F)]

    def logits(x, *weights):
        return MlpHead(*weights).trainable_logits(x)

    assert torch.autograd.gradcheck(logits, [rows, *parameters])


@pytest.mark.parametrize("way", ["eager", "native"])
def test_halves_do_not_round_the_sum(way):
    if way == "native" and amx().library is None:
        pytest.skip(amx().reason)
    head, rows = draw_head(32, 256, torch.float32), torch.randn(500, 32)
    with simmax.using(way):
        found = head.logits(rows, halves=True)
    assert found.dtype == torch.float32
    assert (found != found.bfloat16().float()).float().mean() > 0.9


@pytest.mark.parametrize("way", ["eager", "native"])
def test_nan_stays_nan(way):
    if way == "native" and amx().library is None:
        pytest.skip(amx().reason)
    head, rows = draw_head(32, 64, torch.float32), torch.randn(40, 32)
    rows[7] = torch.nan
    with simmax.using(way):
        for halves in (False, True):
            assert head.logits(rows, halves=halves).isnan().nonzero().tolist() == [[7]]


def test_no_rows():
    head = draw_head(32, 64, torch.float32)
    assert head.logits(torch.empty(0, 32), halves=True).shape == (0,)
