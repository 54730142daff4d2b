"""Where matchers find correspondences, on tiny runs."""

import json
from dataclasses import replace

import pytest
import torch

from reid import cli_results
from reid import correspond as module
from reid.correspond import correspond
from reid.data.warps import WarpedPair
from reid.errors import ConfigError, ProtocolError
from reid.evaluation.correspondence_results import CorrespondenceResult
from reid.matchers._assignment import AssignmentOutputs, pair_scores
from reid.models import load_model
from reid.nn.grid import cell_centres
from reid.progress import Silent
from tests.drawn import TINY, draw_market
from tests.evaluation.truths import shifted

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
    assert set(kinds) == {"mild", "mid", "hard", "same person", "different persons"}
    assert [row.method for row in result.methods[:2]] == ["roma", "roma at stride 8"]
    assert all(row.ap is None for row in result.methods)
    assert [row.score for row in result.identity] == ["score", "certainty", "sim", "certainty_sim"]


def test_each_synthped_target_is_asked_about_its_own_people(made, session_on, data_root, monkeypatch):
    """Of two of one domain the one with a label comes first; the other has its domain's name."""
    drawn = []
    draw = module.draw_surface_images

    def noted(config, *arguments, **options):
        drawn.append(config.seed)
        return draw(config, *arguments, **options)

    monkeypatch.setattr(module, "draw_surface_images", noted)
    target = json.dumps([{**SYNTHPED, "seed": 7, "label": "others"}, SYNTHPED]).replace('":', '" =')
    run = made("run", matcher=SUPERGLUE, stage=[])
    result = correspond(run, session_on(data_root), num_pairs=1, assignments=[f"target={target}"])
    labels = [row.target for row in result.methods if row.pairs == "same person"]
    assert dict.fromkeys(labels) == {"others": None, "synthped (studio)": None}
    assert drawn == [7, 0]


class Telling(Silent):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


def views_of(warps):
    """Stands for :func:`held_out_pairs`: every image gives a grey pair with the same truth."""

    def make(images, level, image_size, *, seed=0):
        grey = torch.full((3, *image_size), 128, dtype=torch.uint8)
        return (WarpedPair(grey, grey, warps) for _ in images)

    return make


def half_right(query, gallery):
    """What a matcher might find on 8 x 4 cells: upper half, each cell to its right neighbour; lower half, to itself.

    Dustbins take what is left, but for a fifth of the lower half's query keypoints.
    """
    mass = torch.zeros(33, 33)
    for y in range(8):
        for x in range(4):
            cell = 4 * y + x
            partner = cell if y >= 4 else cell + 1 if x < 3 else 32
            mass[cell, partner] = 0.5 if y >= 4 else 0.9 if x < 3 else 1.0
            mass[cell, 32] += 0.3 if y >= 4 else 0.1 if x < 3 else 0.0
    mass[32, :32] = 1 - mass[:32, :32].sum(0)
    log = mass.clamp(min=1e-30).log().expand(len(query), -1, -1)
    zeros = torch.zeros(len(query), 32, 32)
    scores = pair_scores(log, zeros, zeros, torch.tensor(1.0), 0.2)
    points = cell_centres(8, 4, 8, torch.zeros(1)).flatten(0, 1).expand(len(query), -1, -1)
    return AssignmentOutputs(scores.odds_N, log, points, points, scores, cell_px=8)


@pytest.fixture
def half_right_run(made, monkeypatch):
    """A run of superglue on 64 x 32 pixels in cells of 8 that finds what ``half_right`` does."""

    def load(run, device):
        model = load_model(run, device)
        model.matcher.pair = half_right
        return model

    monkeypatch.setattr("reid.match.load_model", load)
    return made("run", matcher=SUPERGLUE, stage=[])


def test_numbers_by_hand(half_right_run, session, monkeypatch):
    """Everything moves by a cell to the right: 3 of 4 columns stay in the image, of 24 keypoints and of 96 positions.

    Positions are asked for every 4 px and move as the nearest match does. Right in the upper half, 8 px off in the
    lower one. The upper half's matches are the surest: 12 right ones of 24 before any wrong one. A position that left
    the image is as sure as what is near it: of the upper half's 16 such, 7 are 0.9, one (between both halves) 0.7, one
    0.5, and 7 have no match within 8 px; of the lower half's all are 0.5, as are the 48 visible ones there.
    """
    monkeypatch.setattr(module, "held_out_pairs", views_of(shifted(64, 32, 8, 0)))
    result = correspond(half_right_run, session, num_pairs=3)
    assert result.trained_on == "nothing (untrained)"
    own, same, _, _ = result.methods[:4]
    assert (own.mean_px, own.median_px, own.coverage, own.num_pairs) == (4.0, 4.0, 1.0, 3)
    assert (own.pck_2px, own.pck_4px, own.pck_8px) == (0.5, 0.5, 1.0)
    assert own.auc == pytest.approx((48 * (7 / 2 + 1 + 17 + 7) + 48 * (17 / 2 + 7)) / (96 * 32))
    assert (own.precision, own.recall, own.ap) == (pytest.approx(12 / 28), 0.5, pytest.approx(0.5))
    assert own.marginal_error == pytest.approx(0.2, abs=1e-6)
    assert (same.mean_px, same.pck_2px, same.pck_4px, same.pck_8px, same.auc) == (8.0, 0.0, 0.0, 1.0, 0.5)
    assert (same.precision, same.recall, same.ap, same.marginal_error) == (0.0, 0.0, 0.0, None)
    for gain in (same.pck_4px_gain, same.ap_gain):
        assert (gain.value, gain.low, gain.high) == pytest.approx((0.5, 0.5, 0.5))
    assert {(row.auc, row.low, row.high) for row in result.identity} == {(0.5, 0.5, 0.5)}  # all pairs score the same
    assert result.methods[4:8] == tuple(row.model_copy(update={"pairs": "mid"}) for row in result.methods[:4])


def test_where_nothing_is_comparable_the_rest_is_kept(half_right_run, session, monkeypatch, reid, drawn_root):
    """Nothing is known about any pair: no number, but scores of identities, and a file."""
    warps = shifted(64, 32, 0, 0)
    for warp in (warps.to_gallery, warps.to_query):
        warp.known_NHW[:] = False
    monkeypatch.setattr(module, "held_out_pairs", views_of(warps))
    result = correspond(half_right_run, session, num_pairs=3)
    assert {(row.mean_px, row.pck_4px, row.auc, row.ap) for row in result.methods} == {(None, None, None, None)}
    assert {(row.pck_4px_gain, row.ap_gain) for row in result.methods} == {(None, None)}
    assert len(result.identity) == 6
    where = half_right_run.path, "--pairs", 3, "--data", drawn_root, "--device", "cpu", "--workers", 0
    code, out, _ = reid("correspond", *where)
    assert code == 0
    assert "| - / - / - " in out


def test_salient_keypoints_are_judged_as_they_were_trained(made, session, monkeypatch):
    """3 and 5 px, as published: a keypoint 4.5 px from the nearest is neither a match nor alone."""
    limits = []
    judge = module.keypoint_labels

    def noted(*arguments, **thresholds):
        limits.append(thresholds)
        return judge(*arguments, **thresholds)

    monkeypatch.setattr(module, "keypoint_labels", noted)
    salient = {**SUPERGLUE, "keypoints": "salient", "num_keypoints": 40}
    correspond(made("salient", matcher=salient, stage=[]), session, num_pairs=2)
    assert limits == 6 * [{"positive_px": 3.0, "negative_px": 5.0}]  # once a pair of each level, for all methods
    limits.clear()
    correspond(made("grid", matcher=SUPERGLUE, stage=[]), session, num_pairs=1)
    assert limits == 3 * [{"positive_px": pytest.approx(0.71 * 8), "negative_px": 8.0}]


def test_people_that_a_shared_backbone_was_trained_on_are_no_test(made, session):
    """The first stage has seen all people of the source, those too that the second stage holds out."""
    told = Telling()
    session = replace(session, progress=told)
    first = made("first", matcher={"name": "embedding", "stride": 8})
    behind = {"run": str(first.path), "share_backbone": True}
    held = {"matcher": SUPERGLUE, "stage": [], "validation_pids": 3}
    assert {row.target for row in correspond(made("alone", **held), session, num_pairs=2).methods} == {
        "market1501",
        "validation",
    }
    assert not told.said
    second = made("second", first_stage=behind, **held)
    result = correspond(second, session, num_pairs=2)
    assert {row.target for row in result.methods} == {"market1501"}
    assert {row.target for row in result.identity} == {"market1501"}
    assert told.said == ["validation: left out, since weights that are tested were trained on its people"]
    assert result.trained_on == "market1501"  # by the first stage
    with pytest.raises(ConfigError, match="a \\[\\[target\\]\\] that the model was not trained on, found none among 1"):
        correspond(second, session, num_pairs=2, assignments=["target=[]"])


def test_a_target_that_a_shared_backbone_was_trained_on_is_refused(made, session, tmp_path):
    other = draw_market(tmp_path / "other", train=range(30, 36), test=range(40, 44))
    first = made("first", matcher={"name": "embedding", "stride": 8})
    source = [{**TINY["source"][0], "root": str(other), "label": "other"}]
    second = made(
        "second",
        matcher=SUPERGLUE,
        stage=[],
        source=source,
        target=[{**source[0], "label": "others"}],
        first_stage={"run": str(first.path), "share_backbone": True},
    )
    assert correspond(second, session, num_pairs=2).trained_on == "market1501"
    leaky = draw_market(tmp_path / "leaky", train=[99], test=range(2, 6))
    table = f'{{name = "market1501", root = "{leaky}", expected_counts = "none"}}'
    with pytest.raises(ProtocolError):
        correspond(second, session, num_pairs=2, assignments=[f"target=[{table}]"])


def test_where_the_numbers_cannot_go_shows_at_once(made, reid, drawn_root, tmp_path):
    run = made("run", matcher=SUPERGLUE, stage=[])
    (tmp_path / "folder.json").mkdir()
    for out in (tmp_path, tmp_path / "numbers.txt", tmp_path / "folder.json"):
        code, _, error = reid("correspond", run.path, "--out", out, "--data", tmp_path / "no data set is looked for")
        assert (code, "wanted a file named .json" in error) == (2, True)
    code, out, _ = reid("correspond", run.path, "--out", tmp_path / "new.json", "--data", drawn_root, "--pairs", "1")
    assert code == 0
    assert f"numbers: {tmp_path / 'new.json'}" in out


def test_an_embedding_has_none(made, session, tmp_path):
    run = made("run", matcher={"name": "embedding", "stride": 8}, stage=[])
    nowhere = replace(session, data_root=tmp_path)  # no data set is looked for
    with pytest.raises(ConfigError, match="found embedding: it compares one vector an image"):
        correspond(run, nowhere, num_pairs=5)


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
