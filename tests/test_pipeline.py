"""What a test would refuse is refused before the training, on tiny runs."""

import pytest

from reid.errors import CheckpointError, ConfigError, ProtocolError
from reid.pipeline import Pipeline, own_pipeline, refuse_untestable
from reid.train import train

MARKET = {"name": "market1501", "root": "market", "expected_counts": "none"}
EMBEDDING = {"matcher": {"name": "embedding", "stride": 8}, "stage": []}
K_RECIPROCAL = {"name": "k_reciprocal", "k1": 5, "k2": 2}


@pytest.fixture
def first(made):
    """An untrained embedding that holds three identities out, as others may."""
    return made("first", **EMBEDDING, validation_pids=3)


@pytest.fixture
def behind(tiny, new_run, first):
    """Begin a run behind that first stage."""

    def begin(*, first_stage=None, **changes):
        stage = {"run": str(first.path), "top_k": 6, **(first_stage or {})}
        return new_run({**tiny, "first_stage": stage, **changes}, "second")

    return begin


def test_a_run_names_its_first_stage(behind, first):
    run = behind(first_stage={"fusion": "lerp"})
    assert own_pipeline(run, run.experiment()) == Pipeline(first, run, 6, "lerp")
    assert own_pipeline(first, first.experiment()) is None


def test_what_can_be_tested_is_not_refused(behind, first, session):
    refuse_untestable(first, session)
    refuse_untestable(behind(first_stage={"fusion": "lerp"}, validation_pids=3), session)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"first_stage": {"run": "nowhere"}}, CheckpointError, "nowhere: wanted a run folder"),
        ({"first_stage": {"top_k": 16}}, ConfigError, "top_k = 16: wanted at most the 15 images"),
        ({"first_stage": {"fusion": "lerp"}}, ConfigError, "wanted identities that neither stage was trained on"),
        ({"evaluation": {"key_rank": 4}}, ConfigError, "wanted exact scores to re-rank"),
        ({"evaluation": {"int8_products": True}}, ConfigError, "wanted exact scores to re-rank"),
        ({"evaluation": {"rerank": [K_RECIPROCAL]}}, ConfigError, "no classical re-ranking beside a second stage"),
    ],
)
def test_what_two_stages_cannot_be_tested_for(behind, session, changes, error, said):
    with pytest.raises(error, match=said):
        refuse_untestable(behind(**changes), session)


def test_a_first_stage_without_weights_or_with_too_much_knowledge(behind, tiny, new_run, made, session):
    empty = new_run({**tiny, **EMBEDDING}, "empty")
    run = behind(first_stage={"run": str(empty.path)})
    with pytest.raises(CheckpointError, match="Train first"):
        refuse_untestable(run, session)
    train(empty, session)
    refuse_untestable(run, session)
    stage = {**tiny["stage"][0], "loss": {"name": "triplet"}}
    leaking = made("leaking", **{**EMBEDDING, "stage": [stage]}, source=[{**MARKET, "train": "all"}], target=[])
    run.config.write_text(run.config.read_text().replace(str(empty.path), str(leaking.path)))
    with pytest.raises(ProtocolError):
        refuse_untestable(run, session)


@pytest.mark.parametrize(
    ("changes", "evaluation", "said"),
    [
        ({}, {"rerank": [{"name": "expansion"}]}, "wanted a first stage that compares embeddings by cosine"),
        (EMBEDDING, {"rerank": [{**K_RECIPROCAL, "k1": 30}]}, "at least k1 = 30 images, found 15"),
        (EMBEDDING, {"rerank": [K_RECIPROCAL], "key_rank": 4}, "wanted exact scores to re-rank"),
    ],
)
def test_rerankers_that_do_not_fit(tiny, new_run, session, changes, evaluation, said):
    with pytest.raises(ConfigError, match=said):
        refuse_untestable(new_run({**tiny, **changes, "evaluation": evaluation}), session)


@pytest.mark.usefixtures("no_pictures")
def test_the_command_asks_before_it_trains(reid, toml, tiny, drawn_root, tmp_path):
    table = {**tiny, "first_stage": {"run": "nowhere"}}
    code, _, err = reid("run", toml(table), "--data", drawn_root, "--out", tmp_path / "out", "--workers", 0)
    assert code == 2
    assert "nowhere: wanted a run folder" in err
    assert not (tmp_path / "out").exists()
