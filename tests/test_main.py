"""``python -m reid`` in a process of its own."""

import os
import subprocess
import sys

import pytest

from reid.engine.checkpoint import saved_epochs


def reid(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "reid", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def test_help(tmp_path):
    done = reid("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Train a person matcher" in done.stdout


def test_an_error_is_one_message_on_standard_error(tmp_path):
    done = reid("run", "none.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("ConfigError: none.toml: no such file")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_run_with_workers(tmp_path, toml, tiny, drawn_root):
    done = reid("run", toml(tiny), "--workers", 2, cwd=tmp_path, REID_DATA=str(drawn_root))
    assert done.returncode == 0, done.stderr
    assert "results, pictures and the trained model: runs/tiny" in done.stdout
    assert saved_epochs(tmp_path / "runs" / "tiny" / "checkpoints") == [1, 2]
    assert "Warning" not in done.stderr
    again = reid("table", "runs/tiny", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout.strip() in done.stdout


@pytest.mark.slow
def test_a_truncated_image_in_a_worker(tmp_path, toml, tiny, data_root):
    for path in (data_root / "market" / "bounding_box_train").iterdir():
        path.write_bytes(path.read_bytes()[:400])
    done = reid("train", toml(tiny), "--workers", 2, "--data", data_root, cwd=tmp_path)
    assert done.returncode == 2
    assert "ImageError: " in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_our_own_mistake_keeps_its_traceback(tmp_path):
    program = "import sys; sys.argv = ['reid', 'table', 'x'];\nimport reid.cli_results as r, reid.cli"
    program += "\nr.read_results = 3\nreid.cli.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "TypeError: 'int' object is not callable" in done.stderr
