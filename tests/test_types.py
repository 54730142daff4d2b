import pytest
import torch

from reid.errors import ShapeError
from reid.types import ImageState, StateField


def state(num=4):
    fields = {"exact": StateField(bears_halving=False), "train": StateField(cached=False)}
    tensors = {
        "train": torch.zeros(num, 5),
        "key": torch.arange(num * 2.0).reshape(num, 2),
        "exact": torch.rand(num, 3),
        "idx": torch.arange(num),
    }
    return ImageState(tensors, fields)


def test_index_by_name_and_by_image():
    whole = state()
    assert whole["key"] is whole.tensors["key"]
    for index in (slice(1, 3), [1, 2], torch.tensor([1, 2])):
        assert whole[index]["idx"].tolist() == [1, 2]
    assert len(whole[[3]]) == 1


@pytest.mark.parametrize("index", [[2, 0, 2], torch.tensor([-1, 1]), torch.tensor([True, False, True]), slice(1, 3)])
def test_selects_as_a_tensor_does(index):
    keys_ND = torch.randn(3, 4)
    assert (ImageState({"keys": keys_ND})[index]["keys"] == keys_ND[index]).all()


def test_no_image_beyond_the_last():
    with pytest.raises(IndexError):
        ImageState({"keys": torch.randn(3, 4)})[[3]]


def test_gradient_of_repeated_images_is_the_same_each_time():
    leaf_NSD, index_P = torch.randn(4, 32, 64, requires_grad=True), torch.randint(4, (64,))
    grad_PSD = torch.randn(64, 32, 64)

    def gradient():
        return torch.autograd.grad(ImageState({"keys": leaf_NSD})[index_P]["keys"], leaf_NSD, grad_PSD)[0]

    first_NSD = gradient()
    assert all((gradient() == first_NSD).all() for _ in range(20))


def test_split_and_cat_are_inverse():
    whole = state(5)
    parts = list(whole.split(2))
    assert [len(part) for part in parts] == [2, 2, 1]
    joined = ImageState.cat(parts)
    assert all(torch.equal(joined[name], whole[name]) for name in whole.tensors)
    assert joined.fields == whole.fields


def test_storage_halves_what_bears_halving():
    stored = state().stored()
    assert (stored["key"].dtype, stored["exact"].dtype, stored["idx"].dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.int64,
    )
    assert "train" not in stored.tensors
    assert sum(tensor.nbytes for tensor in stored.tensors.values()) == 4 * (2 * 2 + 3 * 4 + 8)
    assert stored.to(dtype=torch.float64)["idx"].dtype == torch.int64


def test_fields_must_agree_in_length():
    with pytest.raises(ShapeError, match="same length"):
        ImageState({"a": torch.zeros(2), "b": torch.zeros(3)})
    with pytest.raises(ShapeError, match="found none"):
        ImageState.cat([])


def test_storage_need_not_halve():
    stored = state().stored("float32")
    assert (stored["key"].dtype, stored["idx"].dtype) == (torch.float32, torch.int64)
    assert torch.equal(stored["key"], state()["key"].float())
    assert "train" not in stored.tensors


def test_storage_may_halve_to_float16():
    stored = state().stored("float16")
    assert (stored["key"].dtype, stored["exact"].dtype) == (torch.float16, torch.float32)
