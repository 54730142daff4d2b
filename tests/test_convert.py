"""A released checkpoint, made of a model's weights, becomes a run that scores as the model does."""

import pytest
import torch

from reid.convert import convert_released
from reid.engine.checkpoint import saved_epochs
from reid.errors import CheckpointError, ConfigError, WeightsError
from reid.evaluate import evaluate
from reid.evaluation.results import read_results
from reid.experiment import resolve
from reid.models import fresh_model, load_model
from reid.train import train

QACONV = {"name": "qaconv", "stride": 8, "dim": 16}
HEADS = {"transmatcher": ("decoder.",), "qaconv": ("bn.", "fc.", "logit_bn.")}


def released(model, name):
    """``model`` as the released code saves it: with layers behind the cut, the prototype layer and the optimiser."""
    base = {f"base.{key}": value for key, value in model.backbone.state_dict().items()}
    behind_the_cut = {f"base.{key}": torch.ones(2) for key in ("layer3.0.conv1.weight", "layer4.0.bn1.bias", "fc.bias")}
    own = model.matcher.state_dict()
    head = {key: value for key, value in own.items() if key.startswith(HEADS[name])}
    prototype = {"decoder_layer.fc1.weight": torch.ones(2)} if name == "transmatcher" else {}
    return {
        "model": {**base, **behind_the_cut, **{key: value for key, value in own.items() if key not in head}},
        "criterion": {f"matcher.{key}": value for key, value in {**prototype, **head}.items()},
        "optim": {"state": {}},
        "epoch": 15,
    }


@pytest.fixture
def changed(tiny):
    """A model none of whose numbers are those that a new one begins with."""

    def make():
        model = fresh_model(resolve(tiny, "a test"))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.mul_(1 + 0.1 * torch.rand(tensor.shape, generator=generator))
        return model.eval()

    return make


@pytest.fixture
def save(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "checkpoint.pth.tar")
        return tmp_path / "checkpoint.pth.tar"

    return write


@pytest.mark.parametrize("name", ["transmatcher", "qaconv"])
def test_the_run_scores_as_the_released_model(tiny, new_run, session, changed, save, name):
    tiny["matcher"] = tiny["matcher"] if name == "transmatcher" else QACONV
    wanted, run = changed(), new_run(tiny)
    convert_released(save(released(wanted, name)), run)
    assert saved_epochs(run.checkpoints) == [0]
    images = torch.rand(5, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    (state, score), (_, untouched) = (
        (model.encode(images), model.score(model.encode(images), model.encode(images)))
        for model in (wanted, fresh_model(resolve(tiny, "a test")))
    )
    found = load_model(run)
    assert torch.equal(found.score(found.encode(images), state), score)
    assert not torch.equal(untouched, score)
    result, _ = evaluate(run, session)
    assert result.targets[0].num_query == 10


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda entries: entries["model"].pop("base.conv1.weight"), WeightsError, "missing: conv1.weight"),
        (lambda entries: entries["model"].update({"base.more": torch.ones(1)}), WeightsError, "unexpected: more"),
        (lambda entries: entries["criterion"].popitem(), CheckpointError, "missing: decoder"),
        (lambda entries: entries.pop("criterion"), CheckpointError, "wanted entries 'model' and 'criterion'"),
    ],
)
def test_weights_that_do_not_fit_leave_no_checkpoint(tiny, new_run, changed, save, change, error, said):
    entries, run = released(changed(), "transmatcher"), new_run(tiny)
    change(entries)
    with pytest.raises(error, match=said):
        convert_released(save(entries), run)
    assert saved_epochs(run.checkpoints) == []


def test_a_run_with_a_model_keeps_it(tiny, new_run, changed, save):
    path, run = save(released(changed(), "transmatcher")), new_run(tiny)
    convert_released(path, run)
    with pytest.raises(ConfigError, match="wanted a run without checkpoints"):
        convert_released(path, run)


def test_released_models_know_no_centred_maps(tiny, new_run, changed, save):
    path = save(released(changed(), "transmatcher"))
    with pytest.raises(ConfigError, match="released models read maps as they are"):
        convert_released(path, new_run({**tiny, "center_maps": True}))


def test_a_matcher_of_pixels_has_no_released_weights(tiny, new_run, changed, save):
    path = save(released(changed(), "transmatcher"))
    del tiny["backbone"]
    tiny.update(matcher={"name": "color_histogram"}, stage=[])
    with pytest.raises(ConfigError, match=r"wanted a \[backbone\]"):
        convert_released(path, new_run(tiny))


def test_released_weights_cannot_be_trained_on(tiny, new_run, session, changed, save):
    run = new_run(tiny)
    convert_released(save(released(changed(), "transmatcher")), run)
    with pytest.raises(
        CheckpointError, match=r"epoch_0: wanted a state to go on training from.* Test them: reid evaluate"
    ):
        train(run, session)


def test_the_command_makes_a_run_and_leaves_none_behind_where_it_fails(
    tiny, toml, changed, save, reid, tmp_path, drawn_root
):
    checkpoint = save(released(changed(), "transmatcher"))
    code, out, _ = reid("convert", checkpoint, toml(tiny), "--out", tmp_path / "converted")
    assert code == 0
    assert "reid evaluate" in out
    assert (tmp_path / "converted" / "checkpoints" / "epoch_0").is_dir()
    evaluated = reid("evaluate", tmp_path / "converted", "--data", drawn_root, "--workers", 0)
    assert evaluated[0] == 0
    assert {path.name for path in (tmp_path / "converted" / "figures").iterdir()} == {"cmc.png", "ranks_market1501.png"}
    result = read_results(tmp_path / "converted")
    assert result.training is None
    assert result.stamp.sources == ("market1501",)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    code, _, err = reid("convert", checkpoint, toml(tiny), "--out", tmp_path / "again")
    assert (code, (tmp_path / "again").exists()) == (2, False)
    assert checkpoint.name in err
