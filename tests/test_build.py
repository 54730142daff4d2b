import pytest
import torch
from safetensors.torch import save_file

from reid.build import (
    build_dataset,
    build_loss,
    build_model,
    build_sampler,
    component_config,
    component_module,
    component_names,
    find_protocol,
    settled_backbone,
)
from reid.errors import ConfigError, SamplingError, WeightsError
from reid.losses._base import LossSpec

RESNET = {"name": "resnet", "depth": 18, "cut": "layer2"}


def test_names_are_the_files():
    assert {"pairwise", "triplet", "identity_triplet"} <= set(component_names("loss"))
    assert component_names("sampler") == ["graph", "pk", "triplets"]
    assert not any(name.startswith("_") for name in component_names("dataset"))


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("matcher", "transmacher", ["no matcher named 'transmacher'", "'transmatcher'"]),
        ("sampler", "random", ["no sampler named 'random'", "Known: graph, pk"]),
        ("dataset", 3, ["no dataset named 3"]),
        ("dataset", ["market1501"], ["no dataset named ['market1501']"]),
        ("loss", "_base", ["no loss named '_base'"]),
    ],
)
def test_an_unknown_name(kind, name, words):
    with pytest.raises(ConfigError) as caught:
        component_module(kind, name, "x.toml [here]")
    for word in ["x.toml [here]", *words]:
        assert word in str(caught.value)


def test_a_table_without_a_name_or_with_a_misspelt_key():
    with pytest.raises(ConfigError, match=r"here: key 'name' is missing\. Known: graph, pk"):
        component_config("sampler", {"num_pids": 4}, "here")
    with pytest.raises(ConfigError, match=r"here: unknown key 'num_pid'\. Did you mean 'num_pids'"):
        component_config("sampler", {"name": "pk", "num_pid": 4}, "here")


def test_a_relative_root_is_below_the_data_root(tmp_path):
    assert build_dataset({"name": "market1501", "root": "x"}, tmp_path).config.root == tmp_path / "x"
    assert build_dataset({"name": "market1501", "root": "/x"}, tmp_path).config.root.as_posix() == "/x"
    assert build_dataset({"name": "market1501"}, tmp_path).config.root is None


def test_sampler_and_loss_get_what_they_need():
    sampler = build_sampler({"name": "pk", "num_pids": 2, "num_images": 2}, [0, 0, 1, 1], 0)
    assert [sorted(batch) for batch in sampler.batches(0)] == [[0, 1, 2, 3]]
    with pytest.raises(SamplingError):
        build_sampler({"name": "pk", "num_pids": 3}, [0, 0, 1, 1], 0)
    loss = build_loss({"name": "identity_triplet"}, LossSpec(num_pids=5, embedding_dim=7))
    assert loss.classifier.weight.shape == (5, 7)
    with pytest.raises(ConfigError, match="embedding"):
        build_loss({"name": "identity_triplet"}, LossSpec(num_pids=5, embedding_dim=None))


def test_the_model_is_drawn_from_torchs_random_state():
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(build_model(RESNET, {"name": "embedding", "stride": 8}, (64, 32)).state_dict())
    same = [torch.equal(models[0]["backbone.conv1.weight"], other["backbone.conv1.weight"]) for other in models]
    assert same == [True, True, False]


def test_a_stride_the_backbone_does_not_give():
    with pytest.raises(ConfigError, match="stride 16"):
        build_model(RESNET, {"name": "embedding", "stride": 16}, (64, 32))


def test_maps_are_centred_before_the_matcher_reads_them():
    torch.manual_seed(0)
    model = build_model(RESNET, {"name": "embedding", "stride": 8}, (64, 32), center_maps=True).train()
    images = torch.rand(6, 3, 64, 32)
    state, maps = model.states_and_maps(images)
    scaled = (maps[8] - maps[8].mean(0)) / (maps[8].var(0, correction=0).mean() + 1e-5).sqrt()
    torch.testing.assert_close(state["pooled"], scaled.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(state["pooled"], maps[8].mean((2, 3)), atol=0.1)
    with pytest.raises(ConfigError, match="center_maps: wanted a matcher that reads maps, found color_histogram"):
        build_model(None, {"name": "color_histogram"}, (64, 32), center_maps=True)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine.safetensors"
    state = build_model(RESNET, {"name": "embedding", "stride": 8}, (64, 32)).backbone.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


def test_pretrained_weights_are_loaded_unless_the_caller_brings_its_own(weights):
    table = {**RESNET, "weights": str(weights), "normalization": "half"}
    loaded = build_model(table, {"name": "embedding", "stride": 8}, (64, 32))
    again = build_model(table, {"name": "embedding", "stride": 8}, (64, 32))
    assert torch.equal(loaded.backbone.conv1.weight, again.backbone.conv1.weight)
    weights.unlink()
    own = build_model(table, {"name": "embedding", "stride": 8}, (64, 32), pretrained=False)
    assert not torch.equal(loaded.backbone.conv1.weight, own.backbone.conv1.weight)
    with pytest.raises(WeightsError):
        build_model(table, {"name": "embedding", "stride": 8}, (64, 32))


@pytest.mark.parametrize(
    ("weights", "normalization"), [("none", "none"), ("imagenet", "imagenet")], ids=["random", "ImageNet"]
)
def test_auto_normalization_is_settled_without_the_weights(weights, normalization):
    before = torch.get_rng_state()
    settled = settled_backbone({**RESNET, "weights": weights})
    assert settled["normalization"] == normalization
    assert settled["weights"] == weights
    assert torch.equal(torch.get_rng_state(), before)
    assert settled_backbone(settled) == settled


def test_auto_normalization_of_a_file_that_is_missing_or_unknown(weights):
    with pytest.raises(ConfigError, match="normalization"):
        settled_backbone({**RESNET, "weights": str(weights)})
    with pytest.raises(WeightsError, match="no such file"):
        settled_backbone({**RESNET, "weights": str(weights.with_name("none.pth"))})


def test_protocols_are_found_by_name():
    assert find_protocol("leave_one_out").name == "leave_one_out"
    with pytest.raises(ConfigError, match=r"--protocol: no protocol named 'leave_one'\. Did you mean 'leave_one_out"):
        find_protocol("leave_one")


@pytest.mark.parametrize("name", component_names("protocol"))
def test_the_transfers_of_a_protocol_have_names_of_their_own(name):
    names = [transfer.name for transfer in find_protocol(name).transfers]
    assert len(set(names)) == len(names)
