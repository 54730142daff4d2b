import pytest

from reid.build import find_protocol
from reid.errors import ConfigError
from reid.experiment import on_transfer, read_experiment, resolve, to_toml
from reid.protocols._base import Transfer

STAGE = {"epochs": 1, "sampler": {"name": "pk"}, "loss": {"name": "pairwise"}}


def test_defaults_are_filled_in_down_to_the_components(tiny):
    experiment = resolve(tiny, "x.toml")
    assert experiment.backbone["normalization"] == "none"
    assert experiment.matcher["symmetric_embed"] is False
    assert experiment.source[0]["expected_counts"] == "none"
    assert experiment.stage[0].sampler == {"name": "pk", "num_pids": 4, "num_images": 2}
    assert experiment.stage[0].schedule.name == "constant"
    assert experiment.evaluation.camera_rule


def test_the_defaults_are_transmatchers_recipe():
    stage = {"epochs": 15, "sampler": {"name": "graph"}, "loss": {"name": "pairwise"}}
    experiment = resolve({"title": "t", "matcher": {"name": "transmatcher"}, "stage": [stage]}, "x.toml")
    assert experiment.image_size == (384, 128)
    found = experiment.stage[0]
    optimizer = found.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.backbone_lr_factor) == ("sgd", 0.005, 0.1)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 5e-4)
    assert (found.schedule.name, found.schedule.step_epochs, found.schedule.gamma) == ("step", 10, 0.1)
    assert (found.sampler["batch_size"], found.sampler["num_images"], found.backbone_mode) == (64, 4, "eval")


def test_toml_and_back(tiny, tmp_path):
    second = {**tiny["stage"][0], "schedule": {"name": "adaptive"}, "frozen": ["backbone"]}
    experiment = resolve({**tiny, "stage": [tiny["stage"][0], second], "validation_pids": 2}, "x.toml")
    path = tmp_path / "config.toml"
    path.write_text(to_toml(experiment), encoding="utf-8")
    assert read_experiment(path) == experiment


def test_without_a_backbone(tmp_path):
    experiment = resolve({"title": "t", "matcher": {"name": "color_histogram"}}, "x.toml")
    (tmp_path / "config.toml").write_text(to_toml(experiment), encoding="utf-8")
    assert read_experiment(tmp_path / "config.toml") == experiment
    assert experiment.backbone is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"matcher": {"name": "transformer", "dim": 16, "num_heads": 3}}, " [matcher]: wanted num_heads that divides"),
        ({"stage": [{**STAGE, "cache_maps": True}]}, ": stage.0: cache_maps: wanted the backbone among frozen"),
    ],
)
def test_what_does_not_fit_together_is_told_without_the_table(toml, tiny, changes, said):
    path = toml({**tiny, **changes})
    with pytest.raises(ConfigError) as caught:
        read_experiment(path)
    assert str(caught.value).startswith(f"{path}{said}")
    assert "{'" not in str(caught.value)


def test_assignments_override_keys(toml, tiny):
    path = toml(tiny)
    experiment = read_experiment(path, ["stage.0.epochs=7", "matcher.dim = 8", "title=other", "source.0.root=/x"])
    assert (experiment.stage[0].epochs, experiment.matcher["dim"], experiment.title) == (7, 8, "other")
    assert experiment.source[0]["root"] == "/x"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("sed=1", ["'sed'", "'seed'"]),
        ("seed=-1", ["seed", "-1"]),
        ("seed=4294967296", ["seed"]),
        ("image_size=[64]", ["image_size"]),
        ("matcher.dims=3", ["[matcher]", "'dims'", "'dim'"]),
        ("matcher.name=transmatcherr", ["[matcher]", "'transmatcherr'", "'transmatcher'"]),
        ("backbone.depth=19", ["[backbone]", "depth = 19"]),
        ("source.0.nam=x", ["[source]", "'nam'", "'name'"]),
        ("stage.0.epoch=3", ["stage.0.epoch", "'epochs'"]),
        ("stage.0.epochs=0", ["stage.0.epochs", "0"]),
        ("stage.0.loss.name=pairwize", ["[stage.loss]", "'pairwise'"]),
        ("stage.0.sampler.num_imgs=3", ["[stage.sampler]", "'num_images'"]),
        ("stage.0.optimizer.learning_rate=3", ["learning_rate"]),
        ("stage.0.optimizer.momntum=3", ["'momentum'"]),
        ("stage.0.schedule.name=stepp", ["schedule", "'stepp'", "'step'"]),
        ("stage.0.schedule={name='step', step_epoch=3}", ["'stage.0.schedule.step.step_epoch'", "'step_epochs'"]),
        ("stage.0.schedule={name='adaptive', gama=3}", ["'gamma'"]),
        ("stage.0.schedule={step_epochs=3}", ["schedule", "name"]),
        ("stage.0.frozen=['bakbone']", ["frozen", "bakbone"]),
        ("stage.0.augment.flipp=1", ["'flip'"]),
        ("evaluation.ap_rule=finite", ["ap_rule", "finite"]),
        ("evaluation.camera_rul=false", ["'camera_rule'"]),
    ],
)
def test_mistakes_are_named_with_the_nearest_name(assignment, words, toml, tiny):
    path = toml(tiny)
    with pytest.raises(ConfigError) as caught:
        read_experiment(path, [assignment])
    for word in [path.name, *words]:
        assert word in str(caught.value)


def test_on_transfer_changes_the_domains_only(tiny):
    experiment = resolve(tiny, "x.toml")
    transfer = Transfer(({"name": "msmt17", "train": "all"},), ({"name": "cuhk03_np", "variant": "detected"},))
    moved = on_transfer(experiment, transfer)
    assert moved.source[0]["name"] == "msmt17"
    assert moved.source[0]["train"] == "all"
    assert [table["name"] for table in moved.target] == ["cuhk03_np"]
    assert moved.title == "tiny (msmt17-all_to_cuhk03_np-detected)"
    kept = {"source": experiment.source, "target": experiment.target, "title": experiment.title}
    assert moved.model_copy(update=kept) == experiment


def test_every_protocol_fits_every_experiment(tiny):
    experiment = resolve(tiny, "x.toml")
    for name in ("synthped", "leave_one_out_all"):
        for transfer in find_protocol(name).transfers:
            assert len(on_transfer(experiment, transfer).target) == len(transfer.targets)


def test_a_base_lends_what_is_not_said(tmp_path, toml, tiny):
    toml(tiny, "whole.toml")
    path = tmp_path / "part.toml"
    path.write_text('base = "whole.toml"\ntitle = "part"\n[matcher]\ndim = 8\n')
    whole, part = read_experiment(tmp_path / "whole.toml"), read_experiment(path)
    assert part.matcher == {**whole.matcher, "dim": 8}
    assert part.title == "part"
    assert part.model_copy(update={"title": whole.title, "matcher": whole.matcher}) == whole
    path.write_text('base = "whole.toml"\n[matcher]\nname = "qaconv"\nstride = 8\n')
    assert read_experiment(path).matcher["name"] == "qaconv"  # nothing of the TransMatcher's is left
    assert read_experiment(path, ["matcher.dim=4"]).matcher["dim"] == 4
    upper = tmp_path / "upper.toml"
    path.write_text('base = "whole.toml"\ntitle = "part"\n[matcher]\ndim = 8\n')
    upper.write_text('base = "part.toml"\n[matcher]\nstride = 8\n')
    assert read_experiment(upper).matcher == {**whole.matcher, "dim": 8, "stride": 8}
    assert read_experiment(upper).title == "part"
    path.write_text(f'base = "../{tmp_path.name}/upper.toml"\n')
    with pytest.raises(ConfigError, match="which has this file for a base"):
        read_experiment(path)
    path.write_text('base = "nobody.toml"\n')
    with pytest.raises(ConfigError, match=r"nobody.toml: no such file"):
        read_experiment(path)
