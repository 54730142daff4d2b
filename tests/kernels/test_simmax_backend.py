import pytest
import torch

from reid.kernels import native
from reid.kernels.simmax import _backend, _triton, backend, describe, similarity_maxima, using
from reid.kernels.simmax._backend import multiplied_dtype


def test_which_way_is_taken(monkeypatch):
    features = torch.randn(2, 5, 4)
    assert backend(features, 10**9) == "eager"
    assert backend(features.bfloat16(), 10**4) == ("native" if native.amx().library else "eager")
    with using("eager"):
        assert backend(features.bfloat16(), 10**9) == "eager"
    with pytest.raises(ValueError, match="fast"), using("fast"):
        pass
    monkeypatch.setattr(native, "amx", lambda: native.Native(None, "none here"))
    monkeypatch.setattr(_backend, "_without_compiler", lambda: "")
    assert backend(features.bfloat16(), 10**4) == "eager"
    assert backend(features.bfloat16(), 10**9) == "compiled"
    monkeypatch.setattr(_backend, "_without_compiler", lambda: "none")
    assert backend(features.bfloat16(), 10**9) == "eager"


def test_torch_compile_needs_what_it_asks_for(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _backend._without_compiler() == "torch.compile needs g++"
    (tmp_path / "c++").touch(0o755)
    assert _backend._without_compiler() == "torch.compile needs g++"
    (tmp_path / "mine").touch(0o755)
    monkeypatch.setenv("CXX", "mine")
    monkeypatch.setattr(_backend.sysconfig, "get_path", lambda _: str(tmp_path))
    assert _backend._without_compiler() == "torch.compile needs Python's C headers"
    (tmp_path / "Python.h").touch()
    assert _backend._without_compiler() == ""


@pytest.mark.parametrize(
    ("flags", "library", "with_grad", "wanted"),
    [
        ({"amx_bf16"}, True, False, torch.bfloat16),
        ({"amx_bf16"}, True, True, torch.bfloat16),
        ({"avx512_bf16"}, False, False, torch.bfloat16),
        ({"avx512_bf16"}, False, True, torch.float32),
        ({"avx512f"}, False, False, torch.float32),
        (set(), False, False, torch.float32),
    ],
)
def test_bfloat16_is_multiplied_only_where_that_pays(monkeypatch, flags, library, with_grad, wanted):
    monkeypatch.setattr(native, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(native, "amx", lambda: AMX if library else NO_AMX)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert multiplied_dtype(cpu, torch.bfloat16, with_grad=with_grad) == wanted
    assert multiplied_dtype(cpu, torch.float16, with_grad=with_grad) == torch.float32
    assert multiplied_dtype(cpu, torch.float64, with_grad=with_grad) == torch.float64
    assert multiplied_dtype(cuda, torch.bfloat16, with_grad=with_grad) == torch.bfloat16
    one, other = torch.randn(2, 3, 4).bfloat16(), torch.randn(2, 3, 4).bfloat16()
    if wanted == torch.float32 and not with_grad:  # then nothing is rounded
        exact = similarity_maxima(one.double(), other.double()).both
        torch.testing.assert_close(similarity_maxima(one, other).both.double(), exact, rtol=1e-6, atol=1e-6)


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


BF16, OLD = {"avx512_bf16"}, {"avx2"}


@pytest.mark.parametrize(
    ("dtype", "with_grad", "found", "flags", "obstacle", "said"),
    [
        (torch.bfloat16, False, AMX, BF16, "", "native AMX kernel, products in bfloat16"),
        (torch.bfloat16, True, AMX, BF16, "", "native AMX kernel, products in bfloat16"),
        (torch.float16, False, AMX, BF16, "", "PyTorch, products in float32; in bfloat16 the native"),
        (torch.float32, True, NO_AMX, BF16, "", "PyTorch, products in float32"),
        (torch.bfloat16, False, NO_AMX, BF16, "", "torch.compile, products in bfloat16 (no native kernel: the CPU"),
        (torch.bfloat16, False, NO_AMX, BF16, "none", "PyTorch, products in bfloat16 (no native kernel: the CPU lacks"),
        (torch.bfloat16, True, NO_AMX, BF16, "", "PyTorch, products in float32 (no native kernel: the CPU lacks"),
        (torch.bfloat16, False, NO_AMX, OLD, "", "PyTorch, products in float32 (no native kernel: the CPU lacks"),
    ],
)
def test_the_way_is_told_with_its_reason(monkeypatch, dtype, with_grad, found, flags, obstacle, said):
    monkeypatch.setattr(native, "amx", lambda: found)
    monkeypatch.setattr(native, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(_backend, "_without_compiler", lambda: obstacle)
    assert describe(torch.device("cpu"), dtype, with_grad=with_grad).startswith(said)
