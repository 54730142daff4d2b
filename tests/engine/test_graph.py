import json

import pytest
import torch

from reid.engine import graph
from reid.engine.extract import Extraction
from reid.engine.graph import class_distances
from reid.evaluation.scoring import Scoring
from reid.progress import Silent
from reid.train import train


@pytest.mark.parametrize("memory", [12 * 4096, 2**32])
def test_distances_are_negative_scores_of_all_pairs(model, records, tmp_path, monkeypatch, memory):
    monkeypatch.setattr(graph, "Scoring", lambda: Scoring(max_memory=memory, query_block=3, gallery_block=2))
    how = Extraction(batch_size=4, num_workers=0, states="float32")
    state = model.encode([record.path for record in records])
    wanted = -torch.stack([torch.stack([model.score(q, g)[0, 0] for g in state.split(1)]) for q in state.split(1)])
    found = class_distances(model, records, how, folder=tmp_path, progress=Silent())
    torch.testing.assert_close(found.distance_CC, wanted, atol=1e-4, rtol=1e-4)
    assert found.extract_s > 0
    assert found.score_s > 0
    assert list(tmp_path.iterdir()) == []


def test_training_says_and_logs_how_long_it_took(tiny, new_run, session):
    tiny["stage"][0]["sampler"] = {"name": "graph", "batch_size": 8, "num_images": 2, "num_batches": 3}
    run = new_run(tiny)
    train(run, session)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    graphs = [line for line in lines if line["event"] == "graph"]
    assert [(line["epoch"], line["step"], line["num_pids"]) for line in graphs] == [(1, 1, 10), (2, 4, 10)]
    assert all(line["extract_s"] > 0 and line["score_s"] > 0 for line in graphs)
