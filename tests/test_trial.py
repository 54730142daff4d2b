"""Two stages one behind the other, on tiny runs."""

import shutil

import numpy as np
import pytest

from reid import evaluate as evaluating
from reid import staging
from reid.domains import open_domains
from reid.engine.two_stages import TwoStages
from reid.errors import CheckpointError, ConfigError, ProtocolError
from reid.evaluate import evaluate
from reid.evaluation.results import read_results
from reid.models import load_model
from reid.pipeline import Pipeline
from reid.progress import Silent
from reid.report.stages import stages_table
from reid.train import train
from reid.trial import How
from reid.trial_in_two import best_weight, try_two_stages
from tests.drawn import TRAIN_PIDS

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}
EMBEDDING = {"matcher": {"name": "embedding", "stride": 8}, "stage": []}
FLOAT32 = "evaluation.state_precision=float32"
BLOCK = {
    "epochs": 1,
    "sampler": {"name": "pk", "num_pids": 4, "num_images": 2},
    "loss": {"name": "identity_triplet"},
    "optimizer": {"lr": 0.01},
}


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
    second = made("second", source=[{**MARKET, "train": "all"}], target=[])
    with pytest.raises(ProtocolError):
        evaluate(first, session, pipeline=Pipeline(first, second, 5, "replace"))


def test_what_a_shared_backbone_was_trained_on_counts(made, new_run, tiny, session):
    leaking = made(
        "leaking", matcher=EMBEDDING["matcher"], source=[{**MARKET, "train": "all"}], target=[], stage=[BLOCK]
    )
    table = {**tiny, **shared(leaking), "stage": [PAIRS]}
    table.pop("backbone")
    with pytest.raises(ProtocolError):
        train(new_run(table, "told before it is trained"), session)
    over = new_run({**table, "target": [], "title": "over"}, "over")
    train(over, session)
    first, second = made("first", **EMBEDDING, source=[]), made("second", stage=[], seed=1)
    for pipeline in (Pipeline(first, over, 5, "replace"), Pipeline(over, second, 5, "replace")):
        with pytest.raises(ProtocolError):
            evaluate(first, session, pipeline=pipeline)
    with pytest.raises(ProtocolError):
        evaluate(over, session, assignments=["target=[{name='market1501', root='market', expected_counts='none'}]"])
    shutil.rmtree(leaking.path)
    with pytest.raises(CheckpointError, match="wanted the run that 'over' has its backbone from"):
        evaluate(first, session, pipeline=Pipeline(first, over, 5, "replace"))


def test_results_know_their_first_stage(two, made, session):
    first, second = two
    third = made("third", matcher={"name": "embedding", "stride": 8}, stage=[BLOCK], seed=5)
    one, other = (
        evaluate(run, session, pipeline=Pipeline(run, second, 5, "replace"))[0].stamp for run in (first, third)
    )
    assert (one.first_seed, other.first_seed) == (0, 5)
    assert one.first_recipe != other.first_recipe
    assert one.recipe == other.recipe
    assert one.sources == ()
    assert other.sources == ("market1501",)


def test_the_title_is_that_of_what_was_tested(two, made, session):
    first, second = two
    own = made("own", stage=[], title="own", first_stage={"run": str(first.path), "top_k": 5})
    assert evaluate(own, session)[0].title == "own"
    assert evaluate(first, session, pipeline=Pipeline(first, own, 3, "replace"))[0].title == "own"
    assert evaluate(second, session, pipeline=Pipeline(second, own, 3, "replace"))[0].title == "own, after tiny"


@pytest.mark.parametrize("key", ["key_rank=4", "int8_products=true"])
def test_approximate_scores_are_not_reranked(two, session, key):
    first, second = two
    with pytest.raises(ConfigError, match="wanted exact scores to re-rank"):
        evaluate(first, session, assignments=[f"evaluation.{key}"], pipeline=Pipeline(first, second, 5, "replace"))
    with pytest.raises(ConfigError, match="wanted exact scores to re-rank"):
        evaluate(second, session, assignments=[f"evaluation.{key}", "evaluation.rerank=[{name='tlift'}]"])


class Told(Silent):
    def __init__(self):
        self.messages = []

    def say(self, message):
        self.messages.append(message)


def test_a_target_that_is_left_out_is_told(made, session_on, drawn_root):
    first, second = made("first", **EMBEDDING, validation_pids=3), made("second", seed=1)
    told = Told()
    found = evaluate(first, session_on(drawn_root, progress=told), pipeline=Pipeline(first, second, 5, "replace"))[0]
    assert [target.target for target in found.targets] == ["market1501"]
    assert any(message.startswith("validation: left out") for message in told.messages)
    alone = made("alone", **EMBEDDING, validation_pids=3, target=[])
    with pytest.raises(
        ConfigError, match=r"wanted a \[\[target\]\] that the model was not trained on, found none among 1"
    ):
        evaluate(alone, session_on(drawn_root), pipeline=Pipeline(alone, second, 5, "replace"))


def test_lerp_wants_identities_nobody_was_trained_on(made, session):
    first, second = made("first", **EMBEDDING, validation_pids=3), made("second", seed=1)
    with pytest.raises(ConfigError, match="fusion lerp: wanted identities that neither stage was trained on"):
        evaluate(first, session, pipeline=Pipeline(first, second, 5, "lerp"))


@pytest.mark.parametrize("tested", ["first", "second"])
def test_the_weight_is_chosen_on_held_out_people_who_are_not_tested_then(tested, made, session, monkeypatch):
    first = made("first", **EMBEDDING, validation_pids=3)
    second = made("second", stage=[], validation_pids=3, backbone={"name": "mobilenet", "strides": [8]})
    chosen_on = []

    def choose(stages, validation, how):
        chosen_on.append({record.pid for record in validation.query})
        return 0.3

    monkeypatch.setattr(evaluating, "best_weight", choose)
    run = {"first": first, "second": second}[tested]
    (target,) = evaluate(run, session, pipeline=Pipeline(first, second, 3, "lerp"))[0].targets
    assert (target.target, target.reranked.weight) == ("market1501", 0.3)
    (pids,) = chosen_on
    assert len(pids) == 3
    assert pids <= set(TRAIN_PIDS)
    with pytest.raises(ConfigError, match="top_k = 7: wanted at most the 6 images of the gallery of validation"):
        evaluate(run, session, pipeline=Pipeline(first, second, 7, "lerp"))


def test_the_best_weight_has_the_highest_map(two, session, tmp_path):
    first, second = two
    stages = TwoStages(load_model(first), load_model(second), 6)
    (target,) = open_domains(first.experiment(), session).targets
    how = How(first.experiment().evaluation, session, tmp_path)
    found = best_weight(stages, target, how)
    maps = {weight: try_two_stages(stages, target, how, "lerp", weight).result.mAP for weight in np.linspace(0, 1, 11)}
    assert maps[found] == max(maps.values())
    assert max(maps.values()) > min(maps.values())
    assert found == min(weight for weight, mean in maps.items() if mean == max(maps.values()))


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


@pytest.mark.parametrize("sampler", [PAIRS["sampler"], {"name": "pk", "num_pids": 4, "num_images": 2}])
def test_resuming_pairs_is_exact(sampler, made, tiny, new_run, session, interrupting, session_on, drawn_root):
    first = made("first", **EMBEDDING)
    table = {**tiny, **shared(first), "stage": [{**PAIRS, "sampler": sampler}]}  # pk: negatives are drawn at random
    table.pop("backbone")
    whole = new_run(table, "whole")
    train(whole, session)
    cut = new_run(table, "cut")
    with pytest.raises(KeyboardInterrupt):
        train(cut, session_on(drawn_root, progress=interrupting(4)))
    train(cut, session)
    one, two = (load_model(run).state_dict() for run in (whole, cut))
    assert all((one[name] == two[name]).all() for name in one)


def test_stages_share_lists_and_maps_while_the_backbone_is_frozen(made, tiny, new_run, session, monkeypatch):
    lists, maps = [], []
    find, keep = staging.nearest_others, staging.cache_maps
    monkeypatch.setattr(staging, "nearest_others", lambda *a, **k: lists.append(a[2]) or find(*a, **k))
    monkeypatch.setattr(staging, "cache_maps", lambda *a, **k: maps.append(1) or keep(*a, **k))
    first = made("first", **EMBEDDING)
    near = {**PAIRS, "sampler": {**PAIRS["sampler"], "top_k": 20}}
    thawed = {**near, "frozen": [], "cache_maps": False}
    train(new_run({**tiny, "first_stage": {"run": str(first.path)}, "stage": [near, PAIRS, thawed, near]}), session)
    assert lists == [39]
    assert len(maps) == 2


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
    with pytest.raises(ConfigError, match="wanted a first stage that compares embeddings by cosine"):
        evaluate(second, session, assignments=[RERANK])
    with pytest.raises(ConfigError, match="no classical re-ranking beside a second stage"):
        evaluate(first, session, assignments=[RERANK], pipeline=Pipeline(first, second, 4, "replace"))
    lifted = evaluate(second, session, assignments=["evaluation.rerank=[{name='tlift'}]"])[0]
    assert lifted.stamp.method == "transmatcher > tlift"


def test_a_misspelt_reranker(two, session):
    with pytest.raises(ConfigError, match=r"no reranker named 'k_reciprocl'\. Did you mean 'k_reciprocal'"):
        evaluate(two[0], session, assignments=["evaluation.rerank=[{name='k_reciprocl'}]"])
