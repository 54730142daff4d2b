import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid.errors import ShapeError
from reid.kernels.native import amx, compiler
from reid.kernels.simmax import (
    _blocks,
    aligned_maxima,
    similarity_maps,
    similarity_maxima,
    similarity_maxima_and_positions,
    using,
)
from reid.kernels.simmax._autograd import SimilarityMaxima
from tests.reference.similarity import maxima as slow_maxima


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_two_positions_by_hand():
    query = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    gallery = torch.tensor([[[3.0, 1.0], [-1.0, 1.0]]])
    weight = torch.tensor([[1.0, 0.5], [1.0, 2.0]])  # [gallery position, query position]
    # map[s, t] = <gallery s, query t> = [[3, 2], [-1, 2]]; weighted [[3, 1], [-1, 4]]
    plain = similarity_maxima(query, gallery)
    assert plain.over_gallery.tolist() == [[[3.0, 2.0]]]
    assert plain.over_query.tolist() == [[[3.0, 2.0]]]
    weighted = similarity_maxima(query, gallery, weight)
    assert weighted.over_gallery.tolist() == [[[3.0, 4.0]]]
    assert weighted.over_query.tolist() == [[[3.0, 4.0]]]
    assert similarity_maps(query, gallery, weight).tolist() == [[[3.0, 1.0], [-1.0, 4.0]]]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 7),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.integers(1, 200),
    st.integers(0, 2**16),
)
def test_equals_loops_for_any_size_and_block(
    num_query, num_gallery, num_positions, dim, weighted, quantised, entries, seed
):
    query, gallery = (
        draw(num_query, num_positions, dim, seed=seed),
        draw(num_gallery, num_positions, dim, seed=seed + 1),
    )
    weight = draw(num_positions, num_positions, seed=seed + 2) if weighted else None  # of both signs, and zero
    if quantised:  # ties
        query, gallery = query.round(), gallery.round()
        weight = None if weight is None else weight.round()
    wanted = slow_maxima(query.numpy(), gallery.numpy(), None if weight is None else weight.numpy())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_blocks.BLOCK_BYTES, "cpu", 8 * entries)
        plain = similarity_maxima(query, gallery, weight)
        with_grad = similarity_maxima(query.requires_grad_(), gallery.requires_grad_(), weight)
    for found in (plain, with_grad):
        np.testing.assert_allclose(found.over_gallery.detach().numpy(), wanted[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.over_query.detach().numpy(), wanted[1], rtol=1e-12, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from([torch.float64, torch.float32, torch.float16]),
    st.integers(1, 500),
    st.integers(0, 2**16),
)
def test_a_batch_against_itself_equals_loops(num, num_positions, dim, weighted, dtype, entries, seed):
    batch = draw(num, num_positions, dim, seed=seed, dtype=dtype)
    weight = draw(num_positions, num_positions, seed=seed + 1, dtype=dtype) if weighted else None
    wanted = slow_maxima(
        batch.double().numpy(), batch.double().numpy(), None if weight is None else weight.double().numpy()
    )
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(_blocks.BLOCK_BYTES, "cpu", 8 * entries)
        found = similarity_maxima(batch.requires_grad_(), batch, weight)
    np.testing.assert_allclose(found.both[0].detach().numpy(), wanted[0], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.both[1].detach().numpy(), wanted[1], rtol=tolerance, atol=tolerance)


def test_a_batch_against_itself_needs_little_more_than_half_of_the_maps(monkeypatch):
    monkeypatch.setitem(_blocks.BLOCK_BYTES, "cpu", 4 * 3 * 3 * 2)  # two maps at a time
    batch = draw(16, 3, 4).float()
    shapes = [
        (query.stop - query.start) * (gallery.stop - gallery.start)
        for (query, gallery), _ in _blocks._map_blocks(batch, batch, mirrored=True)
    ]
    assert sum(shapes) == 16 * 16 / 2 + 16


@pytest.mark.parametrize("entries", [1, 60, 2**20])
def test_gradients_of_a_mirrored_batch_in_float64(monkeypatch, entries):
    monkeypatch.setitem(_blocks.BLOCK_BYTES, "cpu", 8 * entries)
    inputs = [draw(5, 3, 3).requires_grad_(), draw(3, 3, seed=2).requires_grad_()]
    assert torch.autograd.gradcheck(lambda batch, weight: similarity_maxima(batch, batch, weight).both, inputs)


def test_values_shared_by_two_tensors_do_not_share_gradients():
    one = draw(4, 3, 2).requires_grad_()
    other = one.detach()
    similarity_maxima(one, other).both.square().sum().backward()
    found, one.grad = one.grad, None
    similarity_maxima(one, other.clone()).both.square().sum().backward()
    torch.testing.assert_close(found, one.grad)


@pytest.mark.parametrize("entries", [1, 30, 2**20])
@pytest.mark.parametrize(("num_query", "num_gallery", "num_positions"), [(3, 4, 5), (1, 1, 1), (2, 1, 6)])
def test_gradients_in_float64(monkeypatch, entries, num_query, num_gallery, num_positions):
    monkeypatch.setitem(_blocks.BLOCK_BYTES, "cpu", 8 * entries)
    inputs = [
        draw(num_query, num_positions, 3).requires_grad_(),
        draw(num_gallery, num_positions, 3, seed=1).requires_grad_(),
        draw(num_positions, num_positions, seed=2).requires_grad_(),
    ]

    def function(*tensors):
        found = similarity_maxima(*tensors)
        return found.over_gallery, found.over_query

    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradcheck(lambda *tensors: function(*tensors, None), inputs[:2])


def test_gradients_of_a_batch_against_itself_and_of_a_single_input():
    batch = draw(4, 6, 3).requires_grad_()
    weight = draw(6, 6, seed=2)
    assert torch.autograd.gradcheck(lambda x: similarity_maxima(x, x, weight).over_gallery, [batch])
    fixed, only = draw(3, 6, 3, seed=3), weight.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda w: similarity_maxima(fixed, fixed, w).over_query, [only])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_positions_are_those_of_the_maxima(dtype):
    query, gallery = draw(3, 5, 4, dtype=dtype), draw(4, 5, 4, seed=1, dtype=dtype)
    weight = draw(5, 5, seed=2).sigmoid().half().to(torch.promote_types(dtype, torch.float32))
    found, position = similarity_maxima_and_positions(query, gallery, weight)
    assert position.dtype == torch.int32
    map_QGST = torch.einsum("gsd,qtd->qgst", gallery.double(), query.double()) * weight.double()
    by_gallery = map_QGST.gather(2, position[0].long()[:, :, None]).squeeze(2)
    by_query = map_QGST.gather(3, position[1].long()[..., None]).squeeze(3)
    torch.testing.assert_close(by_gallery, map_QGST.amax(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(by_query, map_QGST.amax(3), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.both.double(), torch.stack((by_gallery, by_query)), rtol=1e-5, atol=1e-5)
    mirrored, own = similarity_maxima_and_positions(query, query, weight)
    torch.testing.assert_close(
        mirrored.both, similarity_maxima(query, query.clone(), weight).both, rtol=1e-5, atol=1e-5
    )
    assert own.shape == (2, 3, 3, 5)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_images_have_gradients_of_zero(sizes, dtype):
    query, gallery = (draw(size, 5, 4, dtype=dtype).requires_grad_() for size in sizes)
    weight = draw(5, 5, dtype=torch.float32).requires_grad_()
    similarity_maxima(query, gallery, weight).both.sum().backward()
    for tensor in (query, gallery, weight):
        assert tensor.grad.shape == tensor.shape
        assert tensor.grad.eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weight_of_zero_still_has_a_gradient(dtype):
    query, gallery = torch.tensor([[[2.0]]], dtype=dtype), torch.tensor([[[3.0]]], dtype=dtype)
    weight = torch.zeros(1, 1, requires_grad=True)
    found = similarity_maxima(query, gallery, weight)
    (found.over_gallery + found.over_query).sum().backward()
    assert weight.grad.item() == 12.0  # 2 * 3, in both directions


def test_a_tie_sends_its_gradient_to_one_position():
    query = torch.ones(1, 1, 1, requires_grad=True)
    gallery = torch.ones(1, 1, 1).expand(1, 4, 1).clone().requires_grad_()
    query_positions = query.expand(1, 4, 1)
    similarity_maxima(query_positions, gallery).over_gallery.sum().backward()
    assert sorted(gallery.grad.flatten().tolist()) == [0.0, 0.0, 0.0, 4.0]
    assert query.grad.item() == 4.0


def test_same_gradients_for_any_number_of_threads():
    query, gallery, weight = draw(20, 48, 8), draw(21, 48, 8, seed=1), draw(48, 48)
    cotangent = draw(20, 21, 48, seed=4, dtype=torch.float32)

    def gradients(threads: int) -> list[torch.Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        inputs = [tensor.float().clone().requires_grad_() for tensor in (query, gallery, weight)]
        found = similarity_maxima(*inputs)
        (found.over_gallery * cotangent + found.over_query * cotangent).sum().backward()
        torch.set_num_threads(before)
        return [tensor.grad for tensor in inputs]

    for one, two in zip(gradients(1), gradients(2), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_give_float32_maxima_and_half_gradients(dtype):
    query, gallery = draw(2, 5, 4, dtype=dtype).requires_grad_(), draw(3, 5, 4, seed=1, dtype=dtype)
    found = similarity_maxima(query, gallery)
    wanted = slow_maxima(query.detach().double().numpy(), gallery.double().numpy())
    assert found.over_gallery.dtype == torch.float32
    np.testing.assert_allclose(found.over_gallery.detach().numpy(), wanted[0], rtol=1e-6, atol=1e-6)
    found.over_query.sum().backward()
    assert query.grad.dtype == dtype


def test_autocast_does_not_touch_the_product():
    query, gallery = draw(2, 5, 4, dtype=torch.float32), draw(3, 5, 4, seed=1, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity_maxima(query, gallery)
        aligned = aligned_maxima(query, gallery[:2])
    assert torch.equal(inside.over_gallery, similarity_maxima(query, gallery).over_gallery)
    assert torch.equal(aligned.over_query, aligned_maxima(query, gallery[:2]).over_query)


def test_non_contiguous_inputs():
    query, gallery = draw(5, 4, 3).permute(2, 0, 1), draw(2, 5, 8)[:, :, ::2]
    wanted = slow_maxima(query.numpy(), gallery.numpy())
    np.testing.assert_allclose(similarity_maxima(query, gallery).over_query.numpy(), wanted[1], rtol=1e-12)


def test_nan_stays_with_its_image():
    query, gallery = draw(3, 4, 2), draw(2, 4, 2, seed=1)
    query[1, 2, 0] = torch.nan
    found = similarity_maxima(query, gallery)
    assert found.over_query[1].isnan().all()
    assert found.over_query[[0, 2]].isfinite().all()
    assert found.over_gallery[[0, 2]].isfinite().all()


def test_aligned_pairs_are_the_diagonal():
    query, gallery, weight = draw(4, 6, 3), draw(4, 6, 3, seed=1), draw(6, 6, seed=2)
    all_pairs, aligned = similarity_maxima(query, gallery, weight), aligned_maxima(query, gallery, weight)
    idx = torch.arange(4)
    torch.testing.assert_close(aligned.over_gallery, all_pairs.over_gallery[idx, idx], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(aligned.over_query, all_pairs.over_query[idx, idx], rtol=1e-12, atol=1e-12)


def test_no_images_give_no_pairs():
    found = similarity_maxima(draw(0, 4, 3), draw(2, 4, 3))
    assert found.over_gallery.shape == (0, 2, 4)
    assert similarity_maxima(draw(2, 4, 3), draw(0, 4, 3)).over_query.shape == (2, 0, 4)


@pytest.mark.parametrize(
    ("query", "gallery", "weight"),
    [
        ((2, 4, 3), (2, 5, 3), None),
        ((2, 4, 3), (2, 4, 2), None),
        ((4, 3), (4, 3), None),
        ((2, 4, 3), (2, 4, 3), (4, 5)),
        ((2, 4, 3), (2, 4, 3), (1, 4, 4)),
        ((2, 0, 3), (2, 0, 3), None),
    ],
)
def test_shapes_that_do_not_fit(query, gallery, weight):
    with pytest.raises(ShapeError, match="same S and D"):
        similarity_maxima(torch.zeros(query), torch.zeros(gallery), None if weight is None else torch.zeros(weight))


def test_aligned_pairs_need_as_many_images():
    with pytest.raises(ShapeError, match="found 2 and 3"):
        aligned_maxima(torch.zeros(2, 4, 3), torch.zeros(3, 4, 3))


def test_no_map_is_kept_for_the_backward_pass():
    num, positions = 8, 64
    batch, weight = draw(num, positions, 4).float().requires_grad_(), draw(positions, positions).float()
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        similarity_maxima(batch, batch, weight)
    assert 0 < sum(kept) < num * num * positions * positions * 4 / 8


@pytest.mark.parametrize("weighted", [False, True])
def test_products_in_half_precision_as_on_cuda(monkeypatch, weighted):
    monkeypatch.setitem(_blocks.BLOCK_BYTES, "cpu", 400)
    dtype = torch.bfloat16
    query, gallery = draw(3, 6, 4, dtype=dtype).requires_grad_(), draw(4, 6, 4, seed=1, dtype=dtype).requires_grad_()
    weight = (draw(6, 6, seed=2).sigmoid().float()).requires_grad_() if weighted else None
    with using("eager"):
        found = SimilarityMaxima.apply(query, gallery, weight)
    exact_inputs = [tensor.detach().double().requires_grad_() for tensor in (query, gallery)]
    exact = similarity_maxima(*exact_inputs, None if weight is None else weight.detach().double())
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[0].double(), exact.over_gallery, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(found[1].double(), exact.over_query, rtol=2e-2, atol=2e-2)
    (found[0].sum() + found[1].sum()).backward()
    (exact.over_gallery.sum() + exact.over_query.sum()).backward()
    for half, double in zip((query, gallery), exact_inputs, strict=True):
        assert half.grad.dtype == dtype
        assert torch.corrcoef(torch.stack([half.grad.double().flatten(), double.grad.flatten()]))[0, 1] > 0.99
    if weight is not None:
        assert weight.grad.isfinite().all()


def has_native():
    return amx().library is not None


BACKENDS = [
    pytest.param("native", marks=pytest.mark.skipif(not has_native(), reason=amx().reason)),
    "eager",
    pytest.param(
        "compiled", marks=[pytest.mark.slow, pytest.mark.skipif(compiler() is None, reason="no C++ compiler")]
    ),
]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sizes", [(3, 5, 35, 40), (2, 2, 32, 64), (1, 7, 3, 5), (5, 1, 200, 33)], ids=str)
def test_every_way_with_bfloat16_is_near_the_loops(monkeypatch, name, weighted, sizes):
    num_query, num_gallery, num_positions, dim = sizes
    monkeypatch.setitem(_blocks.BLOCK_BYTES, "cpu", 3 * 2 * num_positions**2)
    query = draw(num_query, num_positions, dim, dtype=torch.bfloat16)
    gallery = draw(num_gallery, num_positions, dim, seed=1, dtype=torch.bfloat16)
    weight = draw(num_positions, num_positions, seed=2, dtype=torch.float32).sigmoid() if weighted else None
    exact = torch.einsum("gsd,qtd->qgst", gallery.double(), query.double())
    exact = exact if weight is None else exact * weight.double()
    with using(name):
        found = similarity_maxima(query, gallery, weight)
    assert found.both.dtype == torch.float32
    # the native kernel rounds the weight to 11 bits and nothing else; the others round maps and weight to 8
    tolerance = {"rtol": 6e-4, "atol": 1e-4} if name == "native" else {"rtol": 1.2e-2, "atol": 1e-2}
    torch.testing.assert_close(found.over_gallery.double(), exact.amax(2), **tolerance)
    torch.testing.assert_close(found.over_query.double(), exact.amax(3), **tolerance)


@pytest.mark.parametrize("name", ["eager", BACKENDS[2]])
def test_every_way_with_float32_is_exact(monkeypatch, name):
    monkeypatch.setitem(_blocks.BLOCK_BYTES, "cpu", 3 * 4 * 35**2)
    query, gallery = draw(3, 35, 8, dtype=torch.float32), draw(4, 35, 8, seed=1, dtype=torch.float32)
    weight = draw(35, 35, seed=2, dtype=torch.float32)
    wanted = slow_maxima(query.numpy(), gallery.numpy(), weight.numpy())
    with using(name):
        found = similarity_maxima(query, gallery, weight)
    np.testing.assert_allclose(found.over_gallery.numpy(), wanted[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.over_query.numpy(), wanted[1], rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 70), st.integers(1, 70), st.booleans(), st.integers(0, 9))
@pytest.mark.skipif(not has_native(), reason=amx().reason)
def test_the_native_way_for_any_size(num_query, num_gallery, num_positions, dim, weighted, seed):
    query = draw(num_query, num_positions, dim, seed=seed, dtype=torch.bfloat16)
    gallery = draw(num_gallery, num_positions, dim, seed=seed + 1, dtype=torch.bfloat16)
    weight = draw(num_positions, num_positions, seed=seed + 2).half().float() if weighted else None  # of both signs
    exact = torch.einsum("gsd,qtd->qgst", gallery.double(), query.double())
    exact = exact if weight is None else exact * weight.double()
    with using("native"):
        found = similarity_maxima(query, gallery, weight)
    torch.testing.assert_close(found.over_gallery.double(), exact.amax(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.over_query.double(), exact.amax(3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BACKENDS[:2])
def test_a_nan_reaches_the_pairs_of_its_image_only(name):
    query, gallery = draw(3, 40, 8, dtype=torch.bfloat16), draw(4, 40, 8, seed=1, dtype=torch.bfloat16)
    query[1, 39, 7] = torch.nan
    with using(name):
        found = similarity_maxima(query, gallery)
    assert found.over_gallery[1].isnan().any(dim=-1).all()
    assert found.both[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("name", BACKENDS[:2])
def test_strided_views_are_read_right(name):
    keys = draw(4, 3, 34, 40, dtype=torch.bfloat16)  # images, levels, positions, channels
    with using(name):
        view = similarity_maxima(keys[:, 1], keys[::2, 2])
        copy = similarity_maxima(keys[:, 1].contiguous(), keys[::2, 2].contiguous())
    assert torch.equal(view.both, copy.both)


@pytest.mark.skipif(not has_native(), reason=amx().reason)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_the_native_way_are_those_of_its_maxima(weighted):
    query, gallery = draw(3, 37, 40, dtype=torch.bfloat16), draw(4, 37, 40, seed=1, dtype=torch.bfloat16)
    weight = draw(37, 37, seed=2).sigmoid().half().float() if weighted else None
    cotangent = draw(2, 3, 4, 37, seed=3)
    inputs = [tensor.requires_grad_() for tensor in (query, gallery, weight) if tensor is not None]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    with using("native"):
        (similarity_maxima(*inputs).both * cotangent.float()).sum().backward()
    with using("eager"):
        (similarity_maxima(*exact).both * cotangent).sum().backward()
    for own, wanted in zip(inputs, exact, strict=True):
        assert own.grad.dtype == own.dtype
        tolerance = 1e-2 if own.dtype == torch.bfloat16 else 1e-4
        torch.testing.assert_close(own.grad.double(), wanted.grad, rtol=tolerance, atol=tolerance)
