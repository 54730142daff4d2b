import os

import pytest
import torch

from reid.engine.extract import Extraction, extract
from reid.errors import ImageError
from reid.experiment import resolve
from reid.models import fresh_model
from reid.types import ImageRecord, ImageState


def extracted(model, records, **how):
    return ImageState.cat(list(extract(model, records, Extraction(**{"num_workers": 0, **how}))))


def test_states_are_those_of_encode_in_storage_dtype(model, records):
    model.train()
    states = list(extract(model, records, Extraction(batch_size=3, num_workers=0)))
    assert [len(state) for state in states] == [3, 3, 1]
    assert not model.training
    expected = model.encode([record.path for record in records]).stored()
    found = ImageState.cat(states)
    for name in expected.tensors:
        assert found[name].dtype == expected[name].dtype
        assert not found[name].requires_grad
        torch.testing.assert_close(found[name], expected[name], atol=1e-2, rtol=1e-2)


def test_workers_are_counted_when_they_are_needed(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert Extraction().num_workers == 2


def test_workers_change_nothing(model, records):
    one, two = extracted(model, records), extracted(model, records, num_workers=2)
    assert all(torch.equal(one[name], two[name]) for name in one.tensors)


def test_bf16_is_near_and_not_the_same(model, records):
    one, two = extracted(model, records), extracted(model, records, precision="bf16")
    name = next(iter(one.tensors))
    spread = one[name].float().std()
    error = (one[name].float() - two[name].float()).abs().max()
    assert 0 < error < 0.2 * spread


def test_bf16_keeps_the_norms_of_maps(tiny, records):
    model = fresh_model(resolve({**tiny, "center_maps": True}, "a test")).eval()
    for norm in model.norms.values():
        norm.mean_CHW.fill_(0.5)
        norm.variance.fill_(0.1)
    one, two = extracted(model, records), extracted(model, records, precision="bf16")
    name = next(iter(one.tensors))
    assert (one[name].float() - two[name].float()).abs().max() < 0.2 * one[name].float().std()


def test_a_truncated_image_is_named(model, records, tmp_path):
    half = tmp_path / "half.jpg"
    half.write_bytes(records[0].path.read_bytes()[:300])
    for num_workers in (0, 2):
        with pytest.raises(ImageError, match=r"half\.jpg"):
            extracted(model, [*records, ImageRecord(half, pid=0)], num_workers=num_workers)


def test_states_are_kept_in_full_where_that_is_wanted(model, records):
    expected = model.encode([record.path for record in records])
    found = extracted(model, records, states="float32")
    for name, tensor in found.tensors.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)
