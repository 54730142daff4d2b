"""The Triton kernel: its values under Triton's interpreter, and that it compiles for Hopper; both without a GPU.

Triton decides at its import whether it interprets, so those tests (``interpreted_...``) run in a process of their own.
"""

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.kernels import simmax
from reid.kernels.simmax import _triton
from tests.reference.similarity import maxima as slow_maxima

pytest.importorskip("triton")

FOLDER = Path(__file__).parents[2]
HOPPER_SHARED_BYTES = 227 * 1024


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def draw_weight(num_positions: int, seed: int = 2) -> torch.Tensor:
    """Of both signs, with zeros, and nothing that half precision would round."""
    weight = draw(num_positions, num_positions, seed=seed).half().float()
    return torch.where(weight.abs() < 0.1, 0.0, weight)


def test_under_the_interpreter():
    options = ["-o", "python_functions=interpreted", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, *options],
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"} | {"TRITON_INTERPRET": "1"},
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout


def similarities(query: torch.Tensor, gallery: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    map_QGSS = torch.einsum("gsd,qtd->qgst", gallery.double(), query.double())
    return map_QGSS if weight is None else map_QGSS * weight.double()


def assert_maxima_are_at(position: torch.Tensor, map_QGSS: torch.Tensor, **tolerance: float) -> None:
    assert position.dtype == torch.int32
    over_gallery = map_QGSS.gather(2, position[0].long()[:, :, None])[:, :, 0]
    over_query = map_QGSS.gather(3, position[1].long()[..., None])[..., 0]
    torch.testing.assert_close(over_gallery, map_QGSS.amax(2), **tolerance)
    torch.testing.assert_close(over_query, map_QGSS.amax(3), **tolerance)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 5, 70, 20), (5, 2, 130, 100), (2, 1, 192, 512)])
def interpreted_values_are_those_of_loops(sizes, dtype, weighted):
    num_query, num_gallery, num_positions, dim = sizes
    query = draw(num_query, num_positions, dim, dtype=dtype)
    gallery = draw(num_gallery, num_positions, dim, seed=1, dtype=dtype)
    weight = draw_weight(num_positions) if weighted else None
    wanted = slow_maxima(query.numpy(), gallery.numpy(), None if weight is None else weight.numpy())
    found, position = _triton.maxima_and_positions(query, gallery, weight)
    for values in (_triton.maxima(query, gallery, weight), found):
        assert values.dtype == torch.float32
        np.testing.assert_allclose(values[0].numpy(), wanted[0], rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(values[1].numpy(), wanted[1], rtol=1e-5, atol=1e-4)
    assert_maxima_are_at(position, similarities(query, gallery, weight), rtol=1e-5, atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 70),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from([torch.float16, torch.float32]),
    st.integers(0, 2**16),
)
def interpreted_values_are_exact_for_whole_numbers(num_query, num_gallery, num_positions, dim, weighted, dtype, seed):
    query = draw(num_query, num_positions, dim, seed=seed).round().to(dtype)  # many ties
    gallery = draw(num_gallery, num_positions, dim, seed=seed + 1).round().to(dtype)
    weight = draw(num_positions, num_positions, seed=seed + 2).round() if weighted else None
    wanted = slow_maxima(query.numpy(), gallery.numpy(), None if weight is None else weight.numpy())
    values, position = _triton.maxima_and_positions(query, gallery, weight)
    assert torch.equal(_triton.maxima(query, gallery, weight), values)
    np.testing.assert_array_equal(values.numpy(), np.stack(wanted))
    assert_maxima_are_at(position, similarities(query, gallery, weight), rtol=0.0, atol=0.0)


def interpreted_float32_is_not_rounded():
    fine = torch.full((1, 1, 1), 1 + 2**-20)  # its square needs more than the 11 bits of TF32
    weight = torch.full((1, 1), 1 + 2**-20)
    assert _triton.maxima(fine, fine, weight)[0].item() == pytest.approx((1 + 2**-20) ** 3, abs=2**-23)


def interpreted_ties_go_to_the_same_position_each_time():
    ones = torch.ones(2, 70, 16, dtype=torch.float16)
    _, position = _triton.maxima_and_positions(ones, ones, None)
    assert torch.equal(position, _triton.maxima_and_positions(ones, ones, None)[1])
    assert position.min() >= 0
    assert position.max() < 70


def interpreted_images_may_lie_apart():
    keys = draw(4, 3, 34, 48, dtype=torch.float16)  # images, levels, positions, channels
    query, gallery, weight = keys[:, 1], keys[::2, 2], draw_weight(34)
    assert _triton._aligned(query).data_ptr() == query.data_ptr()  # read where it is
    copies = _triton.maxima(query.contiguous(), gallery.contiguous(), weight)
    assert torch.equal(_triton.maxima(query, gallery, weight), copies)


def interpreted_channels_may_lie_apart():
    query, gallery = draw(48, 5, 2).permute(1, 2, 0), draw(3, 2, 96, seed=1)[:, :, ::2]
    assert torch.equal(_triton.maxima(query, gallery, None), _triton.maxima(query.clone(), gallery.clone(), None))


@pytest.mark.parametrize("weighted", [False, True])
def interpreted_a_nan_reaches_all_pairs_of_its_image_only(weighted):
    query, gallery = draw(3, 40, 8, dtype=torch.float16), draw(4, 40, 8, seed=1, dtype=torch.float16)
    query[1, 39, 7] = gallery[2, 0, 0] = torch.nan
    weight = draw_weight(40) if weighted else None
    values, position = _triton.maxima_and_positions(query, gallery, weight)
    for found in (_triton.maxima(query, gallery, weight), values):
        assert found[:, 1].isnan().all()
        assert found[:, :, 2].isnan().all()
        assert found[:, [0, 2]][:, :, [0, 1, 3]].isfinite().all()
    assert position.min() >= 0
    assert position.max() < 40


def interpreted_infinite_values_stay():
    low = torch.full((1, 2, 1), -torch.inf)
    values, position = _triton.maxima_and_positions(low, -low.sign(), None)
    assert (values == -torch.inf).all()
    assert ((position >= 0) & (position < 2)).all()
    assert torch.equal(_triton.maxima(low, -low.sign(), None), values)


def interpreted_no_images_give_no_pairs():
    some, none = draw(2, 4, 16), draw(0, 4, 16)
    assert _triton.maxima(none, some, None).shape == (2, 0, 2, 4)
    values, position = _triton.maxima_and_positions(some, none, None)
    assert values.shape == position.shape == (2, 2, 0, 4)


def interpreted_gradients_are_not_recorded():
    query = draw(2, 4, 16).requires_grad_()
    assert not _triton.maxima(query, query, draw_weight(4).requires_grad_()).requires_grad


def compiled_for_hopper(dtype: str, tile: _triton.Tile, *, weighted: bool, places: bool):
    """What Triton makes of the kernel for S = 192 and D = 512, as it does on the first call on an H100 or H200."""
    import triton  # noqa: PLC0415 - not everywhere
    from triton.backends.compiler import GPUTarget  # noqa: PLC0415
    from triton.compiler import ASTSource  # noqa: PLC0415

    constants = {"BLOCKS": 3, "COLUMNS": tile.columns, "STEP": tile.step, "WHOLE": True}
    constants |= {} if weighted else {"weight": None}
    constants |= {} if places else {"place": None}
    pointers = {"query": dtype, "gallery": dtype, "weight": "fp32" if dtype == "fp32" else "fp16", "query_nan": "fp32"}
    pointers |= {"gallery_nan": "fp32", "over_gallery": "fp32", "over_query": "i64" if places else "fp32"}
    pointers |= {"place": "i32"}
    kernel = _triton._kernel
    kinds = dict.fromkeys(kernel.arg_names, "i32") | {name: f"*{kind}" for name, kind in pointers.items()}
    kinds |= dict.fromkeys(constants, "constexpr")
    by_16 = [("tt.divisibility", 16)]
    odd = {"num_query", "num_gallery", *constants}
    hints = {(index,): by_16 for index, name in enumerate(kernel.arg_names) if name not in odd}
    return triton.compile(
        ASTSource(kernel, {name: kinds[name] for name in kernel.arg_names}, constants, hints),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": _triton._WARPS, "num_stages": tile.stages},
    )


@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_it_compiles_for_hopper(tmp_path, monkeypatch, dtype, weighted, places):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    wide = _triton.NARROW if places else _triton.WIDE
    tile = _triton.SINGLE if dtype == "fp32" else wide
    compiled = compiled_for_hopper(dtype, tile, weighted=weighted, places=places)
    assert compiled.asm["cubin"]
    assert 0 < compiled.metadata.shared <= HOPPER_SHARED_BYTES
    assert ("wgmma.mma_async" in compiled.asm["ptx"]) == (dtype != "fp32")
    # similarities go from the accumulators to the maxima within registers
    whole = f"tensor<128x{tile.columns}xf32"
    moved = [line for line in compiled.asm["ttgir"].splitlines() if "convert_layout" in line and whole in line]
    assert dtype == "fp32" or not moved


def test_why_it_cannot_run(monkeypatch):
    def reason() -> str:
        _triton.obstacle.cache_clear()
        return _triton.obstacle()

    try:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert reason() == "there is no CUDA device"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
        assert "older than compute capability 8.0" in reason()
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        monkeypatch.setattr(shutil, "which", lambda name: None)
        assert "C compiler" in reason()
        monkeypatch.setattr(shutil, "which", lambda name: "/bin/gcc" if name == "gcc" else None)
        monkeypatch.setattr(sysconfig, "get_path", lambda name: str(FOLDER))
        assert "headers" in reason()
        monkeypatch.setattr(Path, "exists", lambda path: path.name == "Python.h")
        assert reason() == ""
    finally:
        _triton.obstacle.cache_clear()


def test_it_imports_without_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, _triton.__name__)
    monkeypatch.setattr(simmax, "_triton", None)
    without = importlib.import_module(_triton.__name__)
    assert without is not _triton
    assert without.obstacle() == "triton is not installed"


@pytest.mark.skipif(_triton.obstacle() != "", reason=_triton.obstacle())
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("sizes", [(5, 7, 192, 512), (3, 2, 100, 72), (9, 33, 128, 128), (1, 1, 1, 1)])
def test_on_a_gpu(sizes, dtype, weighted):
    num_query, num_gallery, num_positions, dim = sizes
    query = draw(num_query, num_positions, dim, dtype=dtype).cuda()
    gallery = draw(num_gallery, num_positions, dim, seed=1, dtype=dtype).cuda()
    weight = draw_weight(num_positions).cuda() if weighted else None
    map_QGSS = similarities(query, gallery, weight)
    values, position = _triton.maxima_and_positions(query, gallery, weight)
    for found in (_triton.maxima(query, gallery, weight), values):
        torch.testing.assert_close(found[0].double(), map_QGSS.amax(2), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found[1].double(), map_QGSS.amax(3), rtol=1e-4, atol=1e-3)
    assert_maxima_are_at(position, map_QGSS, rtol=1e-4, atol=1e-3)
    again = _triton.maxima_and_positions(query, gallery, weight)
    assert torch.equal(again[0], values)
    assert torch.equal(again[1], position)
