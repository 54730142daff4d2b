import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from reid import cli, cli_results, pictures
from reid.cli import app
from reid.engine.checkpoint import saved_epochs
from reid.errors import StorageError
from reid.evaluation.results import read_results
from reid.protocols._base import Protocol, Transfer

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}


@pytest.fixture
def untrained(tiny):
    """An experiment that takes no time."""
    return {**tiny, "title": "untrained", "stage": []}


@pytest.fixture
def folder_set(data_root):
    """A data set whose people are all in two cameras, as a CSV."""
    images = sorted((data_root / "market" / "query").glob("*.jpg"))
    lines = [f"{path},{path.name[:4]},{path.name[6]},query" for path in images]
    lines += [f"{path},{path.name[:4]},{path.name[6]},gallery" for path in images]
    (data_root / "mine.csv").write_text("path,pid,camid,split\n" + "\n".join(lines) + "\n")
    return {"name": "folder", "root": "mine.csv"}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (
            [],
            [
                "Train a person matcher",
                "run",
                "train",
                "evaluate",
                "table",
                "record",
                "convert",
                "curve",
                "match",
                "correspond",
            ],
        ),
        (
            ["run"],
            ["Train, test and report", "--out", "stage.0.epochs=3", "--device", "runs/NAME", "leave_one_out_all"],
        ),
        (["train"], ["without testing", "--resume", "--workers", "stage.0.epochs=3"]),
        (["evaluate"], ["Test the model of a run", "--data", "evaluation.camera_rule=false", "results_2.json"]),
        (["table"], ["beside the published numbers"]),
        (["match"], ["where two images match", "--run", "--out"]),
        (["correspond"], ["where a run's matcher finds correspondences", "--pairs"]),
        (["data"], ["list", "check", "make"]),
        (["data", "list"], ["List all data sets"]),
        (["data", "check"], ["published counts", "--deep", "--root", "expected_counts=none"]),
        (["data", "make"], ["Draw or convert"]),
    ],
)
def test_help_says_what_a_verb_does(verb, words):
    result = CliRunner().invoke(app, [*verb, "--help"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    for word in words:
        assert word in text


def test_run_is_the_main_job(reid, toml, tiny, drawn_root, tmp_path):
    out = tmp_path / "out"
    code, shown, _ = reid("run", toml(tiny), "--data", drawn_root, "--out", out, "--device", "cpu", "--workers", 0)
    assert code == 0
    row = next(line for line in shown.splitlines() if line.startswith("| market1501"))
    assert "transmatcher" in row
    assert "counts unchecked" in row
    assert shown.rstrip().endswith(f"results, pictures and the trained model: {out}")
    assert {path.name for path in out.iterdir()} == {
        "checkpoints",
        "config.toml",
        "environment.json",
        "events",
        "figures",
        "log.jsonl",
        "results.json",
    }


@pytest.mark.usefixtures("no_pictures")
def test_run_takes_the_next_free_folder(reid, toml, untrained, drawn_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REID_DATA", str(drawn_root))
    for name in ("tiny", "tiny_2"):
        code, shown, _ = reid("run", toml(untrained), "--workers", 0)
        assert code == 0
        assert shown.rstrip().endswith(f"runs/{name}")
        assert (tmp_path / "runs" / name / "results.json").exists()


@pytest.mark.usefixtures("no_pictures")
def test_several_experiments_are_compared(reid, toml, tiny, untrained, drawn_root, tmp_path):
    files = toml(tiny, "first.toml"), toml(untrained, "second.toml")
    code, shown, _ = reid("run", *files, "--data", drawn_root, "--out", tmp_path / "out", "--workers", 0)
    assert code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"first", "second"}
    assert re.search(r"\| market1501 +\| tiny +\| untrained +\| [+-]\d+\.\d \(", shown)
    assert shown.count("the trained model:") == 2


def test_all_experiments_are_looked_at_before_the_first_is_trained(reid, toml, tiny, drawn_root, tmp_path):
    bad = toml({**tiny, "matcher": {"name": "transmatchr"}}, "bad.toml")
    code, _, error = reid("run", toml(tiny), bad, "--data", drawn_root, "--out", tmp_path / "out")
    assert (code, list(tmp_path.glob("out/**"))) == (2, [])
    assert "bad.toml [matcher]: no matcher named 'transmatchr'. Did you mean 'transmatcher'?" in error
    (tmp_path / "out" / "other").mkdir(parents=True)
    (tmp_path / "out" / "other" / "config.toml").write_text("")
    code, _, error = reid("run", toml(tiny), toml(tiny, "other.toml"), "--data", drawn_root, "--out", tmp_path / "out")
    assert code == 2
    assert "holds a run already" in error
    assert not (tmp_path / "out" / "tiny" / "log.jsonl").exists()


@pytest.mark.usefixtures("no_pictures")
def test_protocol_repeats_the_experiment(reid, toml, untrained, data_root, folder_set, tmp_path, monkeypatch):
    transfers = tuple(Transfer((MARKET,), (target,)) for target in (MARKET, folder_set))
    monkeypatch.setattr(cli, "find_protocol", lambda name: Protocol(name, "two", "ours", transfers))
    code, shown, _ = reid(
        "run", toml(untrained), "--protocol", "two", "--data", data_root, "--out", tmp_path / "out", "--workers", 0
    )
    assert code == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert all((path / "results.json").exists() for path in (tmp_path / "out").iterdir())
    assert "folder (mine)" in shown


def test_an_unknown_protocol(reid, toml, tiny, drawn_root):
    code, _, error = reid("run", toml(tiny), "--protocol", "leave_one", "--data", drawn_root)
    assert code == 2
    assert "Did you mean 'leave_one_out" in error


def test_train_then_evaluate_then_table(reid, toml, tiny, drawn_root, tmp_path):
    out = tmp_path / "out"
    code, shown, _ = reid("train", toml(tiny), "--data", drawn_root, "--out", out, "--workers", 0)
    assert code == 0
    assert f"trained: {out}\ntest it: reid evaluate {out}" in shown
    assert not (out / "results.json").exists()
    code, shown, _ = reid("evaluate", out, "--data", drawn_root, "--workers", 0)
    assert code == 0
    first = next(line for line in shown.splitlines() if line.startswith("| market1501"))
    assert (out / "figures" / "cmc.png").exists()
    shutil.copy(out / "results.json", tmp_path / "copy.json")
    code, shown, _ = reid("table", out, tmp_path / "copy.json")
    assert code == 0
    assert shown.splitlines().count(first) == 2
    assert "+0.0 (+0.0 to +0.0)" in shown


@pytest.mark.usefixtures("no_pictures")
def test_assignments_reach_the_run(reid, toml, tiny, drawn_root, tmp_path):
    arguments = ["--set", "stage.0.epochs=1", "--set", "seed = 7", "--data", drawn_root, "--out", tmp_path / "out"]
    assert reid("run", toml(tiny), *arguments, "--workers", 0)[0] == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["stamp"]["seed"], results["training"]["epochs"]) == (7, 1)


@pytest.mark.usefixtures("no_pictures")
def test_resume_goes_on_and_leaves_a_finished_run_alone(reid, toml, tiny, drawn_root, tmp_path, files_below):
    out = tmp_path / "out"
    common = ["--data", drawn_root, "--out", out, "--workers", 0]
    assert reid("train", toml(tiny), *common)[0] == 0
    assert reid("run", toml(tiny), *common, "--resume")[0] == 0
    before = files_below(out)
    code, shown, _ = reid("run", toml(tiny), *common, "--resume")
    assert (code, files_below(out) == before) == (0, True)
    assert "| market1501" in shown
    shutil.rmtree(out / "checkpoints" / "epoch_2")  # as if stopped before the end; the results are of another epoch
    assert reid("run", toml(tiny), *common, "--resume")[0] == 0
    assert saved_epochs(out / "checkpoints") == [1, 2]


def test_pictures_that_were_interrupted_are_made_up_for(reid, toml, untrained, drawn_root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = ["run", toml(untrained), "--data", drawn_root, "--out", out, "--workers", 0]
    with monkeypatch.context() as patched:
        patched.setattr(pictures, "draw_rank_lists", interrupted)
        assert reid(*arguments)[0] == 2
    assert {path.name for path in (out / "figures").iterdir()} == {"cmc.png"}
    assert reid(*arguments, "--resume")[0] == 0
    assert {path.name for path in (out / "figures").iterdir()} == {"cmc.png", "ranks_market1501.png"}


def interrupted(*_, **__):
    raise StorageError("x.png: the disk is full.")


def test_usage_errors_end_with_2(reid, tmp_path):
    for arguments in (["run"], ["fly"], ["train", tmp_path, "--workers", "-1"], ["table"]):
        code, _, error = reid(*arguments)
        assert code == 2
        assert "Traceback" not in error


def test_evaluate_with_another_rule(reid, toml, untrained, drawn_root, tmp_path):
    run = tmp_path / "run"
    assert reid("train", toml(untrained), "--out", run, "--data", drawn_root)[0] == 0
    code, out, _ = reid("evaluate", run, "--data", drawn_root, "--set", "evaluation.camera_rule=false")
    assert code == 0
    assert "camera rule off" in out
    assert out.rstrip().endswith(f"results: {run / 'results_2.json'}")
    assert (run / "results_2" / "cmc.png").exists()
    assert not (run / "results.json").exists()
    assert not (run / "figures").exists()


@pytest.mark.usefixtures("no_pictures")
def test_evaluate_into_a_new_file(reid, toml, untrained, drawn_root, tmp_path):
    run, file = tmp_path / "run", tmp_path / "other.json"
    assert reid("train", toml(untrained), "--out", run, "--data", drawn_root)[0] == 0
    assert reid("evaluate", run, "--data", drawn_root, "--out", file)[0] == 0
    before = file.read_bytes()
    for wrong in (file, tmp_path / "other"):
        code, _, error = reid("evaluate", run, "--data", drawn_root, "--out", wrong)
        assert code == 2
        assert f"--out {wrong}: wanted a new file named .json" in error
    assert file.read_bytes() == before


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("verb", ["run", "train"])
def test_a_run_that_fails_before_it_saves_anything_is_not_in_the_way(verb, reid, toml, tiny, data_root, tmp_path):
    (data_root / "market").rename(data_root / "elsewhere")
    arguments = [verb, toml(tiny), "--data", data_root, "--workers", 0]
    assert reid(*arguments, "--out", tmp_path / "out")[0] == 2
    assert reid(*arguments)[0] == 2
    assert not (tmp_path / "out").exists()
    (data_root / "elsewhere").rename(data_root / "market")
    assert reid(*arguments, "--out", tmp_path / "out")[0] == 0
    assert reid(*arguments)[0] == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]


def test_runs_that_were_not_reached_are_not_in_the_way(reid, toml, tiny, untrained, drawn_root, tmp_path):
    missing = {**tiny, "source": [{"name": "market1501", "root": "nowhere"}]}
    files = toml(untrained, "first.toml"), toml(missing, "second.toml"), toml(tiny, "third.toml")
    code, _, _ = reid("run", *files, "--data", drawn_root, "--out", tmp_path / "out", "--workers", 0)
    assert code == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["first"]
    assert (tmp_path / "out" / "first" / "results.json").exists()


def test_record_keeps_results_without_ranks_and_table_averages_them(
    reid, toml, untrained, drawn_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(cli_results, "RECORDED", tmp_path / "kept")
    for seed in (0, 1):
        arguments = ("--out", tmp_path / f"run_seed{seed}", "--data", drawn_root, "--set", f"seed={seed}")
        assert reid("run", toml(untrained), *arguments)[0] == 0
    assert reid("record", tmp_path / "run_seed0", tmp_path / "run_seed1" / "results.json")[0] == 0
    kept = sorted((tmp_path / "kept").iterdir())
    assert [path.name for path in kept] == ["run_seed0.json", "run_seed1.json"]
    assert all(json.loads(path.read_text())["targets"][0]["per_query"] is None for path in kept)
    code, out, _ = reid("table", "--mean", *kept)
    assert code == 0
    assert "0, 1" in out
    code, out, _ = reid("table", "--overview", *kept)
    assert code == 0
    assert "| 0, 1 " in out
    code, _, err = reid("table", "--overview", "--mean", *kept)
    assert code == 2
    assert "Choose one" in err
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run_seed0").rename(tmp_path / "elsewhere" / "run_seed1")
    code, _, err = reid("record", tmp_path / "elsewhere" / "run_seed1", tmp_path / "run_seed1")
    assert code == 2
    assert f"two 'run_seed1': {tmp_path / 'elsewhere' / 'run_seed1' / 'results.json'} and {tmp_path}" in err
    for run in ("run_seed1", "elsewhere/run_seed1"):
        shutil.copy(tmp_path / run / "results.json", tmp_path / run / "results_2.json")
    (tmp_path / "elsewhere" / "run_seed1").rename(tmp_path / "run_seed2")
    assert reid("record", *(tmp_path / f"run_seed{seed}" / "results_2.json" for seed in (1, 2)))[0] == 0
    names = {path.name for path in (tmp_path / "kept").iterdir()}
    assert names == {*(path.name for path in kept), "run_seed1_results_2.json", "run_seed2_results_2.json"}


def test_two_targets_of_one_name_are_refused(reid, toml, untrained, drawn_root, tmp_path):
    twice = toml({**untrained, "target": [MARKET, MARKET]})
    code, _, err = reid("run", twice, "--data", drawn_root, "--out", tmp_path / "run")
    assert code == 2
    assert "label" in err
    labelled = [MARKET, {**MARKET, "label": "again"}]
    code, out, _ = reid("run", toml({**untrained, "target": labelled}), "--data", drawn_root, "--out", tmp_path / "run")
    assert code == 0
    assert "again" in out


@pytest.mark.slow
def test_a_terminated_command_clears_up_behind_itself(tmp_path):
    command = [sys.executable, "-c", "from reid.cli import main; main()", "data", "make", "synthped"]
    with subprocess.Popen([*command, "--data", str(tmp_path)], stderr=subprocess.DEVNULL) as drawing:
        while not list(tmp_path.rglob("*.jpg")):
            assert drawing.poll() is None
            time.sleep(0.05)
        drawing.terminate()
    assert drawing.returncode == 128 + signal.SIGTERM
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_second_stage_and_rerankers(reid, toml, tiny, drawn_root, tmp_path, no_pictures):
    data = ("--data", drawn_root, "--workers", "0")
    first, second = tmp_path / "first", tmp_path / "second"
    embedding = toml({**tiny, "matcher": {"name": "embedding", "stride": 8}, "stage": []}, "first.toml")
    assert reid("train", embedding, *data, "--out", first)[0] == 0
    assert reid("train", toml({**tiny, "stage": []}, "second.toml"), *data, "--out", second)[0] == 0
    code, out, _ = reid("evaluate", first, "--rerank", second, "--top-k", "5", *data)
    assert code == 0
    assert "embedding > transmatcher" in out
    assert "Perfect order" in out
    assert (first / "results_2.json").exists()
    assert not (first / "results.json").exists()
    few = ("--set", "evaluation.rerank.0.k1=5", "--set", "evaluation.rerank.0.k2=2")
    code, out, _ = reid("evaluate", first, "--rerank", "k_reciprocal+tlift", *few, *data)
    assert code == 0
    assert "embedding > k_reciprocal > tlift" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rerank", "tlift+k_reciprocl"), "no re-ranker 'k_reciprocl'. Did you mean 'k_reciprocal'?"),
        (("--rerank", ""), "wanted the folder of a run, or re-rankers"),
        (("--rerank", "."), ".: wanted a run folder with config.toml"),
        (("--rerank", "RUN", "--top-k", "50"), "top_k = 50: wanted at most the 15 images of the gallery of market1501"),
        (
            ("--rerank", "tlift", "--top-k", "5"),
            "wanted a second stage, found a classical re-ranker",
        ),
        (("--fusion", "replace"), "which has no first stage before it"),
    ],
)
def test_rerankers_that_cannot_be(reid, toml, tiny, drawn_root, tmp_path, no_pictures, options, message):
    data = ("--data", drawn_root, "--workers", "0")
    run = tmp_path / "run"
    assert reid("train", toml({**tiny, "stage": []}), *data, "--out", run)[0] == 0
    code, _, err = reid("evaluate", run, *(run if option == "RUN" else option for option in options), *data)
    assert code == 2
    assert message in err
    assert not list(run.glob("results*"))


def test_another_length_for_a_run_with_a_first_stage_of_its_own(reid, toml, tiny, drawn_root, tmp_path, no_pictures):
    data = ("--data", drawn_root, "--workers", "0")
    first, second = tmp_path / "first", tmp_path / "second"
    embedding = toml({**tiny, "matcher": {"name": "embedding", "stride": 8}, "stage": []}, "first.toml")
    assert reid("train", embedding, *data, "--out", first)[0] == 0
    own = {"run": str(first), "top_k": 6}
    assert reid("train", toml({**tiny, "stage": [], "first_stage": own}), *data, "--out", second)[0] == 0
    assert reid("evaluate", second, *data)[0] == 0
    assert reid("evaluate", second, "--top-k", "3", *data)[0] == 0
    lengths = [read_results(second / name).targets[0].reranked.top_k for name in ("results.json", "results_2.json")]
    assert lengths == [6, 3]
