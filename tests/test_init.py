import shutil
import subprocess
import sys

import pytest
import torch

import reid
from reid.errors import CheckpointError, ConfigError
from reid.train import train


def test_importing_reid_does_not_import_torch():
    program = "import reid, sys; print([name for name in ('torch', 'numpy', 'typer') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_load_encode_and_score(tiny, new_run, session, tmp_path, drawn_root):
    run = new_run(tiny)
    trained = train(run, session)
    shutil.move(run.path, tmp_path / "moved")
    model = reid.load(str(tmp_path / "moved"), device="cpu")
    images = sorted((drawn_root / "market" / "query").iterdir())
    query, gallery = model.encode(images[:2]), model.encode(images)
    score_QG = model.score(query, gallery)
    assert score_QG.shape == (2, len(images))
    assert torch.equal(score_QG, trained.score(trained.encode(images[:2]), trained.encode(images)))


def test_load_says_what_is_missing(tmp_path, tiny, new_run):
    with pytest.raises(CheckpointError, match="wanted a run folder"):
        reid.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="Train first"):
        reid.load(new_run(tiny).path)


@pytest.mark.parametrize("device", ["gpu", "cuda:9"])
def test_load_wants_a_device_that_is_there(tiny, new_run, session, device):
    run = new_run({**tiny, "stage": []})
    train(run, session)
    with pytest.raises(ConfigError, match=f"device {device}: cannot be used here"):
        reid.load(run.path, device)
