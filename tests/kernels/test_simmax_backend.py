import pytest
import torch

from reid.kernels import native
from reid.kernels.simmax import _triton, backend, describe, using


def test_which_way_is_taken(monkeypatch):
    features = torch.randn(2, 5, 4)
    assert backend(features, 10**9) == "eager"
    assert backend(features.bfloat16(), 10**4) == ("native" if native.amx().library else "eager")
    with using("eager"):
        assert backend(features.bfloat16(), 10**9) == "eager"
    with pytest.raises(ValueError, match="fast"), using("fast"):
        pass
    monkeypatch.setattr(native, "amx", lambda: native.Native(None, "none here"))
    assert backend(features.bfloat16(), 10**4) == "eager"
    assert backend(features.bfloat16(), 10**9) == ("compiled" if native.compiler() else "eager")
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert backend(features.bfloat16(), 10**9) == "eager"


AMX, NO_AMX = native.Native(object(), ""), native.Native(None, "the CPU lacks amx_tile")


@pytest.mark.parametrize(
    ("dtype", "obstacle", "said"),
    [
        (torch.float16, "", "Triton kernel, products in float16"),
        (torch.bfloat16, "", "Triton kernel, products in bfloat16"),
        (torch.bfloat16, "none", "PyTorch (no Triton kernel: none), products in bfloat16"),
        (torch.float32, "", "PyTorch (no Triton kernel: it is for half precision, not float32), products in float32"),
    ],
)
def test_the_way_on_cuda(monkeypatch, dtype, obstacle, said):
    monkeypatch.setattr(_triton, "obstacle", lambda: obstacle)
    assert describe(torch.device("cuda"), dtype) == said


@pytest.mark.parametrize(
    ("dtype", "with_grad", "found", "compiler", "said"),
    [
        (torch.bfloat16, False, AMX, "g++", "native AMX kernel, products in bfloat16"),
        (torch.bfloat16, True, AMX, "g++", "native AMX kernel, products in bfloat16"),
        (torch.float16, False, AMX, "g++", "PyTorch, products in float32; in bfloat16 the native"),
        (torch.float32, True, NO_AMX, "g++", "PyTorch, products in float32"),
        (torch.bfloat16, False, NO_AMX, "g++", "torch.compile, products in bfloat16 (no native kernel: the CPU lacks"),
        (torch.bfloat16, False, NO_AMX, None, "PyTorch, products in bfloat16 (no native kernel: the CPU lacks amx"),
        (torch.bfloat16, True, NO_AMX, "g++", "PyTorch, products in float32 (no native kernel: the CPU lacks"),
    ],
)
def test_the_way_is_told_with_its_reason(monkeypatch, dtype, with_grad, found, compiler, said):
    monkeypatch.setattr(native, "amx", lambda: found)
    monkeypatch.setattr(native, "compiler", lambda: compiler)
    assert describe(torch.device("cpu"), dtype, with_grad=with_grad).startswith(said)
