import numpy as np
import torch

from reid.build import build_model
from reid.domains import open_domains
from reid.engine import neighbours
from reid.engine.extract import Extraction
from reid.engine.neighbours import nearest_others
from reid.experiment import resolve


def test_the_nearest_of_all_others(tiny, session, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_QUERIES", 7)
    records = open_domains(resolve(tiny, "x"), session).training_set().records
    torch.manual_seed(0)
    backbone = {"name": "resnet", "depth": 18, "cut": "layer2"}
    model = build_model(backbone, {"name": "embedding", "stride": 8}, (64, 32), pretrained=False)
    how = Extraction(num_workers=0)
    found = nearest_others(model, records, 5, how, folder=tmp_path, progress=session.progress)
    state = model.encode([record.path for record in records])
    score = model.score(state, state).numpy()
    np.fill_diagonal(score, -np.inf)
    np.testing.assert_array_equal(found.neighbour_NK, np.argsort(-score, axis=1, kind="stable")[:, :5])
    assert found.camid_N.tolist() == [record.camid for record in records]
    everyone = nearest_others(model, records, 100, how, folder=tmp_path, progress=session.progress)
    assert everyone.neighbour_NK.shape == (40, 39)
