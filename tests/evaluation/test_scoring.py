import gc
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from reid.errors import ConfigError, ShapeError, StorageError
from reid.evaluation.scoring import Scoring, score_gallery
from reid.matchers import qaconv, transmatcher
from reid.matchers.qaconv import QAConv
from reid.matchers.transmatcher import TransMatcher
from reid.types import FeatureSpec, ImageState


def states(num: int, seed: int) -> ImageState:
    return ImageState({"embedding": torch.randn(num, 4, generator=torch.Generator().manual_seed(seed))})


def product(query: ImageState, gallery: ImageState) -> torch.Tensor:
    return (query["embedding"][:, None] * gallery["embedding"]).sum(-1)


LITTLE = Scoring(max_memory=12 * 16)  # a state in a block
QUERY, GALLERY = states(7, 0), states(11, 1)
EXPECTED = np.array(
    [
        [sum(a * b for a, b in zip(q, g, strict=True)) for g in GALLERY["embedding"].tolist()]
        for q in QUERY["embedding"].tolist()
    ]
)


HOWS = [None, Scoring(query_block=1, gallery_block=1), Scoring(2**20, 3, 2), Scoring(1232), Scoring(2**20, 100, 100)]


@pytest.mark.parametrize("chunk", [1, 3, 11, 50])
@pytest.mark.parametrize("how", HOWS)
def test_blocks_and_chunks_change_nothing(chunk, how):
    found = score_gallery(product, QUERY, GALLERY.split(chunk), 11, how=how)
    np.testing.assert_allclose(found.score_QG, EXPECTED, atol=1e-6)
    assert found.score_QG.dtype == np.float32
    assert found.score_s > 0
    assert found.gallery_s >= 0
    assert found.pairs_per_s == pytest.approx(77 / found.score_s)


def test_blocks_stay_within_their_sizes():
    sizes = []

    def watched(query, gallery):
        sizes.append((len(query), len(gallery)))
        return product(query, gallery)

    score_gallery(watched, QUERY, [GALLERY], 11, how=Scoring(query_block=3, gallery_block=4))
    assert set(sizes) == {(q, g) for q in (3, 1) for g in (4, 3)}


def test_small_chunks_are_gathered_into_blocks():
    sizes = []

    def watched(query, gallery):
        sizes.append((len(query), len(gallery)))
        return product(query, gallery)

    score_gallery(watched, QUERY, GALLERY.split(2), 11, how=Scoring(query_block=4, gallery_block=5))
    assert sizes == [(4, 5), (3, 5), (4, 5), (3, 5), (4, 1), (3, 1)]


def test_a_gallery_block_stays_within_a_twelfth_of_the_memory():
    assert Scoring(max_memory=12 * 1000).gallery_images(100) == 10
    assert Scoring(max_memory=2**40).gallery_images(100) == Scoring().gallery_block
    with pytest.raises(ConfigError, match=r"at 1,001 bytes a state, found .* Allow more"):
        Scoring(max_memory=12 * 1000).gallery_images(1001)


SPEC = FeatureSpec((96, 64), {16: (16, 6, 4)})
MATCHERS = [
    TransMatcher(transmatcher.Config(dim=8, num_layers=2, feedforward=16, decoder_feedforward=16), SPEC),
    QAConv(qaconv.Config(dim=8), SPEC),
]


@pytest.mark.parametrize("matcher", MATCHERS, ids=["transmatcher", "qaconv"])
def test_a_matcher_scores_alike_whatever_the_memory(matcher):
    """To 1e-5 of the scores' spread, and with the same ranking."""
    matcher.eval()
    maps = {16: torch.randn(40, 16, 6, 4, generator=torch.Generator().manual_seed(0))}
    with torch.no_grad():
        state = matcher.encode(torch.zeros(40, 3, 96, 64), maps)
    query, gallery = state[:13], state[13:]
    one_by_one = np.array(
        [[matcher.score(query[q : q + 1], gallery[g : g + 1]).item() for g in range(27)] for q in range(13)]
    )
    for memory in (12 * query.nbytes // 13, 3 * 12 * query.nbytes // 13, 2**32):
        found = score_gallery(matcher.score, query, gallery.split(5), 27, how=Scoring(memory, query_block=4)).score_QG
        np.testing.assert_allclose(found, one_by_one, atol=1e-5 * one_by_one.std())
        assert np.array_equal(found.argsort(1), one_by_one.argsort(1))


def test_the_gallery_is_read_once_and_lazily():
    taken = []

    def gallery():
        for idx, chunk in enumerate(GALLERY.split(4)):
            taken.append((idx, len(scored)))
            yield chunk

    scored = []

    def watched(query, part):
        scored.append(len(part))
        return product(query, part)

    score_gallery(watched, QUERY, gallery(), 11, how=Scoring(gallery_block=4))
    assert taken == [(0, 0), (1, 1), (2, 2)]


def test_large_scores_go_to_a_file(tmp_path):
    out = tmp_path / "deep" / "scores.npy"
    found = score_gallery(product, QUERY, [GALLERY], 11, how=Scoring(max_memory=4 * (7 * 11 * 4 - 1)), out=out)
    assert isinstance(found.score_QG, np.memmap)
    np.testing.assert_allclose(found.score_QG, EXPECTED, atol=1e-6)
    assert list(out.parent.iterdir()) == []


def test_scores_that_fit_make_no_file(tmp_path):
    score_gallery(product, QUERY, [GALLERY], 11, how=Scoring(max_memory=4 * 7 * 11 * 4), out=tmp_path / "scores.npy")
    assert list(tmp_path.iterdir()) == []


def test_scores_of_earlier_tests_count(tmp_path):
    room = 4 * 2 * 7 * 11 * 4  # a quarter of it takes two tests
    for held, in_memory in ((7 * 11 * 4, 7 * 11 * 4), (7 * 11 * 4 + 1, 0)):
        how = Scoring(max_memory=room, scores_held=held)
        found = score_gallery(product, QUERY, [GALLERY], 11, how=how, out=tmp_path / "scores.npy")
        assert found.in_memory == in_memory


def test_large_scores_without_a_file_are_an_error():
    with pytest.raises(StorageError, match="no file to put them in"):
        score_gallery(product, QUERY, [GALLERY], 11, how=LITTLE)


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        score_gallery(product, QUERY, [GALLERY], 11, how=LITTLE, out=tmp_path / "file" / "scores.npy")


def test_a_disk_too_small_is_an_error_before_anything_is_scored(tmp_path):
    with pytest.raises(StorageError, match="MiB free"):
        score_gallery(product, QUERY, [GALLERY], 2**50, how=LITTLE, out=tmp_path / "scores.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_is_an_error(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            score_gallery(product, QUERY, [GALLERY], 11_000, how=LITTLE, out=tmp_path / "scores.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("num_gallery", [10, 12])
def test_another_number_of_gallery_images_is_an_error(num_gallery):
    with pytest.raises(ShapeError, match=f"wanted {num_gallery} gallery images, found 11"):
        score_gallery(product, QUERY, [GALLERY], num_gallery)


def test_nothing_to_score_is_an_error():
    with pytest.raises(ShapeError, match="found 7 and 0"):
        score_gallery(product, QUERY, [], 0)
    with pytest.raises(ShapeError, match="found 0 and 11"):
        score_gallery(product, QUERY[:0], [GALLERY], 11)


def test_scores_of_another_shape_are_an_error():
    with pytest.raises(ShapeError, match=r"wanted scores \[Q, G\] = \[7, 11\], found \[11, 7\]"):
        score_gallery(lambda query, gallery: product(query, gallery).T, QUERY, [GALLERY], 11)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_score_that_is_not_finite_is_an_error_at_once(value):
    gallery = ImageState({"embedding": GALLERY["embedding"].clone()})
    gallery["embedding"][6] = QUERY["embedding"][0].sign() * value
    seen = []

    def watched(query, part):
        seen.append(len(part))
        return product(query, part)

    with pytest.raises(ShapeError, match=f"found {value} for query image 0 and gallery image 6, counted from 0"):
        score_gallery(watched, QUERY, gallery.split(4), 11, how=Scoring(gallery_block=4))
    assert seen == [4, 4]


def test_half_precision_scores_and_gradients_are_taken_out():
    weight = torch.ones(4, requires_grad=True)
    found = score_gallery(lambda q, g: (product(q, g) * weight.sum() / 4).bfloat16(), QUERY, [GALLERY], 11)
    np.testing.assert_allclose(found.score_QG, EXPECTED, rtol=1e-2, atol=1e-2)


def test_progress_counts_pairs():
    class Recorder:
        def __init__(self):
            self.opened, self.counts = [], []

        @contextmanager
        def bar(self, label, total, unit):
            self.opened.append((label, total, unit))
            yield self

        def advance(self, count=1, **facts):
            self.counts.append(count)

        def say(self, message):
            raise AssertionError(message)

    recorder = Recorder()
    how = Scoring(query_block=5, gallery_block=4)
    score_gallery(product, QUERY, GALLERY.split(4), 11, how=how, progress=recorder)
    assert recorder.opened == [("score", 77, "pair")]
    assert recorder.counts == [20, 8, 20, 8, 15, 6]


def test_scores_that_failed_are_not_left_in_a_file(tmp_path):
    with pytest.raises(ShapeError, match="found 11"):
        score_gallery(product, QUERY, [GALLERY], 12, how=LITTLE, out=tmp_path / "scores.npy")
    assert list(tmp_path.iterdir()) == []


def test_a_second_scoring_leaves_the_first_ones_scores_alone(tmp_path):
    out = tmp_path / "scores.npy"
    first = score_gallery(product, QUERY, [GALLERY], 11, how=LITTLE, out=out).score_QG
    second = score_gallery(lambda q, g: -product(q, g), QUERY, [GALLERY], 11, how=LITTLE, out=out).score_QG
    np.testing.assert_allclose(first, EXPECTED, atol=1e-6)
    np.testing.assert_allclose(second, -EXPECTED, atol=1e-6)


def test_what_is_scored_is_let_go():
    alive = []

    def watched(query, part):
        tensors = [thing for thing in gc.get_objects() if type(thing) is Chunk]
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
        alive.append(sum(storages.values()) // 16)  # bytes of an image
        return product(query, part)

    class Chunk(torch.Tensor):
        """Counted while it is anywhere in memory."""

    def chunks():
        for index in range(200):
            yield ImageState({"embedding": GALLERY["embedding"][index % 11 :][:1].clone().as_subclass(Chunk)})

    score_gallery(watched, QUERY, chunks(), 200, how=Scoring(gallery_block=8))
    assert 8 <= max(alive) <= 3 * 8
