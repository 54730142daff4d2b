"""Two queries and three gallery images whose embeddings are known; no model computes anything."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid.engine import reranked
from reid.engine.extract import Extraction
from reid.engine.reranked import retrieve_and_rerank
from reid.errors import ConfigError, DatasetError
from reid.evaluation.scoring import Scoring
from reid.matchers._base import MatcherInfo
from reid.progress import Silent
from reid.reranking import expansion, k_reciprocal, tlift
from reid.types import ImageRecord, ImageState

QUERY = [ImageRecord(Path(f"q{pid}.jpg"), pid, 0, time_s=5.0, source="a") for pid in (1, 2)]
GALLERY = [ImageRecord(Path(f"g{pid}.jpg"), pid, 1, time_s=7.0, source="a") for pid in (1, 2)]
GALLERY.append(ImageRecord(Path("d.jpg"), -1, 1, time_s=7.0, role="distractor"))
QUERY_QD = torch.tensor([[3.0, 4.0], [0.0, 2.0]])  # lengths 5 and 2
GALLERY_GD = torch.tensor([[8.0, 6.0], [0.0, 0.5], [2.0, 0.0]])  # lengths 10, 0.5 and 2
COSINE_QG = [[0.96, 0.8, 0.6], [0.6, 1.0, 0.0]]


class Watching:
    """A re-ranker that keeps what it was given and adds 1 to every score."""

    reads_embeddings = False

    def __init__(self):
        self.given = []

    def refuse_images(self, query, gallery):
        self.given.append((query, gallery))

    def __call__(self, found, out, progress):
        self.given.append(found)
        out[:] = found.score_QG + 1
        return replace(found, score_QG=out)


def model(kind, *, cosine):
    """Embeddings of any length: compared by cosine, or by their dot product."""

    def score(query, gallery):
        pair = [state["embedding"] for state in (query, gallery)]
        one_QD, two_GD = map(torch.nn.functional.normalize, pair) if cosine else pair
        return one_QD @ two_GD.T

    info = MatcherInfo(kind, symmetric=True, strides=(), cosine=cosine)
    return SimpleNamespace(matcher=SimpleNamespace(info=info), score=score)


@pytest.fixture
def rerank(monkeypatch, tmp_path):
    """Re-rank the four images, or others."""
    embeddings = {"q": QUERY_QD, "g": GALLERY_GD}
    extracted = []

    def extract(_, records, how):
        extracted.append(records)
        yield ImageState({"embedding": embeddings[records[0].path.name[0]]})

    monkeypatch.setattr(reranked, "extract", extract)

    def call(rerankers, *, kind="embedding", cosine=True, query=QUERY, gallery=GALLERY, memory=2**20):
        where = {"scoring": Scoring(max_memory=memory), "out": tmp_path / "scores.npy", "progress": Silent()}
        first = model(kind, cosine=cosine)
        return retrieve_and_rerank(first, rerankers, query, gallery, Extraction(num_workers=0), **where)

    call.extracted = extracted
    return call


def test_scores_go_from_one_reranker_to_the_next(rerank):
    one, two = Watching(), Watching()
    found = rerank([one, two])
    np.testing.assert_allclose(found.scores.score_QG, COSINE_QG, atol=1e-6)
    np.testing.assert_allclose(found.reranked_QG, np.add(COSINE_QG, 2), atol=1e-6)
    np.testing.assert_allclose(two.given[1].score_QG, np.add(COSINE_QG, 1), atol=1e-6)
    assert found.encode_s >= 0 <= found.rerank_s


def test_no_reranker_sees_whom_it_looks_for(rerank):
    watching = Watching()
    rerank([watching])
    (query, gallery), found = watching.given
    for records, images in ((query, QUERY), (gallery, GALLERY), (found.query, QUERY), (found.gallery, GALLERY)):
        assert {(record.pid, record.role, record.source) for record in records} == {(-1, "person", "")}
        for record, image in zip(records, images, strict=True):
            assert (record.path, record.camid, record.time_s) == (image.path, image.camid, image.time_s)


def test_embeddings_have_unit_length(rerank):
    watching = Watching()
    rerank([watching])
    found = watching.given[1]
    torch.testing.assert_close(found.query_QD, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    torch.testing.assert_close(found.gallery_GD, torch.tensor([[0.8, 0.6], [0.0, 1.0], [1.0, 0.0]]))
    assert found.scale == "cosine"


@pytest.mark.parametrize("kind", ["embedding", "all_pairs"])
def test_scores_that_are_no_cosines_are_logits_without_embeddings(rerank, kind):
    watching = Watching()
    found = rerank([watching], kind=kind, cosine=False)
    np.testing.assert_allclose(found.scores.score_QG, [[48, 2, 6], [12, 1, 0]])
    given = watching.given[1]
    assert given.scale == "logit"
    assert given.query_QD is given.gallery_GD is None


def test_tlift_takes_the_scale(rerank):
    """All of one camera at one time: every score is lifted alike, to 1.2 times its positive form."""
    lift = tlift.COMPONENT(tlift.Config())
    np.testing.assert_allclose(rerank([lift]).reranked_QG, 1.2 * (1 + np.array(COSINE_QG)) / 2, rtol=1e-6)
    logit_QG = np.array([[48, 2, 6], [12, 1, 0]])
    wanted_QG = 1.2 / (1 + np.exp(-logit_QG / 10))
    np.testing.assert_allclose(rerank([lift], cosine=False).reranked_QG, wanted_QG, rtol=1e-6)


@pytest.mark.parametrize(("num_rerankers", "num_arrays"), [(1, 2), (2, 3), (3, 3)])
def test_score_arrays_that_are_there_together_share_the_memory(rerank, num_rerankers, num_arrays):
    """A quarter of the memory is for them; one takes 2 x 3 x 4 bytes."""
    watching = [Watching() for _ in range(num_rerankers)]
    for memory, in_memory in ((4 * num_arrays * 24, True), (4 * num_arrays * 24 - 4, False)):
        found = rerank(watching, memory=memory)
        arrays = [found.scores.score_QG, found.reranked_QG]
        assert [isinstance(array, np.memmap) for array in arrays] == 2 * [not in_memory]
        np.testing.assert_allclose(found.reranked_QG, np.add(COSINE_QG, num_rerankers), atol=1e-6)


def test_too_little_memory_shows_before_states_are_gathered(rerank, monkeypatch):
    monkeypatch.setattr(reranked, "collect_states", None)
    with pytest.raises(ConfigError, match="wanted room for blocks of at least one image"):
        rerank([Watching()], memory=12 * 8 - 1)


def timeless(records):
    return [replace(record, time_s=None) for record in records]


@pytest.mark.parametrize(
    ("reranker", "given", "error", "message"),
    [
        (expansion.COMPONENT(expansion.Config(num_query_neighbours=1)), {"cosine": False}, ConfigError, "by cosine"),
        (k_reciprocal.COMPONENT(k_reciprocal.Config(k1=4, k2=1)), {}, ConfigError, "at least k1 = 4 images, found 3"),
        (expansion.COMPONENT(expansion.Config()), {}, ConfigError, "wanted 5 gallery images to join .*found 3"),
        (tlift.COMPONENT(tlift.Config()), {"query": timeless(QUERY)}, DatasetError, "wanted the time of every image"),
        (tlift.COMPONENT(tlift.Config()), {"gallery": timeless(GALLERY)}, DatasetError, "wanted the time"),
    ],
)
def test_what_does_not_fit_is_refused_before_an_image_is_read(rerank, reranker, given, error, message):
    with pytest.raises(error, match=message):
        rerank([Watching(), reranker], **given)
    assert rerank.extracted == []
