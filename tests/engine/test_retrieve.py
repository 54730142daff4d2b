import numpy as np
import pytest
import torch

from reid.engine import retrieve as module
from reid.engine.extract import Extraction
from reid.engine.retrieve import retrieve, scoring_way, state_precision
from reid.evaluation.scoring import Scoring
from reid.experiment import resolve
from reid.progress import Silent
from reid.train import fresh_model
from reid.types import ImageRecord


@pytest.fixture
def model(tiny):
    return fresh_model(resolve(tiny, "a test"))


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


def test_agreement_is_of_a_sample(model, records, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_COMPARED", (3, 5))
    how = Extraction(batch_size=4, num_workers=0, states="bfloat16")
    images = records["query"], records["bounding_box_test"]
    found = retrieve(model, *images, how, scoring=Scoring(), out=tmp_path / "s.npy", progress=Silent())
    assert (found.agreement.num_query, found.agreement.num_gallery) == (3, 5)
    assert found.agreement.spearman > 0.9


def test_samples_are_spread_evenly():
    records = [ImageRecord(None, pid=pid) for pid in range(9)]
    assert [record.pid for record in module._sample(records, 3)] == [0, 4, 8]
    assert module._sample(records, 20) == records


def test_embeddings_stay_in_full_precision(model, tiny):
    assert state_precision(model, "bfloat16") == "bfloat16"
    assert "products in" in scoring_way(model, "bfloat16")
    embedding = fresh_model(resolve({**tiny, "matcher": {"name": "embedding", "stride": 8}, "stage": []}, "a test"))
    assert state_precision(embedding, "bfloat16") == "float32"
    assert scoring_way(embedding, "bfloat16") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_scores_alike(model, records, tmp_path):
    images = records["query"], records["bounding_box_test"]
    how = Extraction(batch_size=4, num_workers=0, states="float32")
    on_cpu, on_gpu = (
        retrieve(model.to(device), *images, how, scoring=Scoring(), out=tmp_path / "s.npy", progress=Silent())
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu.scores.score_QG, on_cpu.scores.score_QG, atol=1e-3)
