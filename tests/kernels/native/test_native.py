import stat
import subprocess
from pathlib import Path

import pytest

from reid.kernels import native


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """No kernel loaded yet, and an empty place to keep compiled ones."""
    monkeypatch.setenv("REID_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.delenv("REID_NATIVE", raising=False)
    monkeypatch.setattr(native, "cpu_flags", lambda: native._NEEDED)
    native.amx.cache_clear()
    yield tmp_path
    native.amx.cache_clear()


def fake_compiler(folder, script: str):
    path = folder / "fake-c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_the_switch(fresh, monkeypatch):
    monkeypatch.setenv("REID_NATIVE", "0")
    assert native.amx() == native.Native(None, "REID_NATIVE is 0")


def test_a_cpu_without_the_instructions(fresh, monkeypatch):
    monkeypatch.setattr(native, "cpu_flags", lambda: native._NEEDED - {"amx_bf16", "fma"})
    assert native.amx().reason == "the CPU lacks amx_bf16, fma"


def test_no_compiler(fresh, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(native, "COMPILERS", ("no-such-compiler",))
    assert native.compiler() is None
    assert "no C++ compiler; install g++" in native.amx().reason


def test_a_compiler_that_fails_leaves_nothing(fresh, monkeypatch):
    monkeypatch.setenv("CXX", fake_compiler(fresh, "echo 'error: unknown option' >&2; exit 1"))
    assert native.amx().reason == "amx.cpp could not be compiled or loaded: error: unknown option"
    assert list((fresh / "kernels").iterdir()) == []


def test_a_compiler_that_writes_no_library(fresh, monkeypatch):
    monkeypatch.setenv("CXX", fake_compiler(fresh, 'for last; do :; done; echo text > "$last"'))
    assert "could not be compiled or loaded" in native.amx().reason


def test_a_folder_that_cannot_be_written(fresh, monkeypatch):
    (fresh / "file").write_text("")
    monkeypatch.setenv("REID_KERNELS", str(fresh / "file"))
    monkeypatch.setenv("CXX", fake_compiler(fresh, "exit 0"))
    assert "could not be compiled or loaded" in native.amx().reason


@pytest.mark.slow
@pytest.mark.skipif(native.amx().library is None, reason=native.amx().reason)
def test_compiled_once_and_kept(fresh, monkeypatch):
    assert native.amx().reason == ""
    (kept,) = native.cache_folder().iterdir()

    def no_compiling(*_args, **_options):
        raise AssertionError("compiled a second time")

    monkeypatch.setattr(subprocess, "run", no_compiling)
    native.amx.cache_clear()
    assert native.amx().library is not None
    assert list(native.cache_folder().iterdir()) == [kept]


def test_without_a_home_folder(monkeypatch, fresh):
    monkeypatch.delenv("REID_KERNELS", raising=False)

    def homeless(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert "Could not determine home directory" in native.amx().reason
