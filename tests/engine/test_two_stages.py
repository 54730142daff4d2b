import copy

import numpy as np
import pytest
import torch

from reid.build import build_model
from reid.domains import open_domains
from reid.engine import two_stages
from reid.engine.extract import Extraction
from reid.engine.model import Model
from reid.engine.two_stages import TwoStages, retrieve_in_two
from reid.errors import ConfigError
from reid.evaluation.scoring import Scoring
from reid.experiment import resolve

BACKBONE = {"name": "resnet", "depth": 18, "cut": "layer2"}
SIZE = (64, 32)


def model(matcher, seed=0, **backbone):
    torch.manual_seed(seed)
    return build_model({**BACKBONE, **backbone}, matcher, SIZE, pretrained=False).eval()


FIRST = model({"name": "embedding", "stride": 8})
SECOND = model({"name": "qaconv", "stride": 8, "dim": 8}, seed=1)
ON_ITS_MAPS = Model(copy.deepcopy(FIRST.backbone), copy.deepcopy(SECOND.matcher), SIZE)
ON_MORE_MAPS = model({"name": "qaconv", "stride": 4, "dim": 8}, seed=1, strides=[4, 8])
ON_MORE_MAPS.backbone.load_state_dict(FIRST.backbone.state_dict())
PAIRS = {
    "two backbones": (FIRST, SECOND),
    "one backbone": (FIRST, ON_ITS_MAPS),
    "one backbone, more maps of it": (FIRST, ON_MORE_MAPS),
    "one backbone, fewer maps of it": (ON_MORE_MAPS, FIRST),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_scores_are_those_of_both_models(pair, tiny, session, tmp_path):
    first, second = PAIRS[pair]
    assert TwoStages(first, second, 4).one_backbone == pair.startswith("one")
    (target,) = open_domains(resolve(tiny, "x"), session).targets
    how = Extraction(num_workers=0, states="float32")
    found = retrieve_in_two(
        TwoStages(first, second, 4),
        target.query,
        target.gallery,
        how,
        scoring=Scoring(),
        out=tmp_path / "scores.npy",
        progress=session.progress,
    )
    query, gallery = ([record.path for record in records] for records in (target.query, target.gallery))
    wanted = first.score(first.encode(query), first.encode(gallery)).numpy()
    np.testing.assert_allclose(found.scores.score_QG, wanted, atol=1e-5)
    idx = found.shortlist.gallery_idx_QK
    np.testing.assert_array_equal(idx, np.argsort(-found.scores.score_QG, axis=1, kind="stable")[:, :4])
    wanted = second.score(second.encode(query), second.encode(gallery)).numpy()
    np.testing.assert_allclose(found.second_QK, np.take_along_axis(wanted, idx, axis=1), atol=1e-4 * wanted.std())
    assert found.encode_s > 0 < found.rescore_s
    found.shortlist.refuse_other(target.gallery)


def test_one_backbone_is_used_once(tiny, session, tmp_path, monkeypatch):
    assert TwoStages(FIRST, ON_ITS_MAPS, 1).one_backbone
    assert not TwoStages(FIRST, SECOND, 1).one_backbone
    assert not TwoStages(Model(None, FIRST.matcher, SIZE), ON_ITS_MAPS, 1).one_backbone
    (target,) = open_domains(resolve(tiny, "x"), session).targets
    monkeypatch.setattr(two_stages, "extract", None)
    monkeypatch.setattr(ON_ITS_MAPS.backbone, "forward", None)
    where = {"scoring": Scoring(), "out": tmp_path / "s.npy", "progress": session.progress}
    retrieve_in_two(TwoStages(FIRST, ON_ITS_MAPS, 4), target.query, target.gallery, Extraction(num_workers=0), **where)


@pytest.mark.parametrize("pair", [(FIRST, SECOND), (SECOND, FIRST), (FIRST, ON_ITS_MAPS)])
def test_too_little_memory_for_either_stage_shows_before_states_are_gathered(
    pair, tiny, session, tmp_path, monkeypatch
):
    (target,) = open_domains(resolve(tiny, "x"), session).targets
    monkeypatch.setattr(two_stages, "collect_states", None)
    little = Scoring(max_memory=8000)  # room for an embedding, 12 x 128 x 4 bytes, not for QAConv's 12 x 32 x 8 x 4
    where = {"scoring": little, "out": tmp_path / "s.npy", "progress": session.progress}
    how = Extraction(num_workers=0, states="float32")
    with pytest.raises(ConfigError, match="wanted room for blocks of at least one image"):
        retrieve_in_two(TwoStages(*pair, 4), target.query, target.gallery, how, **where)
