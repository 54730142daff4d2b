import numpy as np
import pytest
import torch

from reid.build import build_model
from reid.engine import retrieve as module
from reid.engine.extract import Extraction
from reid.engine.retrieve import Shortcuts, retrieve, scoring_way, state_precision
from reid.errors import ConfigError, ShapeError
from reid.evaluation.scoring import Scoring
from reid.experiment import resolve
from reid.kernels import native
from reid.models import fresh_model
from reid.progress import Silent
from reid.types import ImageRecord


@pytest.fixture
def records(drawn_root):
    return {
        folder: [ImageRecord(path, pid=0) for path in sorted((drawn_root / "market" / folder).glob("*.jpg"))]
        for folder in ("query", "bounding_box_test")
    }


def test_scores_are_those_of_the_model(model, records, tmp_path):
    query, gallery = records["query"], records["bounding_box_test"]
    how = Extraction(batch_size=4, num_workers=0, states="float32")
    found = retrieve(model, query, gallery, how, scoring=Scoring(), out=tmp_path / "s.npy", progress=Silent())
    states = (model.encode([record.path for record in part]) for part in (query, gallery))
    wanted = model.score(*states).numpy()
    np.testing.assert_allclose(found.scores.score_QG, wanted, atol=1e-5 * wanted.std())
    assert found.agreement is None
    assert found.query_s > 0


def test_keys_of_full_rank_score_alike_with_centred_maps(tiny, records, tmp_path):
    model = fresh_model(resolve({**tiny, "center_maps": True}, "a test")).eval()
    for norm in model.norms.values():
        norm.mean_CHW.fill_(0.5)
        norm.variance.fill_(0.1)
    how = Extraction(batch_size=4, num_workers=0, states="float32")
    images = records["query"], records["bounding_box_test"]
    scores = [
        retrieve(model, *images, how, scoring=Scoring(), shortcuts=cut, out=tmp_path / "s.npy", progress=Silent())
        for cut in (Shortcuts(), Shortcuts(key_rank=model.matcher.config.dim))
    ]
    exact, cut = (found.scores.score_QG for found in scores)
    np.testing.assert_allclose(cut, exact, atol=1e-4 * exact.std())


def test_agreement_is_of_a_sample(model, records, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COMPARED", (3, 5))
    how = Extraction(batch_size=4, num_workers=0, states="bfloat16")
    images = records["query"], records["bounding_box_test"]
    found = retrieve(model, *images, how, scoring=Scoring(), out=tmp_path / "s.npy", progress=Silent())
    assert (found.agreement.num_query, found.agreement.num_gallery) == (3, 5)
    assert found.agreement.spearman > 0.9


def test_no_queries_are_an_error(model, records, tmp_path):
    how = Extraction(batch_size=4, num_workers=0)
    with pytest.raises(ShapeError, match="states of 0 images, at least one, found 0"):
        retrieve(model, [], records["query"], how, scoring=Scoring(), out=tmp_path / "s.npy", progress=Silent())


def test_samples_are_spread_evenly():
    records = [ImageRecord(None, pid=pid) for pid in range(9)]
    assert [record.pid for record in module._sample(records, 3)] == [0, 4, 8]
    assert module._sample(records, 20) == records


def test_embeddings_stay_in_full_precision(model, tiny):
    assert state_precision(model, "bfloat16") == "bfloat16"
    assert "products in" in scoring_way(model, "bfloat16", Shortcuts())
    embedding = fresh_model(resolve({**tiny, "matcher": {"name": "embedding", "stride": 8}, "stage": []}, "a test"))
    assert state_precision(embedding, "bfloat16") == "float32"
    assert scoring_way(embedding, "bfloat16", Shortcuts()) is None


@pytest.mark.skipif(native.amx().library is None, reason=native.amx().reason)
def test_int8_is_near_and_said(model, records, tmp_path):
    images = records["query"], records["bounding_box_test"]
    how = Extraction(batch_size=4, num_workers=0, states="bfloat16")
    found, wanted = (
        retrieve(model, *images, how, scoring=Scoring(), shortcuts=way, out=tmp_path / "s.npy", progress=Silent())
        for way in (Shortcuts(int8=True), Shortcuts())
    )
    difference = np.abs(found.scores.score_QG - wanted.scores.score_QG).max()
    assert 0 < difference < 0.6 * wanted.scores.score_QG.std()  # of an untrained model, all scores nearly alike
    assert found.agreement != wanted.agreement
    assert scoring_way(model, "bfloat16", Shortcuts(int8=True)) == "native AMX kernel, products in int8"


def test_int8_where_it_cannot_be_is_an_error(model, tiny, monkeypatch):
    embedding = fresh_model(resolve({**tiny, "matcher": {"name": "embedding", "stride": 8}, "stage": []}, "a test"))
    with pytest.raises(ConfigError, match=r"compares all positions.*found: Embedding"):
        module._shortened(embedding, Shortcuts(int8=True))
    with pytest.raises(ConfigError, match=r"on a CPU .*found: a model on meta"):
        module._shortened(model.to("meta"), Shortcuts(int8=True))
    monkeypatch.setattr(native, "amx", lambda: native.Native(None, "the CPU lacks amx_int8"))
    with pytest.raises(ConfigError, match="found: the CPU lacks amx_int8"):
        module._shortened(fresh_model(resolve(tiny, "a test")), Shortcuts(int8=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_scores_alike(model, records, tmp_path):
    images = records["query"], records["bounding_box_test"]
    how = Extraction(batch_size=4, num_workers=0, states="float32")
    on_cpu, on_gpu = (
        retrieve(model.to(device), *images, how, scoring=Scoring(), out=tmp_path / "s.npy", progress=Silent())
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu.scores.score_QG, on_cpu.scores.score_QG, atol=1e-3)


def test_only_matchers_that_take_maxima_have_a_kernel_to_tell_of():
    features = {"name": "resnet", "depth": 18, "cut": "layer2"}
    for pool, told in (("max", True), ("mean", False), ("softmax", False)):
        table = {"name": "transmatcher", "stride": 8, "dim": 8, "num_layers": 1, "decoder_feedforward": 8, "pool": pool}
        model = build_model(features, table, (64, 32), pretrained=False)
        assert (scoring_way(model, "float32", Shortcuts()) is not None) == told
