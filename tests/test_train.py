import json

import pytest
import torch

from reid.engine import trainer, training_set
from reid.engine.checkpoint import latest, load_checkpoint, saved_epochs
from reid.errors import CheckpointError, ConfigError, DatasetError, TrainingError
from reid.models import fresh_model, load_model
from reid.train import train

STEPS = 3  # ceil(10 identities / 4 a batch) steps an epoch with the tiny experiment's sampler
GRAPH = {"name": "graph", "batch_size": 8, "num_images": 2, "num_batches": 3}
ADAMW = {"name": "adamw", "lr": 0.001}


def pk_sgd(table):
    return table


def graph_adamw(table):
    table["stage"][0].update(sampler=GRAPH, optimizer=ADAMW)
    return table


def cosine_with_warmup(table):
    table["stage"][0]["schedule"] = {"name": "cosine", "warmup_epochs": 1.5}
    return table


def adaptive(table):
    table["stage"][0].update(
        epochs=5, sampler=GRAPH, loss={"name": "triplet"}, schedule={"name": "adaptive", "loss_factor": 1.1}
    )
    return table


def loss_with_parameters(table):
    table["matcher"] = {"name": "embedding", "stride": 8}
    table["stage"][0]["loss"] = {"name": "identity_triplet"}
    return table


def two_stages(table):
    first = {**table["stage"][0], "epochs": 2}
    second = {**first, "sampler": GRAPH, "optimizer": ADAMW, "frozen": ["backbone"], "backbone_mode": "eval"}
    table["stage"] = [first, second]
    return table


def log_lines(run):
    """The log without what a clock says."""
    timed = ("loader_wait_share", "seconds", "extract_s", "score_s")
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in timed and "images_per_s" not in key} for line in lines
    ]


def facts(run):
    found = dict(load_checkpoint(latest(run.checkpoints)).facts)
    found["clock"] = {**found["clock"], "seconds": 0}
    return found


@pytest.fixture
def train_with_stop(session_on, drawn_root, interrupting):
    """Train, stopped by Ctrl-C after ``stop`` steps, and go on; how many epochs were finished at the stop."""

    def stop_and_go(run, stop, num_workers=0):
        with pytest.raises(KeyboardInterrupt):
            train(run, session_on(drawn_root, num_workers=0, progress=interrupting(stop)))
        before = len(saved_epochs(run.checkpoints))
        train(run, session_on(drawn_root, num_workers=num_workers))
        return before

    return stop_and_go


@pytest.fixture
def log_every_step(monkeypatch):
    """Every step has its line."""
    monkeypatch.setattr(trainer, "LOG_EVERY", 1)


def assert_same_bits(one, two):
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different


@pytest.mark.usefixtures("log_every_step")
@pytest.mark.parametrize(
    ("change", "epochs", "stop"),
    [
        pytest.param(pk_sgd, 4, 2 * STEPS + 1, id="pk, sgd"),
        pytest.param(pk_sgd, 4, 2 * STEPS - 1, id="pk, sgd, in the middle of an epoch"),
        pytest.param(pk_sgd, 4, 1, id="pk, sgd, before the first checkpoint"),
        pytest.param(cosine_with_warmup, 4, 2 * STEPS + 1, id="warm-up and cosine"),
        pytest.param(graph_adamw, 4, 2 * STEPS + 1, id="graph, adamw"),
        pytest.param(adaptive, 5, 2 * STEPS + 1, id="adaptive, before the decay"),
        pytest.param(adaptive, 5, 3 * STEPS - 1, id="adaptive, after one epoch"),
        pytest.param(loss_with_parameters, 4, 2 * STEPS + 1, id="loss with parameters"),
        pytest.param(two_stages, 2, STEPS + 2, id="two stages, within the first"),
        pytest.param(two_stages, 2, 2 * STEPS + 1, id="two stages, between"),
        pytest.param(two_stages, 2, 3 * STEPS + 2, id="two stages, within the second"),
    ],
)
def test_resuming_is_exact_to_the_bit(change, epochs, stop, tiny, new_run, session, train_with_stop, weights_of):
    table = change(tiny)
    table["stage"][0]["epochs"] = epochs
    whole, stopped = new_run(table, "whole"), new_run(table, "stopped")
    train(whole, session)
    train_with_stop(stopped, stop)
    assert_same_bits(weights_of(whole), weights_of(stopped))
    assert facts(whole) == facts(stopped)
    assert log_lines(whole) == log_lines(stopped)


@pytest.mark.slow
@pytest.mark.parametrize("change", [pk_sgd, graph_adamw])
def test_resuming_with_other_workers_is_exact_to_the_bit(
    change, tiny, new_run, drawn_root, session_on, train_with_stop, weights_of
):
    table = change(tiny)
    table["stage"][0]["epochs"] = 4
    whole, stopped, other = (new_run(table, name) for name in ("whole", "stopped", "other"))
    train(whole, session_on(drawn_root, num_workers=0))
    train_with_stop(stopped, 2 * STEPS + 1, num_workers=2)
    train(other, session_on(drawn_root, num_workers=2))
    assert_same_bits(weights_of(whole), weights_of(stopped))
    assert_same_bits(weights_of(whole), weights_of(other))


@pytest.mark.usefixtures("log_every_step")
def test_the_log_has_every_step_and_epoch_once(tiny, new_run, train_with_stop):
    tiny["stage"][0]["epochs"] = 3
    run = new_run(tiny)
    assert train_with_stop(run, 2 * STEPS + 2) == 2
    steps = [line["step"] for line in log_lines(run) if line["event"] == "step"]
    epochs = [(line["epoch"], line["step"]) for line in log_lines(run) if line["event"] == "epoch"]
    assert steps == list(range(1, 3 * STEPS + 1))
    assert epochs == [(1, STEPS), (2, 2 * STEPS), (3, 3 * STEPS)]


def test_training_learns(tiny, new_run, session):
    tiny["stage"][0]["epochs"] = 8
    run = new_run(tiny)
    train(run, session)
    losses = [line["loss"] for line in log_lines(run) if line["event"] == "epoch"]
    assert losses[-1] < 0.8 * losses[0]


def test_another_seed_gives_another_model(tiny, new_run, session, weights_of):
    one, two, again = new_run(tiny, "one"), new_run({**tiny, "seed": 1}, "two"), new_run(tiny, "again")
    for run in (one, two, again):
        train(run, session)
    assert_same_bits(weights_of(one), weights_of(again))
    assert not torch.equal(weights_of(one)["backbone.conv1.weight"], weights_of(two)["backbone.conv1.weight"])


def test_the_adaptive_schedule_ends_training(tiny, new_run, session):
    tiny["stage"][0].update(epochs=20, schedule={"name": "adaptive", "loss_factor": 10.0})
    run = new_run(tiny)
    train(run, session)
    epochs = [line for line in log_lines(run) if line["event"] == "epoch"]
    assert [line["lr"] for line in epochs] == pytest.approx([0.01, 0.01, 0.001])  # loss < 10 x itself after epoch 2


def test_only_the_latest_checkpoints_are_kept(tiny, new_run, session):
    tiny["checkpoints_kept"] = 2
    tiny["stage"][0]["epochs"] = 4
    run = new_run(tiny)
    train(run, session)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["epoch_3", "epoch_4"]


def test_a_finished_run_is_not_trained_further(tiny, new_run, session, weights_of, files_below):
    run = new_run(tiny)
    train(run, session)
    before = files_below(run.checkpoints)
    model = train(run, session)
    assert files_below(run.checkpoints) == before
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], weights_of(run)["backbone.conv1.weight"])


def test_the_loaded_model_is_the_trained_one(tiny, new_run, session):
    run = new_run(tiny)
    trained = train(run, session)
    loaded = load_model(run)
    assert not loaded.training
    assert_same_bits(trained.state_dict(), loaded.state_dict())


def test_without_stages_the_untrained_model_is_kept(tiny, new_run, session, weights_of):
    tiny["stage"] = []
    run = new_run(tiny)
    train(run, session)
    train(run, session)
    assert saved_epochs(run.checkpoints) == [0]
    assert_same_bits(weights_of(run), fresh_model(run.experiment()).state_dict())


def test_the_backbone_mode_decides_about_batch_statistics(tiny, new_run, session, weights_of):
    fresh = {}
    for mode in ("train", "eval"):
        tiny["stage"][0]["backbone_mode"] = mode
        run = new_run(tiny, mode)
        fresh = fresh_model(run.experiment()).state_dict()
        train(run, session)
        unchanged = torch.equal(weights_of(run)["backbone.bn1.running_mean"], fresh["backbone.bn1.running_mean"])
        assert unchanged == (mode == "eval")


@pytest.mark.parametrize("role", ["backbone", "encoder", "decoder"])
def test_what_is_frozen_stays_as_it_is(role, tiny, new_run, session, weights_of):
    tiny["stage"][0]["frozen"] = [role]
    run = new_run(tiny)
    fresh = fresh_model(run.experiment())
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    train(run, session)
    after = weights_of(run)
    parts = {
        "backbone": {id(p) for p in fresh.backbone.parameters()},
        **{group.role: {id(p) for p in group.parameters} for group in fresh.matcher.parameter_groups()},
    }
    for name, parameter in fresh.named_parameters():
        assert torch.equal(before[name], after[name]) == (id(parameter) in parts[role]), name
    for name, module in fresh.named_modules():
        own = {id(parameter) for parameter in module.parameters(recurse=False)}
        for buffer in (f"{name}.running_mean", f"{name}.running_var"):
            if buffer in before:
                assert torch.equal(before[buffer], after[buffer]) == (own <= parts[role]), buffer


def test_frozen_maps_keep_the_statistics_they_are_centred_by(tiny, new_run, session, weights_of):
    for role, still in (("encoder", True), ("decoder", False)):
        tiny["stage"][0]["frozen"] = ["backbone", role]
        run = new_run({**tiny, "center_maps": True}, role)
        before = fresh_model(run.experiment()).state_dict()["norms.8.mean_CHW"].clone()
        train(run, session)
        assert torch.equal(before, weights_of(run)["norms.8.mean_CHW"]) is still


def test_a_role_that_the_matcher_does_not_have(tiny, new_run, session):
    tiny["stage"][0]["frozen"] = ["head"]
    with pytest.raises(
        ConfigError,
        match=r"stage\.frozen: wanted some of backbone, encoder, decoder, which TransMatcher has, found head",
    ):
        train(new_run(tiny), session)


def test_all_frozen_is_refused(tiny, new_run, session):
    tiny["stage"][0]["frozen"] = ["backbone", "encoder", "decoder"]
    with pytest.raises(ConfigError, match="all are frozen"):
        train(new_run(tiny), session)


@pytest.mark.parametrize("sampler", [{"name": "pk", "num_pids": 4, "num_images": 2}, GRAPH])
def test_bf16_on_a_cpu_trains_finite(sampler, tiny, new_run, session, weights_of):
    tiny["stage"][0].update(precision="bf16", sampler=sampler)
    run = new_run(tiny)
    train(run, session)
    assert all(tensor.isfinite().all() for tensor in weights_of(run).values())
    assert {tensor.dtype for tensor in load_model(run).parameters()} == {torch.float32}


def test_fp16_on_a_cpu_is_refused(tiny, new_run, session):
    tiny["stage"][0]["precision"] = "fp16"
    with pytest.raises(ConfigError, match="'fp16' needs CUDA"):
        train(new_run(tiny), session)


@pytest.mark.parametrize(
    ("lr", "epoch", "kept"),
    [
        pytest.param(1e38, 2, [1], id="weights that are infinite"),
        pytest.param(1e30, 3, [1, 2], id="weights that are finite and give no finite score"),
    ],
)
def test_a_diverging_training_stops_and_keeps_its_checkpoints(lr, epoch, kept, tiny, new_run, session):
    tiny["stage"] = [{**tiny["stage"][0], "epochs": 1}, {**tiny["stage"][0], "optimizer": {"lr": lr}}]
    run = new_run(tiny)
    with pytest.raises(TrainingError, match=rf"epoch {epoch}: .*Lower stage\.optimizer\.lr"):
        train(run, session)
    assert saved_epochs(run.checkpoints) == kept
    assert all(parameter.isfinite().all() for parameter in load_model(run).parameters())


def test_nothing_to_train_on_is_refused(tiny, new_run, session):
    with pytest.raises(DatasetError, match="wanted images to train on"):
        train(new_run({**tiny, "source": []}), session)


def test_a_run_without_a_checkpoint_cannot_be_loaded(tiny, new_run):
    with pytest.raises(CheckpointError, match="Train first"):
        load_model(new_run(tiny))


def test_every_epoch_is_augmented_anew_over_all_stages(tiny, new_run, session, monkeypatch):
    epochs = []
    load = training_set.train_batches

    def watched(*arguments, epoch, **options):
        epochs.append(epoch)
        return load(*arguments, epoch=epoch, **options)

    monkeypatch.setattr(training_set, "train_batches", watched)
    train(new_run(two_stages(tiny)), session)
    assert epochs == [0, 1, 2, 3]


VIEWS = {
    "task": "correspondence",
    "epochs": 1,
    "frozen": ["backbone"],
    "sampler": {"name": "pk", "num_pids": 4, "num_images": 2},
    "loss": {"name": "assignment"},
    "optimizer": {"name": "adamw", "lr": 0.001},
    "schedule": {"name": "constant"},
}
SUPERGLUE = {"name": "superglue", "stride": 8, "dim": 8, "num_heads": 2, "num_layers": 2}


def test_a_stage_on_views_trains_all_but_what_is_frozen(made, tiny, weights_of):
    untrained, trained = made("untrained", matcher=SUPERGLUE, stage=[]), made("run", matcher=SUPERGLUE, stage=[VIEWS])
    before, after = weights_of(untrained), weights_of(trained)
    assert torch.equal(before["backbone.conv1.weight"], after["backbone.conv1.weight"])
    assert not torch.equal(before["matcher.keypoints.project.weight"], after["matcher.keypoints.project.weight"])


ROMA = {"name": "roma", "stride": 8, "dim": 8, "gp_dim": 4, "num_blocks": 1, "num_heads": 2, "feedforward": 8}
ROMA |= {"refiners": [{"stride": 4, "dim": 4, "num_blocks": 1}], "fine_channels": [2, 2, 2, 2]}


@pytest.mark.parametrize(
    ("matcher", "loss", "head"), [(SUPERGLUE, "assignment", "calibration."), (ROMA, "dense_warp", "evidence_head.")]
)
def test_identities_may_teach_the_head_alone(matcher, loss, head, made, weights_of):
    views = {**VIEWS, "loss": {"name": loss}}
    frozen = ["backbone", "encoder", "decoder"]
    identities = {**VIEWS, "task": "pairs", "loss": {"name": "pair_bce"}, "frozen": frozen}
    before = weights_of(made("views", matcher=matcher, stage=[views]))
    after = weights_of(made("both", matcher=matcher, stage=[views, identities]))
    weights = {name for name in before if name.startswith(("backbone.", "matcher."))}
    changed = {name for name in weights if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(f"matcher.{head}") for name in changed), changed


def test_renderings_are_drawn_from_the_training_people_of_a_synthped_source(tiny, new_run, session_on, tmp_path):
    synthped = {"name": "synthped", "num_train_pids": 5, "num_test_pids": 1, "num_distractors": 0, "num_junk": 0}
    stage = {**VIEWS, "views": {"surface_share": 1.0}, "sampler": {"name": "pk", "num_pids": 2, "num_images": 2}}
    run = new_run({**tiny, "source": [synthped], "target": [], "matcher": SUPERGLUE, "stage": [stage]})
    train(run, session_on(tmp_path / "drawn"))
    assert saved_epochs(run.checkpoints) == [1]


def test_renderings_want_a_synthped_source(made):
    with pytest.raises(ConfigError, match=r"surface_share: wanted a .* named synthped"):
        made("run", matcher=SUPERGLUE, stage=[{**VIEWS, "views": {"surface_share": 0.5}}])


@pytest.mark.parametrize(
    "change", [{"task": "pairs"}, {"loss": {"name": "pairwise"}}, {"task": "block"}, {"loss": {"name": "pair_bce"}}]
)
def test_tasks_and_losses_fit_together(change, made):
    with pytest.raises(ConfigError, match="wanted task"):
        made("run", matcher=SUPERGLUE, stage=[{**VIEWS, **change}])


def test_maps_of_views_cannot_be_kept_since_they_are_others_every_epoch(made):
    with pytest.raises(ConfigError, match="cache_maps: wanted task block or pairs, found correspondence"):
        made("run", matcher=SUPERGLUE, stage=[{**VIEWS, "cache_maps": True}])


def test_a_matcher_that_looks_at_pixels_cannot_train_on_kept_maps(made):
    stage = {**VIEWS, "task": "pairs", "loss": {"name": "pair_bce"}, "cache_maps": True}
    with pytest.raises(ConfigError, match="cache_maps: wanted a matcher that reads maps alone, found RoMa"):
        made("run", matcher={"name": "roma", "stride": 8, "dim": 64}, stage=[stage])
