import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from reid import evaluate as evaluating
from reid.backbones import _weights
from reid.backbones._state_dict import file_sha256
from reid.engine import retrieve
from reid.errors import CheckpointError, ConfigError, ImageError, ProtocolError
from reid.evaluate import evaluate, finished
from reid.evaluation import states
from reid.evaluation.results import read_results
from reid.evaluation.states import _mapped
from reid.experiment import resolve
from reid.models import fresh_model, load_model
from reid.runs import RunFolder
from reid.train import train
from tests.drawn import TEST_PIDS, draw_person

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}


@pytest.fixture
def trained(tiny, new_run, session):
    """A trained run of the tiny experiment."""
    run = new_run(tiny)
    train(run, session)
    return run


def untrained(table, new_run, session):
    run = new_run({**table, "stage": []})
    train(run, session)
    return run


def test_results_are_written_and_read_back(trained, session):
    result, (test,) = evaluate(trained, session)
    assert read_results(trained.results) == result
    target = result.targets[0]
    assert (target.num_query, target.num_query_counted, target.num_gallery) == (10, 10, 15)
    assert target.unmatched == {}
    assert target.camera_rule == "on"
    assert len(target.per_query) == 10
    assert all(len(ranks) == 1 for ranks in target.per_query)  # of two gallery images one is of the other camera
    assert result.stamp.sources == ("market1501",)
    assert result.stamp.seed == 0
    assert result.stamp.image_size == (64, 32)
    assert result.stamp.normalisation == "none"
    assert result.stamp.weights is None
    assert result.stamp.matcher.startswith("transmatcher (stride=8, dim=16")
    assert result.stamp.parameters == sum(p.numel() for p in load_model(trained).parameters())
    assert (result.training.epochs, result.training.steps, result.training.images_seen) == (2, 6, 48)
    assert test.result == target


def test_ranks_and_metrics_agree_with_a_count_by_hand(trained, session):
    result, (test,) = evaluate(trained, session)
    target = test.target
    ranks = []
    for query, score_G in zip(target.query, test.scores.score_QG, strict=True):
        kept = [
            (-score, idx, record.role == "person" and record.pid == query.pid)
            for idx, (record, score) in enumerate(zip(target.gallery, score_G, strict=True))
            if record.role != "junk" and not (record.pid == query.pid and record.camid == query.camid)
        ]
        ranks.append([rank for rank, (_, _, match) in enumerate(sorted(kept), start=1) if match])
    assert [list(found) for found in result.targets[0].per_query] == ranks
    assert result.targets[0].rank1 == np.mean([rank[0] == 1 for rank in ranks])
    assert result.targets[0].mAP == pytest.approx(np.mean([1 / rank[0] for rank in ranks]))


def test_scores_are_those_of_the_loaded_model(trained, session):
    _, (test,) = evaluate(trained, session)
    model = load_model(trained)
    query, gallery = ([r.path for r in records] for records in (test.target.query, test.target.gallery))
    score_QG = model.score(model.encode(query), model.encode(gallery)).numpy()
    # bfloat16 moved the scores of three seeds by up to 0.05 of their spread, float16 by 0.004
    assert np.abs(score_QG - test.scores.score_QG).max() < 0.1 * score_QG.std()
    _, (test,) = evaluate(trained, session, assignments=["evaluation.state_precision=float16"])
    assert np.abs(score_QG - test.scores.score_QG).max() < 0.01 * score_QG.std()
    result, (test,) = evaluate(trained, session, assignments=["evaluation.state_precision=float32"])
    assert np.abs(score_QG - test.scores.score_QG).max() < 1e-5 * score_QG.std()
    assert result.stamp.state_precision == "float32"


def test_junk_decides_nothing(trained, data_root, session_on):
    _, (before,) = evaluate(trained, session_on(data_root))
    for path in (data_root / "market" / "bounding_box_test").glob("-1_*"):
        path.unlink()
    _, (after,) = evaluate(trained, session_on(data_root))
    assert after.result.per_query == before.result.per_query
    assert after.result.num_gallery == before.result.num_gallery - 2


def test_training_helps(tiny, new_run, session):
    tiny["stage"][0]["epochs"] = 12
    run, fresh = new_run(tiny), untrained(tiny, lambda table: new_run(table, "fresh"), session)
    train(run, session)
    assert evaluate(run, session)[0].targets[0].mAP > evaluate(fresh, session)[0].targets[0].mAP


def test_an_untrained_experiment(tiny, new_run, session):
    run = untrained(tiny, new_run, session)
    result, _ = evaluate(run, session)
    assert result.training is None
    assert result.stamp.trained_on == "nothing (untrained)"
    assert finished(run)


def test_the_camera_rule_can_be_switched_off(tiny, new_run, session):
    run = untrained({**tiny, "evaluation": {"camera_rule": False}}, new_run, session)
    target = evaluate(run, session)[0].targets[0]
    assert target.camera_rule == "off"
    assert all(len(ranks) == 2 for ranks in target.per_query)


def test_the_trapezoid_rule_is_stamped_and_quoted(tiny, new_run, session):
    run = untrained({**tiny, "evaluation": {"ap_rule": "trapezoid"}}, new_run, session)
    result, _ = evaluate(run, session)
    target = result.targets[0]
    assert result.stamp.ap_rule == "trapezoid"
    assert target.quoted_map("trapezoid") == target.mAP_trapezoid < target.mAP
    one_match = [(float(rank == 1) + 1 / rank) / 2 for (rank,) in target.per_query]
    assert target.mAP_trapezoid == pytest.approx(np.mean(one_match))


def test_validation_and_two_targets(tiny, new_run, session):
    tiny.update(validation_pids=3, target=[MARKET])
    run = new_run(tiny)
    train(run, session)
    result, tests = evaluate(run, session)
    assert [target.target for target in result.targets] == ["market1501", "validation"]
    assert (result.targets[1].num_query, result.targets[1].num_gallery) == (6, 6)
    assert [test.target.label for test in tests] == ["market1501", "validation"]


def test_two_sources(tiny, new_run, data_root, session_on):
    rng = np.random.default_rng(1)
    for pid in (2, 3, 4):
        for number in range(4):
            draw_person(data_root / "mine" / str(pid) / f"{number}.jpg", 100 + pid, rng)
    tiny["source"] = [MARKET, {"name": "folder", "root": "mine"}]
    run, session = new_run(tiny), session_on(data_root)
    train(run, session)
    result, _ = evaluate(run, session)
    assert result.stamp.trained_on == "market1501 + folder (mine)"
    assert result.training.images_seen == 2 * 4 * 8  # ceil(13 identities / 4) batches of 8, two epochs


def test_queries_without_a_match_are_counted_and_explained(tiny, new_run, data_root, session_on):
    gallery = data_root / "market" / "bounding_box_test"
    for path in gallery.glob("0020_*"):
        path.unlink()
    for path in gallery.glob("0021_c2*"):
        path.unlink()
    session = session_on(data_root)
    target = evaluate(untrained(tiny, new_run, session), session)[0].targets[0]
    assert (target.num_query, target.num_query_counted) == (10, 7)
    assert target.unmatched == {
        "no gallery image of this identity": 2,
        "only gallery images of the same camera": 1,
    }
    assert [len(ranks) for ranks in target.per_query].count(0) == 3


def test_no_query_with_a_match_is_an_error_that_explains(tiny, new_run, data_root, session_on, files_below):
    for pid in TEST_PIDS:
        for path in (data_root / "market" / "bounding_box_test").glob(f"{pid:04d}_*"):
            path.unlink()
    session = session_on(data_root)
    run = untrained(tiny, new_run, session)
    before = files_below(run.path)
    with pytest.raises(ProtocolError, match="10 x no gallery image of this identity"):
        evaluate(run, session)
    assert files_below(run.path) == before


def test_without_camera_ids_the_rule_is_off_and_said(tiny, new_run, data_root, session_on):
    rng = np.random.default_rng(1)
    for pid in ("anna", "bert"):
        for split, number in (("query", 0), ("gallery", 1), ("gallery", 2)):
            draw_person(data_root / "mine" / split / pid / f"{number}.jpg", len(pid) + ord(pid[0]), rng)
    session = session_on(data_root)
    run = untrained({**tiny, "target": [{"name": "folder", "root": "mine"}]}, new_run, session)
    target = evaluate(run, session)[0].targets[0]
    assert (target.target, target.camera_rule) == ("folder (mine)", "off (no camera ids)")
    assert target.num_query_counted == 2


def test_a_leak_is_refused(tiny, new_run, session, files_below):
    run = untrained(tiny, new_run, session)
    run.config.write_text(run.config.read_text().replace('train = "train"', 'train = "all"'))
    before = files_below(run.path)
    with pytest.raises(ProtocolError, match="Leak"):
        evaluate(run, session)
    assert files_below(run.path) == before


def test_a_moved_run_gives_the_same_numbers(trained, session, tmp_path):
    before = evaluate(trained, session)[0]
    shutil.move(trained.path, tmp_path / "elsewhere" / "moved")
    after = evaluate(RunFolder(tmp_path / "elsewhere" / "moved"), session)[0]
    assert [t.per_query for t in after.targets] == [t.per_query for t in before.targets]
    assert after.stamp == before.stamp


@pytest.mark.parametrize("normalization", ["half", "auto"])
def test_pretrained_weights_are_needed_for_training_only(normalization, tiny, new_run, session, tmp_path, monkeypatch):
    file = tmp_path / "secret folder" / "mine.safetensors"
    file.parent.mkdir()
    state = fresh_model(resolve({**tiny, "seed": 9}, "x.toml")).backbone.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    record = _weights.WeightsRecord("mine", "", file_sha256(file)[:8], "half", "ours")
    monkeypatch.setattr(_weights, "RECORDS", {**_weights.RECORDS, "mine": record})
    tiny["backbone"].update(weights=str(file), normalization=normalization)
    run = new_run(tiny)
    train(run, session)
    before = evaluate(run, session)[0]
    file.unlink()
    after = evaluate(run, session)[0]
    assert after.stamp == before.stamp
    assert after.targets[0].per_query == before.targets[0].per_query
    assert (after.stamp.weights, after.stamp.normalisation) == ("mine.safetensors", "half")
    assert "secret folder" not in run.results.read_text()


def test_workers_change_nothing(trained, session, session_on, drawn_root):
    one = evaluate(trained, session)[0]
    two = evaluate(trained, session_on(drawn_root, num_workers=2))[0]
    assert one.targets[0].per_query == two.targets[0].per_query


def test_a_truncated_gallery_image_keeps_the_earlier_results(trained, data_root, session_on, files_below):
    session = session_on(data_root)
    evaluate(trained, session)
    before = files_below(trained.path)
    path = next((data_root / "market" / "bounding_box_test").glob("0022_*"))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(ImageError, match=path.name):
        evaluate(trained, session)
    assert files_below(trained.path) == before


def test_a_run_that_was_not_trained_cannot_be_tested(tiny, new_run, session):
    with pytest.raises(CheckpointError, match="Train first"):
        evaluate(new_run(tiny), session)


def test_no_target_is_refused(tiny, new_run, session):
    run = untrained({**tiny, "target": []}, new_run, session)
    with pytest.raises(ConfigError, match=r"at least one \[\[target\]\]"):
        evaluate(run, session)


def test_finished_means_trained_to_the_end_and_tested_there(
    tiny, new_run, session, session_on, drawn_root, interrupting
):
    tiny["stage"] = [tiny["stage"][0], tiny["stage"][0]]
    run = new_run(tiny)
    assert not finished(run)
    for steps in (7, 5):  # stops within the first epoch of the second stage, then within its second epoch
        with pytest.raises(KeyboardInterrupt):
            train(run, session_on(drawn_root, progress=interrupting(steps)))
        evaluate(run, session)
        assert not finished(run)
    train(run, session)
    assert not finished(run)  # the results are those of an earlier epoch
    evaluate(run, session)
    assert finished(run)


def test_results_hold_fractions_and_relative_paths_only(trained, session, tmp_path, drawn_root):
    evaluate(trained, session)
    text = trained.results.read_text()
    assert str(tmp_path) not in text
    assert str(drawn_root) not in text
    table = json.loads(text)
    assert table["schema_version"] == 1
    assert 0 <= table["targets"][0]["rank1"] <= 1


def test_other_rules_leave_the_results_of_the_run_alone(trained, session):
    own, _ = evaluate(trained, session)
    before = trained.results.read_bytes()
    for number in (2, 3):
        other, _ = evaluate(trained, session, assignments=["evaluation.camera_rule=false"])
        assert read_results(trained.path / f"results_{number}.json") == other
    assert other.targets[0].camera_rule == "off"
    assert other.stamp == own.stamp
    assert trained.results.read_bytes() == before
    assert finished(trained)


@pytest.mark.parametrize(
    ("named", "names"), [(False, ["results_2.json", "results_3.json"]), (True, ["mine.json", "mine_2.json"])]
)
def test_two_tests_of_a_run_at_the_same_time_keep_both_results(named, names, trained, session, monkeypatch):
    file = trained.path / "mine.json" if named else None
    rule, ended = "evaluation.camera_rule=false", []

    def meanwhile():
        """Another test of the run begins and ends just before this one writes down what came out."""
        if not ended:
            ended.append("begun")
            ended[0] = evaluate(trained, session, assignments=[rule], file=file)[0]
        return "a machine"

    monkeypatch.setattr(evaluating, "machine", meanwhile)
    result, _ = evaluate(trained, session, assignments=[rule, "evaluation.ap_rule=trapezoid"], file=file)
    assert [read_results(trained.path / name) for name in names] == [ended[0], result]


def test_a_file_can_be_named_for_the_results(trained, session, tmp_path):
    result, _ = evaluate(trained, session, file=tmp_path / "mine.json")
    assert read_results(tmp_path / "mine.json") == result
    assert not trained.results.exists()
    assert not finished(trained)


def test_a_leak_cannot_be_hidden(trained, session):
    leaking = "target=[{name='market1501', root='market', expected_counts='none', train='all'}]"
    with pytest.raises(ConfigError, match=r"cannot be changed any more \(source\)"):
        evaluate(trained, session, assignments=["source=[]", leaking])


def test_the_recipe_is_stamped(tiny, new_run, session):
    stamps = [
        evaluate(untrained({**tiny, **changes}, lambda table, n=number: new_run(table, f"run{n}"), session), session)[0]
        for number, changes in enumerate([{}, {"seed": 1, "title": "x"}, {"image_size": [32, 16]}])
    ]
    one, two, other = (result.stamp.recipe for result in stamps)
    assert one == two != other


def test_what_is_beyond_the_memory_goes_to_files(trained, session, monkeypatch):
    mapped = []
    monkeypatch.setattr(states, "_mapped", lambda *args: mapped.append(args) or _mapped(*args))
    _, (within,) = evaluate(trained, session)
    assert not mapped
    state_bytes = 2 * 2 * 32 * 16  # bfloat16, layers, positions, channels
    _, (beyond,) = evaluate(trained, session, assignments=[f"evaluation.memory_gib={12 * state_bytes / 2**30}"])
    assert len(mapped) == 1
    # 10 x 15 scores would still fit into a quarter of that
    np.testing.assert_allclose(within.scores.score_QG, beyond.scores.score_QG, atol=1e-5)
    assert not {path.suffix for path in trained.path.iterdir()} & {".npy", ".queries", ".gallery"}


def test_scores_of_all_targets_share_the_memory(tiny, new_run, session, monkeypatch):
    held = []
    monkeypatch.setattr(
        "reid.trial.retrieve",
        lambda *args, **how: held.append(how["scoring"].scores_held) or retrieve.retrieve(*args, **how),
    )
    (market,) = tiny["target"]
    run = untrained({**tiny, "target": [market, {**market, "label": "again"}]}, new_run, session)
    evaluate(run, session)
    assert held == [0, 10 * 15 * 4]


def test_too_little_memory_is_an_error(trained, session, monkeypatch):
    monkeypatch.setattr(retrieve, "collect_states", None)  # it shows before the queries' states are gathered
    with pytest.raises(ConfigError, match=r"evaluation.memory_gib: wanted room .* found 1e-06\. Allow more"):
        evaluate(trained, session, assignments=["evaluation.memory_gib=1e-6"])
    for refused in ("0", "inf", "-1", "nan"):
        with pytest.raises(ConfigError, match=r"evaluation\.memory_gib"):
            evaluate(trained, session, assignments=[f"evaluation.memory_gib={refused}"])


def test_agreement_of_half_precision_is_reported(trained, session):
    (target,) = evaluate(trained, session)[0].targets
    assert (target.agreement.num_query, target.agreement.num_gallery) == (10, 15)
    assert target.agreement.spearman > 0.999
    (exact,) = evaluate(trained, session, assignments=["evaluation.state_precision='float32'"])[0].targets
    assert exact.agreement is None


def test_peak_memory_is_the_process_own_on_a_cpu(trained, session):
    (target,) = evaluate(trained, session)[0].targets
    assert 50 < target.peak_memory_mib < 100_000


def test_peak_memory_is_not_known_where_the_system_does_not_tell(trained, session, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    (target,) = evaluate(trained, session)[0].targets
    assert target.peak_memory_mib is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_peak_memory_of_a_gpu_is_that_of_the_test(trained, session):
    on_gpu = replace(session, device=torch.device("cuda"))
    block = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    del block
    (target,) = evaluate(trained, on_gpu)[0].targets
    assert 0 < target.peak_memory_mib < 1024


def test_keys_may_be_cut_and_that_is_stamped(trained, session):
    result, (test,) = evaluate(trained, session, assignments=["evaluation.key_rank=8"])
    assert result.stamp.key_rank == 8
    assert test.result.agreement.spearman < 1
    with pytest.raises(ConfigError, match="at most 16, the channels of the keys, found 17"):
        evaluate(trained, session, assignments=["evaluation.key_rank=17"])


def test_a_matcher_that_cannot_be_cut(tiny, new_run, session):
    run = untrained({**tiny, "matcher": {"name": "embedding", "stride": 8}}, new_run, session)
    with pytest.raises(ConfigError, match=r"wanted a matcher whose projections can be cut.*found Embedding"):
        evaluate(run, session, assignments=["evaluation.key_rank=8"])
