"""What the README shows is run: Python blocks as they stand, commands on tiny settings, TOML through the schema."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from reid.build import component_config
from reid.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = [
    "image_size=[64, 32]",
    "stage.0.epochs=1",
    "stage.0.sampler.num_batches=1",
    "stage.0.sampler.num_pids=2",
    "stage.0.sampler.num_images=2",
    "stage.0.augment.pad_px=2",
]
TINY_PEOPLE = {"num_train_pids": 3, "num_test_pids": 2, "num_distractors": 1, "num_junk": 1, "images_per_camera": 1}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands():
    """What the README shows, after the part of ``make demo`` that it builds on."""
    shown = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("reid ")]
    return ["reid run experiments/synthped_embedding.toml", *shown]


def tiny(words):
    """The same command with settings that take a second."""
    if "--top-k" in words:
        words[words.index("--top-k") + 1] = "2"
    if "k_reciprocal" in words:
        words += ["--set", "evaluation.rerank=[{name='k_reciprocal', k1=2, k2=1}]"]
    if not {"run", "train"} & set(words[:1]):
        return words
    narrow = ["matcher.neck_dim=16" if "embedding" in words[1] else "matcher.dim=16"]
    sets = (
        TINY
        + narrow
        + [f"{key}.{number}.{name}={value}" for name, value in TINY_PEOPLE.items() for key, number in PARTS]
    )
    return [*words, *(part for setting in sets for part in ("--set", setting)), "--workers", "0"]


PARTS = [("source", 0), ("target", 0), ("target", 1), ("target", 2)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the README's commands have run, in their order."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    return folder


@pytest.mark.slow
def test_commands_and_python_run_in_order(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REID_DATA", str(folder / "data"))
    small = [part for name, value in TINY_PEOPLE.items() for part in ("--set", f"{name}={value}")]
    for command in commands():
        words = tiny(command.split()[1:])
        if words[:2] == ["data", "check"]:
            words += small
        outcome = CliRunner().invoke(app, words)
        assert outcome.exit_code == 0, f"{command}: {outcome.output}{outcome.exception!r}"
    for name in ("alice", "bob", "alice_again"):
        Image.effect_noise((64, 128), 60).convert("RGB").save(folder / f"{name}.jpg")
    for block in blocks("python"):
        shown = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=folder, check=False)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("tensor([[")


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {word for text in (README, *blocks("sh")) for word in re.findall(r"make (\w+)", text)}
    assert targets >= {"demo", "test", "check", "bench"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_toml_blocks_fit_the_schema():
    tables = [tomllib.loads(block) for block in blocks("toml")]
    assert tables
    for table in tables:
        for target in table["target"]:
            component_config("dataset", target, "README")


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_experiments_named_exist():
    for name in re.findall(r"experiments/\w+\.toml", README):
        assert (ROOT / name).exists(), name
