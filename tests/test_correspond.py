"""Where matchers find correspondences, on tiny runs."""

import json

import pytest

from reid import cli_results
from reid.correspond import correspond
from reid.errors import ConfigError
from reid.evaluation.correspondence_results import CorrespondenceResult

SUPERGLUE = {"name": "superglue", "stride": 8, "dim": 8, "num_heads": 2, "num_layers": 2}
ROMA = {
    "name": "roma",
    "stride": 8,
    "dim": 8,
    "gp_dim": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "feedforward": 8,
    "fine_channels": [2, 2, 4, 4],
    "refiners": [{"stride": 4, "dim": 4, "displacement": 4, "num_blocks": 1, "radius": 1}],
}
SYNTHPED = {"name": "synthped", "num_train_pids": 0, "num_test_pids": 3, "num_distractors": 0, "num_junk": 0}


def test_the_matcher_stands_beside_baselines_and_is_measured_at_three_levels(made, session):
    run = made("run", matcher=SUPERGLUE, stage=[])
    result = correspond(run, session, num_pairs=5)
    assert [row.pairs for row in result.methods] == ["mild"] * 4 + ["mid"] * 4 + ["hard"] * 4
    own, same, nearest, descriptors = result.methods[:4]
    assert own.method == "superglue"
    assert (same.method, same.pck_4px_gain is None, own.pck_4px_gain) == ("identity", False, None)
    assert own.ap is not None
    assert descriptors.ap_gain is not None
    assert nearest.ap is None
    assert own.pck_4px - same.pck_4px == pytest.approx(same.pck_4px_gain.value, abs=1e-9)
    names = {row.score for row in result.identity}
    assert names == {"score", "mass", "sim", "ot", "count", "odds"}
    assert all(row.low <= row.auc <= row.high for row in result.identity)
    read = CorrespondenceResult(**json.loads((run.path / "correspondences.json").read_text()))
    assert read == result
    assert correspond(run, session, num_pairs=5).methods == result.methods  # the pairs are always the same


def test_average_precision_does_not_depend_on_the_threshold(made, session):
    runs = [made(f"run{t}", matcher={**SUPERGLUE, "match_threshold": t}, stage=[]) for t in (1e-6, 0.9)]
    loose, strict = (correspond(run, session, num_pairs=4).methods for run in runs)
    own = slice(0, None, 4)
    assert [row.ap for row in loose[own]] == [row.ap for row in strict[own]]
    assert all(row.ap > 0 for row in loose[own])
    assert all(row.recall == 0 for row in strict[own])  # an untrained one is certain of nothing
    assert all(row.recall > 0 for row in loose[own])


def test_a_dense_matcher_shows_its_steps_and_synthped_true_correspondences(made, session_on, data_root):
    session = session_on(data_root)
    run = made("run", matcher=ROMA, stage=[])
    target = json.dumps([SYNTHPED]).replace('":', '" =')
    result = correspond(run, session, num_pairs=4, assignments=[f"target={target}"])
    kinds = [row.pairs for row in result.methods]
    assert set(kinds) == {"mild", "mid", "hard", "same person"}
    assert [row.method for row in result.methods[:2]] == ["roma", "roma at stride 8"]
    assert all(row.ap is None for row in result.methods)


def test_an_embedding_has_none(made, session):
    run = made("run", matcher={"name": "embedding", "stride": 8}, stage=[])
    with pytest.raises(ConfigError, match="found embedding and 1 targets"):
        correspond(run, session, num_pairs=5)


def test_the_command_prints_both_tables(made, reid, drawn_root):
    run = made("run", matcher=SUPERGLUE, stage=[])
    code, out, _ = reid("correspond", run.path, "--pairs", "3", "--data", drawn_root, "--device", "cpu", "--workers", 0)
    assert code == 0
    assert "PCK 4 px ahead" in out
    assert "AUC (95 %)" in out
    assert "correspondences.json" in out


def test_recorded_results_are_averaged_over_seeds(made, reid, session, tmp_path, monkeypatch):
    monkeypatch.setattr(cli_results, "RECORDED", tmp_path / "kept")
    for seed in (0, 1):
        run = made(f"run{seed}", matcher=SUPERGLUE, stage=[], seed=seed)
        correspond(run, session, num_pairs=3)
        assert reid("record", run.path)[0] == 0
    kept = sorted((tmp_path / "kept" / "correspondences").iterdir())
    assert [path.name for path in kept] == ["run0.json", "run1.json"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["correspondences"]  # nothing else was measured
    code, out, _ = reid("table", "--correspondences", *kept)
    assert code == 0
    assert "| 0, 1 " in out
    assert reid("record", kept[0])[0] == 0  # a file that is kept already stays where it is
    assert len(list((tmp_path / "kept").rglob("*.json"))) == 2
