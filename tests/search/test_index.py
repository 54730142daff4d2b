import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import CheckpointError, ConfigError, ShapeError, StorageError
from reid.evaluation.shortlist import propose
from reid.search import _exact
from reid.search.index import EmbeddingIndex
from reid.types import ImageRecord

FAISS = ("faiss_flat", "faiss_ivf", "faiss_hnsw")
KINDS = ("exact", *FAISS)


def images(num, prefix="a"):
    return [ImageRecord(Path(f"/data/{prefix}{number}.jpg"), number) for number in range(num)]


def clustered(num_centres=60, num_each=50, num_query=40, dim=32):
    """Unit vectors around centres: (queries, gallery)."""
    rng = np.random.default_rng(0)
    centre_PD = rng.standard_normal((num_centres, dim))

    def around(pid_N):
        vector_ND = centre_PD[pid_N] + 0.5 * rng.standard_normal((len(pid_N), dim))
        return (vector_ND / np.linalg.norm(vector_ND, axis=1, keepdims=True)).astype(np.float32)

    return around(rng.integers(num_centres, size=num_query)), around(np.arange(num_centres).repeat(num_each))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 3), st.integers(1, 3), st.data())
def test_exact_is_what_the_whole_matrix_says(num_query, num_gallery, dim, columns, data):
    """Small whole numbers: products are exact, and many of them are equal."""
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    k = data.draw(st.integers(1, num_gallery))
    query_QD, gallery_GD = (
        rng.integers(-2, 3, (num, dim)).astype(np.float32) for num in (max(1, num_query), num_gallery)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_exact, "QUERY_BLOCK", 2)
        patch.setattr(_exact, "BLOCK_BYTES", 4 * 2 * columns)
        found = EmbeddingIndex.build(gallery_GD, images(num_gallery)).search(query_QD, k)
    wanted = propose(query_QD @ gallery_GD.T, k, images(num_gallery))
    np.testing.assert_array_equal(found.gallery_idx_QK, wanted.gallery_idx_QK)
    np.testing.assert_array_equal(found.score_QK, wanted.score_QK)
    assert (found.gallery, found.score_QK.dtype) == (wanted.gallery, np.float32)
    found.refuse_other(images(num_gallery))


def test_exact_is_brute_force():
    query_QD, gallery_GD = clustered()
    found = EmbeddingIndex.build(torch.from_numpy(gallery_GD), images(3000)).search(torch.from_numpy(query_QD), 10)
    score_QG = query_QD.astype(np.float64) @ gallery_GD.astype(np.float64).T
    np.testing.assert_array_equal(found.gallery_idx_QK, np.argsort(-score_QG, axis=1)[:, :10])
    np.testing.assert_allclose(found.score_QK, -np.sort(-score_QG, axis=1)[:, :10], atol=1e-6)


@pytest.mark.parametrize(("kind", "least"), [("faiss_flat", 1.0), ("faiss_ivf", 0.95), ("faiss_hnsw", 0.98)])
def test_recall_of_the_exact_shortlist(kind, least):
    query_QD, gallery_GD = clustered()
    wanted, found = (
        EmbeddingIndex.build(gallery_GD, images(3000), name).search(query_QD, 20) for name in ("exact", kind)
    )
    pairs = zip(found.gallery_idx_QK, wanted.gallery_idx_QK, strict=True)
    assert np.mean([np.isin(mine, exact).mean() for mine, exact in pairs]) >= least
    assert (np.diff(found.score_QK, axis=1) <= 0).all()
    own_QK = (query_QD[:, None] * gallery_GD[found.gallery_idx_QK]).sum(2)
    np.testing.assert_allclose(found.score_QK, own_QK, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_the_gallery_can_be_asked_for(kind):
    query_QD, gallery_GD = clustered(num_centres=20, num_query=3)
    found = EmbeddingIndex.build(gallery_GD, images(1000), kind).search(query_QD, 1000)
    assert (np.sort(found.gallery_idx_QK, axis=1) == np.arange(1000)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_images_are_found_in_the_gallerys_order(kind):
    found = EmbeddingIndex.build(np.ones((50, 4)), images(50), kind).search(np.ones((1, 4)), 50)
    assert found.gallery_idx_QK.tolist() == [list(range(50))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_finds_the_same(kind, tmp_path):
    query_QD, gallery_GD = clustered(num_centres=10)
    index = EmbeddingIndex.build(gallery_GD, images(500), kind)
    index.save(tmp_path / "index")
    index.save(tmp_path / "index")  # in its own place
    read = EmbeddingIndex.load(tmp_path / "index", images(500))
    assert (read.kind, read.num, read.dim, read.gallery) == (kind, 500, 32, index.gallery)
    one, two = index.search(query_QD, 5), read.search(query_QD, 5)
    np.testing.assert_array_equal(one.gallery_idx_QK, two.gallery_idx_QK)
    np.testing.assert_array_equal(one.score_QK, two.score_QK)
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    for other in (images(500)[::-1], images(499), images(500, "b")):
        with pytest.raises(ShapeError, match="found one of another gallery"):
            EmbeddingIndex.load(tmp_path / "index", other)


def test_an_index_of_other_people_with_the_same_file_names(tmp_path):
    one, two = ([ImageRecord(Path(f"/d/gallery/{pid}/1.jpg"), pid) for pid in pids] for pids in ((1, 2), (3, 4)))
    EmbeddingIndex.build(np.eye(2), one).save(tmp_path / "index")
    assert EmbeddingIndex.load(tmp_path / "index", one).num == 2
    with pytest.raises(ShapeError, match="found one of another gallery"):
        EmbeddingIndex.load(tmp_path / "index", two)


@pytest.mark.parametrize("kind", ["exact", "faiss_flat"])
def test_a_damaged_index_is_an_error(kind, tmp_path):
    with pytest.raises(CheckpointError, match="wanted the facts of an index"):
        EmbeddingIndex.load(tmp_path)
    EmbeddingIndex.build(np.eye(3), images(3), kind).save(tmp_path / "i")
    facts = json.loads((tmp_path / "i" / "index.json").read_text())
    (tmp_path / "i" / "index.json").write_text(json.dumps({**facts, "num": 4}))
    with pytest.raises(CheckpointError, match="wanted 4 embeddings of 3 channels, found 3 of 3"):
        EmbeddingIndex.load(tmp_path / "i")
    (data,) = (path for path in (tmp_path / "i").iterdir() if path.suffix != ".json")
    data.write_bytes(data.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="Build the index anew"):
        EmbeddingIndex.load(tmp_path / "i")
    (tmp_path / "i" / "index.json").write_text(json.dumps({**facts, "schema": 2}))
    with pytest.raises(CheckpointError, match=r"schema 1"):
        EmbeddingIndex.load(tmp_path / "i")


def test_nothing_but_an_index_is_replaced(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for folder in (tmp_path, tmp_path / "mine"):
        with pytest.raises(StorageError, match="found something else"):
            EmbeddingIndex.build(np.eye(2), images(2)).save(folder)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_searched(kind):
    index = EmbeddingIndex.build(np.eye(3), images(3), kind)
    with pytest.raises(ConfigError, match="wanted k of at most the 3 images of the gallery, found 4"):
        index.search(np.eye(3), 4)
    with pytest.raises(ShapeError, match="wanted k >= 1, found 0"):
        index.search(np.eye(3), 0)
    with pytest.raises(ShapeError, match="wanted query embeddings of 3 channels, as the gallery's, found 2"):
        index.search(np.eye(2), 1)
    with pytest.raises(ShapeError, match="finite query embeddings, found a value that is not for image 1"):
        index.search(np.array([[1.0, 0.0, 0.0], [0.0, np.nan, 0.0]]), 1)


def test_what_cannot_be_an_index():
    with pytest.raises(ShapeError, match="finite gallery embeddings"):
        EmbeddingIndex.build(np.array([[np.inf]]), images(1))
    with pytest.raises(ShapeError, match="each of the 2 gallery images, at least one, found 3"):
        EmbeddingIndex.build(np.eye(3), images(2))
    with pytest.raises(ShapeError, match=r"\[N, D\], found \[3\]"):
        EmbeddingIndex.build(np.ones(3), images(3))
    with pytest.raises(ConfigError, match=r"wanted kind exact, faiss_flat, .*found 'annoy'"):
        EmbeddingIndex.build(np.eye(2), images(2), "annoy")
    huge = EmbeddingIndex.build(np.full((1, 2), 1e30), images(1))
    with pytest.raises(ShapeError, match="overflow"):
        huge.search(np.full((1, 2), 1e30), 1)


def test_without_faiss(monkeypatch, tmp_path):
    EmbeddingIndex.build(np.eye(3), images(3), "faiss_flat").save(tmp_path / "i")
    monkeypatch.setitem(sys.modules, "faiss", None)
    for attempt in (
        lambda: EmbeddingIndex.build(np.eye(3), images(3), "faiss_flat"),
        lambda: EmbeddingIndex.load(tmp_path / "i"),
    ):
        with pytest.raises(ConfigError, match=r"pip install -e '\.\[search\]'"):
            attempt()
    assert EmbeddingIndex.build(np.eye(3), images(3)).search(np.eye(3), 1).gallery_idx_QK.tolist() == [[0], [1], [2]]
