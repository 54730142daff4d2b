"""Two stages one behind the other, on tiny runs."""

import numpy as np
import pytest

from reid.engine.two_stages import TwoStages
from reid.errors import CheckpointError, ConfigError, ProtocolError
from reid.evaluate import Pipeline, evaluate
from reid.evaluation.results import read_results
from reid.report.stages import stages_table
from reid.train import load_model, train

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}
EMBEDDING = {"matcher": {"name": "embedding", "stride": 8}, "stage": []}
FLOAT32 = "evaluation.state_precision=float32"


@pytest.fixture
def two(made):
    """An embedding, and a TransMatcher with other weights in its backbone; both untrained."""
    return made("first", **EMBEDDING), made("second", stage=[], seed=1)


def test_a_shortlist_of_everything_is_the_second_stage_alone(two, session):
    second, first = two
    (alone,) = evaluate(second, session, assignments=[FLOAT32])[0].targets
    result, (test,) = evaluate(first, session, assignments=[FLOAT32], pipeline=Pipeline(first, second, 15, "replace"))
    (target,) = result.targets
    assert target.per_query == alone.per_query
    assert target.reranked.oracle.mAP == 1.0
    (before,) = evaluate(first, session, assignments=[FLOAT32])[0].targets
    assert target.reranked.first.mAP == before.mAP
    assert before.mAP < 0.9 < alone.mAP
    assert target.reranked.gain == pytest.approx(alone.mAP - before.mAP)
    assert target.reranked.share_of_oracle == pytest.approx((alone.mAP - before.mAP) / (1 - before.mAP))
    assert read_results(first.path / "results_2.json") == result  # the first free one
    assert result.stamp.method == "transmatcher > embedding"
    assert result.stamp.sources == ()
    assert "top 15, replace" in result.stamp.first_stage
    assert test.result == target


def test_what_is_not_on_the_shortlist_stays_as_it_was(two, session):
    first, second = two
    (before,) = evaluate(first, session)[0].targets
    found, (test,) = evaluate(first, session, pipeline=Pipeline(first, second, 4, "replace"))
    (after,) = found.targets
    for old, new in zip(before.per_query, after.per_query, strict=True):
        assert len(old) == len(new)
        if old[0] > 4:  # the match was not proposed
            assert new[0] == old[0]
    assert after.reranked.oracle.mAP >= max(after.mAP, before.mAP)
    assert test.scores.score_QG.shape == (10, 15)


def test_one_image_cannot_be_put_in_order(two, session):
    first, second = two
    (after,) = evaluate(first, session, pipeline=Pipeline(first, second, 1, "replace"))[0].targets
    assert after.mAP == after.reranked.first.mAP == after.reranked.oracle.mAP
    assert after.reranked.share_of_oracle is None
    assert (after.reranked.gain, after.reranked.gain_low, after.reranked.gain_high) == (0, 0, 0)


def test_more_than_the_gallery_is_an_error(two, session):
    first, second = two
    with pytest.raises(ConfigError, match="top_k = 16: wanted at most the 15 images"):
        evaluate(first, session, pipeline=Pipeline(first, second, 16, "replace"))


def test_a_second_stage_trained_on_the_target_is_refused(made, tiny, session):
    first = made("first", **EMBEDDING, source=[])
    second = made("second", source=[{**MARKET, "train": "all"}], target=[], stage=[])
    with pytest.raises(ProtocolError):
        evaluate(first, session, pipeline=Pipeline(first, second, 5, "replace"))


def test_fusion_takes_its_weight_from_identities_nobody_was_trained_on(made, session):
    first = made("first", **EMBEDDING, validation_pids=3)
    second = made("second", stage=[], seed=1)
    with pytest.raises(ConfigError, match="fusion lerp: wanted identities that neither stage was trained on"):
        evaluate(first, session, pipeline=Pipeline(first, second, 5, "lerp"))
    alone = made("alone", **EMBEDDING, validation_pids=3, target=[])
    with pytest.raises(ConfigError, match=r"wanted a target that .*second was not trained on"):
        evaluate(alone, session, pipeline=Pipeline(alone, second, 5, "replace"))
    replaced = evaluate(first, session, pipeline=Pipeline(first, second, 5, "replace"))[0]
    assert [target.target for target in replaced.targets] == ["market1501"]  # the second stage has seen the others
    second = made("third", stage=[], validation_pids=3, backbone={"name": "mobilenet", "strides": [8]})
    found = evaluate(first, session, pipeline=Pipeline(first, second, 3, "lerp"))[0]
    assert [target.target for target in found.targets] == ["market1501", "validation"]
    weights = {target.reranked.weight for target in found.targets}
    assert len(weights) == 1
    assert weights <= set(np.linspace(0, 1, 11).tolist())
    validation = found.targets[1]
    best = [
        evaluate(first, session, pipeline=Pipeline(first, second, 3, "replace"))[0].targets[1].mAP,
        validation.reranked.first.mAP,
    ]
    assert validation.mAP >= max(best) - 1e-12  # weights 0 and 1 were among those tried


def shared(first, **changes):
    return {
        "first_stage": {"run": str(first.path), "top_k": 6, "share_backbone": True},
        "backbone": None,
        **changes,
    }


PAIRS = {
    "task": "pairs",
    "epochs": 2,
    "sampler": {"name": "triplets", "num_triplets": 4, "num_batches": 3, "top_k": 39},
    "loss": {"name": "pair_bce"},
    "frozen": ["backbone"],
    "cache_maps": True,
    "optimizer": {"lr": 0.01},
}


def test_other_maps_of_the_first_ones_backbone_may_be_read(made, tiny, new_run, session):
    first = made("first", **EMBEDDING)
    matcher = {**tiny["matcher"], "stride": 4}
    table = {**tiny, **shared(first), "stage": [PAIRS], "matcher": matcher}
    run = new_run({**table, "backbone": {**tiny["backbone"], "strides": [4, 8]}}, "second")
    train(run, session)
    mine, theirs = load_model(run), load_model(first)
    assert mine.strides > theirs.strides
    assert TwoStages(theirs, mine, 6).one_backbone
    assert evaluate(run, session)[0].targets[0].reranked.top_k == 6


def test_a_second_stage_over_the_first_ones_backbone(made, tiny, new_run, session):
    first = made("first", **EMBEDDING)
    table = {**tiny, **shared(first), "stage": [PAIRS]}
    table.pop("backbone")
    run = new_run(table, "second")
    train(run, session)
    mine, theirs = load_model(run), load_model(first)
    for name, tensor in theirs.backbone.state_dict().items():
        assert (mine.backbone.state_dict()[name] == tensor).all(), name
    result, _ = evaluate(run, session)
    (target,) = result.targets
    assert target.reranked.top_k == 6
    assert result.training.images_seen == 2 * 3 * 12
    assert result.stamp.method == "embedding > transmatcher"
    assert "embedding > transmatcher" in stages_table([result])
    assert run.results.exists()


def test_resuming_pairs_is_exact(made, tiny, new_run, session, interrupting, session_on, drawn_root):
    first = made("first", **EMBEDDING)
    table = {**tiny, **shared(first), "stage": [PAIRS]}
    table.pop("backbone")
    whole = new_run(table, "whole")
    train(whole, session)
    cut = new_run(table, "cut")
    with pytest.raises(KeyboardInterrupt):
        train(cut, session_on(drawn_root, progress=interrupting(4)))
    train(cut, session)
    one, two = (load_model(run).state_dict() for run in (whole, cut))
    assert all((one[name] == two[name]).all() for name in one)


def test_first_stages_that_cannot_be(made, tiny, new_run, tmp_path):
    table = {key: value for key, value in tiny.items() if key != "backbone"}
    nobody = {"run": str(tmp_path / "nobody"), "share_backbone": True}
    with pytest.raises(ConfigError, match="wanted the folder of a run that is trained already"):
        new_run({**table, "first_stage": nobody, "stage": [PAIRS]})
    thawed = {key: value for key, value in PAIRS.items() if key not in ("frozen", "cache_maps")}
    with pytest.raises(ConfigError, match=r"wanted the backbone frozen in every stage, found it trained in stage 0"):
        new_run({**table, "first_stage": nobody, "stage": [thawed]})
    with pytest.raises(ConfigError, match=r"cache_maps: wanted the backbone among frozen"):
        new_run({**tiny, "stage": [{**PAIRS, "frozen": []}]})
    first = made("first", **EMBEDDING)
    with pytest.raises(ConfigError, match="wanted images of the same size in both stages"):
        new_run({**table, **shared(first, image_size=[32, 16]), "stage": [PAIRS]})


def test_a_first_stage_that_is_gone(made, tiny, new_run, session):
    second = made("second", stage=[], first_stage={"run": "nowhere"})
    with pytest.raises(CheckpointError, match="nowhere: wanted a run folder"):
        evaluate(second, session)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": {"name": "pairwise"}},
        {"task": "block"},
        {"task": "block", "loss": {"name": "pairwise"}},
        {"sampler": {"name": "pk", "num_pids": 4, "num_images": 2}, "task": "block"},
    ],
)
def test_task_loss_and_sampler_must_fit(made, tiny, new_run, session, changes):
    first = made("first", **EMBEDDING)
    table = {**tiny, **shared(first), "stage": [{**PAIRS, **changes}]}
    table.pop("backbone")
    with pytest.raises(ConfigError, match=r"\[stage\]: wanted task"):
        train(new_run(table), session)


def test_mining_wants_a_first_stage(tiny, new_run, session):
    stage = {**PAIRS, "cache_maps": False, "frozen": []}
    with pytest.raises(ConfigError, match=r"triplets wants a \[first_stage\]"):
        train(new_run({**tiny, "stage": [stage]}), session)


RERANK = (
    'evaluation.rerank=[{name="expansion", num_query_neighbours=2}, {name="k_reciprocal", k1=5, k2=2}, {name="tlift"}]'
)


def test_classical_rerankers_one_behind_another(two, session):
    first, second = two
    (before,) = evaluate(first, session)[0].targets
    result, (test,) = evaluate(first, session, assignments=[RERANK])
    (after,) = result.targets
    assert result.stamp.method == "embedding > expansion > k_reciprocal > tlift"
    assert after.reranked.first.mAP == before.mAP
    assert after.reranked.gain == pytest.approx(after.mAP - before.mAP)
    assert after.reranked.top_k is after.reranked.oracle is after.reranked.share_of_oracle is None
    assert test.scores.score_QG.min() >= 0  # of the last one
    assert "embedding > expansion" in stages_table([result])
    with pytest.raises(ConfigError, match="wanted a first stage with embeddings"):
        evaluate(second, session, assignments=[RERANK])
    with pytest.raises(ConfigError, match="no classical re-ranking beside a second stage"):
        evaluate(first, session, assignments=[RERANK], pipeline=Pipeline(first, second, 4, "replace"))
    lifted = evaluate(second, session, assignments=["evaluation.rerank=[{name='tlift'}]"])[0]
    assert lifted.stamp.method == "transmatcher > tlift"


def test_a_misspelt_reranker(two, session):
    with pytest.raises(ConfigError, match=r"no reranker named 'k_reciprocl'. Did you mean 'k_reciprocal'|k_reciprocal"):
        evaluate(two[0], session, assignments=["evaluation.rerank=[{name='k_reciprocl'}]"])
