import json
import re
import subprocess

import pytest

from reid import runs
from reid.engine.log import TrainingLog
from reid.errors import CheckpointError, ConfigError, StorageError
from reid.experiment import resolve
from reid.runs import (
    RunFolder,
    commit,
    create_run,
    discard_unbegun,
    environment,
    free_run_path,
    resume_run,
)


@pytest.fixture
def experiment(tiny):
    return resolve(tiny, "x.toml")


def test_a_run_remembers_its_experiment(experiment, tmp_path):
    run = create_run(tmp_path / "a" / "run", experiment)
    assert run.experiment() == experiment
    assert resume_run(run.path, experiment) == run
    assert run.path.rename(tmp_path / "moved").is_dir()
    assert RunFolder(tmp_path / "moved").experiment() == experiment


def test_a_run_is_not_overwritten(experiment, tmp_path, files_below):
    create_run(tmp_path / "run", experiment)
    before = files_below(tmp_path)
    with pytest.raises(ConfigError, match=r"holds a run already\. Continue it with --resume"):
        create_run(tmp_path / "run", experiment.model_copy(update={"seed": 5}))
    assert files_below(tmp_path) == before


def test_a_file_in_the_way(experiment, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(StorageError, match="wanted a folder for the run, found a file"):
        create_run(tmp_path / "run", experiment)
    with pytest.raises(StorageError, match="cannot be written"):
        create_run(tmp_path / "run" / "below", experiment)
    assert (tmp_path / "run").read_text() == "mine"


def test_resuming_with_another_configuration_names_what_differs(experiment, tmp_path):
    create_run(tmp_path / "run", experiment)
    other = experiment.model_copy(update={"seed": 5, "image_size": (32, 16)})
    with pytest.raises(ConfigError, match=r"another configuration \(image_size, seed differ\)"):
        resume_run(tmp_path / "run", other)


def test_resuming_nothing(experiment, tmp_path):
    with pytest.raises(CheckpointError, match=r"wanted a run folder with config\.toml, found none"):
        resume_run(tmp_path / "none", experiment)


def test_free_names_are_numbered(tmp_path):
    found = []
    for _ in range(3):
        path = free_run_path(tmp_path, "x")
        path.mkdir()
        found.append(path.name)
    assert found == ["x", "x_2", "x_3"]


def test_the_environment_says_versions_and_no_names(experiment, tmp_path):
    run = create_run(tmp_path / "run", experiment)
    found = json.loads((run.path / "environment.json").read_text())
    assert found == environment()
    assert found["packages"].keys() == set(runs.PACKAGES)
    assert "/" not in json.dumps(found)
    assert re.search(r", \d+ threads", found["machine"])


def test_the_commit_is_gits_or_the_version(monkeypatch, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(runs, "CHECKOUT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert re.fullmatch(r"v\d+\.\d+\.\d+", commit())
    (tmp_path / "file").write_text("1")
    git("init")
    git("add", "file")
    git("commit", "-m", "one")
    assert re.fullmatch(r"[0-9a-f]{7,}", commit())
    (tmp_path / "file").write_text("2")
    assert re.fullmatch(r"[0-9a-f]{7,}\+", commit())


def test_targets_and_rules_can_be_tried_and_nothing_else(experiment, tmp_path):
    run = create_run(tmp_path / "run", experiment)
    changed = run.experiment(["evaluation.camera_rule=false", "target=[]"])
    assert (changed.evaluation.camera_rule, changed.target) == (False, ())
    assert changed.model_copy(update={"evaluation": experiment.evaluation, "target": experiment.target}) == experiment
    assert run.experiment() == experiment
    for assignment in ("seed=5", "source=[]", "matcher.dim=8", "title=x", "validation_pids=2", "backbone.depth=34"):
        key = assignment.partition("=")[0].partition(".")[0]
        with pytest.raises(ConfigError, match=rf"training cannot be changed any more \({key}\)\. Set keys of target"):
            run.experiment(["evaluation.camera_rule=false", assignment])


@pytest.mark.parametrize("there", ["environment.json", "events/mine", "log.jsonl", "photo.jpg"])
def test_a_folder_with_something_in_it_is_not_taken_for_a_run(there, experiment, tmp_path):
    (tmp_path / "mine" / there).parent.mkdir(parents=True)
    (tmp_path / "mine" / there).write_text("mine")
    name = there.partition("/")[0]
    with pytest.raises(ConfigError, match=rf"mine: wanted a new or empty folder for the run, found {name} in it"):
        create_run(tmp_path / "mine", experiment)
    assert (tmp_path / "mine" / there).read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert create_run(tmp_path / "empty", experiment).config.exists()


def test_what_failed_before_it_saved_anything_is_removed(experiment, tmp_path):
    run = create_run(tmp_path / "run", experiment)
    TrainingLog(run.path).close()
    discard_unbegun(run)
    assert list(tmp_path.iterdir()) == []
    run = create_run(tmp_path / "run", experiment)
    (run.path / "mine.txt").write_text("mine")
    discard_unbegun(run)
    assert [path.name for path in run.path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kept", ["checkpoints/epoch_1/model.safetensors", "results.json"])
def test_what_saved_something_stays(kept, experiment, tmp_path, files_below):
    run = create_run(tmp_path / "run", experiment)
    (run.path / kept).parent.mkdir(parents=True, exist_ok=True)
    (run.path / kept).write_text("x")
    before = files_below(tmp_path)
    discard_unbegun(run)
    assert files_below(tmp_path) == before
