from pathlib import Path

import numpy as np
import pytest
import torch

from reid.errors import ConfigError, DatasetError
from reid.progress import Silent
from reid.reranking import expansion, k_reciprocal, tlift
from reid.reranking._base import Found, anonymous, refuse_unfit
from reid.types import ImageRecord


def images(num, *, time_s=0.0):
    return [ImageRecord(Path(f"{n}.jpg"), n, n % 2, time_s=time_s, role="person", source="a") for n in range(num)]


def found(scale="cosine", **changes):
    rng = np.random.default_rng(0)
    query, gallery = (torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(n, 6)))) for n in (4, 30))
    score = (query @ gallery.T).float().numpy()
    parts = {"query": images(4), "gallery": images(30), "query_QD": query, "gallery_GD": gallery, **changes}
    return Found(score, scale, **parts)


def out():
    return np.empty((4, 30), dtype=np.float32)


@pytest.mark.parametrize(
    ("scale", "score", "wanted"),
    [
        ("cosine", [-1, 0, 1], [0, 0.5, 1]),
        ("logit", [0, 10, -10], [0.5, 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]),
        ("negative distance", [-1, -0.25, 0], [0, 0.75, 1]),
        ("positive", [0, 0.3, 7], [0, 0.3, 7]),
    ],
)
def test_positive_scores(scale, score, wanted):
    given = Found(np.float32([score]), scale, images(1), images(3))
    np.testing.assert_allclose(given.positive(), [wanted], rtol=1e-6)


def test_identities_are_taken_away():
    junk = ImageRecord(Path("x.jpg"), -1, 3, time_s=7.5, role="junk", source="b")
    for record in anonymous([*images(3), junk]):
        assert (record.pid, record.role, record.source) == (-1, "person", "")
    assert anonymous([junk])[0].time_s == 7.5
    assert anonymous([junk])[0].camid == 3


def test_components_are_their_functions():
    given = found()
    for module, function, changes in (
        (k_reciprocal, k_reciprocal.rerank_embeddings, {"k1": 8, "k2": 3}),
        (expansion, expansion.rerank, {"num_query_neighbours": 3, "num_gallery_neighbours": 1}),
    ):
        config = module.Config(**changes)
        room = out()
        after = module.COMPONENT(config)(given, room, Silent())
        assert after.score_QG is room
        np.testing.assert_array_equal(room, function(given.query_QD, given.gallery_GD, how=config))
    room = out()
    after = tlift.COMPONENT(tlift.Config(num_pivots=3))(given, room, Silent())
    assert after.score_QG is room
    assert after.scale == "positive"
    seen = [tlift.Sightings.of(records) for records in (given.query, given.gallery)]
    wanted = tlift.tlift(given.positive(), seen[0], gallery=seen[1], how=tlift.Config(num_pivots=3))
    np.testing.assert_array_equal(room, wanted)


def test_each_gets_what_the_one_before_made():
    first = expansion.COMPONENT(expansion.Config(num_query_neighbours=2))(found(), out(), Silent())
    assert not torch.equal(first.query_QD, found().query_QD)
    np.testing.assert_allclose(first.score_QG, (first.query_QD @ first.gallery_GD.T).numpy(), atol=1e-6)
    second = k_reciprocal.COMPONENT(k_reciprocal.Config(k1=8, k2=3))(first, out(), Silent())
    wanted = k_reciprocal.rerank_embeddings(first.query_QD, first.gallery_GD, how=k_reciprocal.Config(k1=8, k2=3))
    np.testing.assert_array_equal(second.score_QG, wanted)
    assert second.scale == "negative distance"


@pytest.mark.parametrize("module", [k_reciprocal, expansion])
def test_embeddings_are_wanted(module):
    with pytest.raises(ConfigError, match="wanted a first stage that compares embeddings by cosine"):
        module.COMPONENT(module.Config())(found("logit", query_QD=None, gallery_GD=None), out(), Silent())


def test_tlift_wants_times():
    with pytest.raises(DatasetError, match=r"wanted the time of every image for TLift, found none for 30 of 30"):
        tlift.COMPONENT(tlift.Config())(found(gallery=images(30, time_s=None)), out(), Silent())


@pytest.mark.parametrize("module", [k_reciprocal, expansion])
def test_a_first_stage_without_cosines_is_refused_beforehand(module):
    several = [tlift.COMPONENT(tlift.Config()), module.COMPONENT(module.Config())]
    with pytest.raises(ConfigError, match=rf"rerank {module.Config().name}: wanted a first stage .*by cosine"):
        refuse_unfit(several, images(4), images(30), cosine=False)
    refuse_unfit(several, images(4), images(30), cosine=True)
    refuse_unfit(several[:1], images(4), images(30), cosine=False)


@pytest.mark.parametrize(
    ("module", "changes", "num_gallery"),
    [
        (k_reciprocal, {"k1": 20}, 20),
        (expansion, {"num_query_neighbours": 20}, 20),
        (expansion, {"num_gallery_neighbours": 20}, 21),  # an image does not join itself
    ],
)
def test_a_gallery_that_is_too_small_is_refused_beforehand(module, changes, num_gallery):
    reranker = module.COMPONENT(module.Config(**changes))
    refuse_unfit([reranker], images(4), images(num_gallery), cosine=True)
    with pytest.raises(ConfigError, match=rf"20 .*found {num_gallery - 1 - (num_gallery > 20)}\."):
        refuse_unfit([reranker], images(4), images(num_gallery - 1), cosine=True)


@pytest.mark.parametrize("side", [0, 1])
def test_images_without_time_are_refused_beforehand(side):
    both = [images(4), images(30)]
    both[side] = images(len(both[side]), time_s=None)
    with pytest.raises(DatasetError, match="wanted the time of every image for TLift"):
        refuse_unfit([tlift.COMPONENT(tlift.Config())], *both, cosine=True)
