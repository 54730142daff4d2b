import numpy as np
import pytest
import torch

from reid.data.surface_images import SurfaceImages, draw_surface_images
from reid.datasets.synthped import Config, render
from reid.errors import SamplingError
from reid.progress import Silent

PLAN = Config(domain="studio", num_train_pids=3, num_test_pids=2, num_cameras=3, images_per_camera=2)


@pytest.fixture(scope="module")
def images():
    return draw_surface_images(PLAN, 3)


def test_drawn_images_are_those_of_the_data_set(images):
    assert isinstance(images, SurfaceImages)
    photos, first = render(PLAN, 1), images.pid_N == 3  # training people have odd numbers
    np.testing.assert_array_equal(images.image_NHW3[first], photos.image)
    np.testing.assert_array_equal(images.part_NHW[first], photos.part)
    np.testing.assert_array_equal(images.uv_NHW2[first], photos.uv)
    assert set(images.pid_N) == {1, 3, 5}
    assert set(images.camid_N) == {0, 1, 2}
    assert len(images) == len(images.image_NHW3)


def test_test_people_are_drawn_as_well():
    images = draw_surface_images(PLAN, 1, train=False)
    np.testing.assert_array_equal(images.image_NHW3, render(PLAN, 0, train=False).image)
    assert set(images.pid_N) == {2}


def test_images_are_drawn_at_the_size_asked_for():
    size = {"image_height": 96, "image_width": 40}
    images = draw_surface_images(PLAN, 1, image_size=(96, 40))
    np.testing.assert_array_equal(images.image_NHW3, render(PLAN.model_copy(update=size), 0).image)


def test_some_of_the_people(images):
    some = images.of_people({5, 1, 77})
    kept = images.pid_N != 3
    assert 0 < len(some) == kept.sum() < len(images)
    for name in ("image_NHW3", "part_NHW", "uv_NHW2", "pid_N", "camid_N"):
        np.testing.assert_array_equal(getattr(some, name), getattr(images, name)[kept])


def test_none_of_the_people(images):
    with pytest.raises(SamplingError, match="wanted some of 2 people, found none among 3"):
        images.of_people([2, 4])


def test_progress_counts_people():
    seen = []

    class Counting(Silent):
        def bar(self, label, total, unit):
            seen.append((label, total, unit))
            return super().bar(label, total, unit)

    draw_surface_images(PLAN, 1, progress=Counting())
    assert seen == [("drawing studio with surfaces", 1, "people")]


def index_of(images, image):
    return int(np.nonzero((images.image_NHW3 == image.permute(1, 2, 0).numpy()).all((1, 2, 3)))[0][0])


@pytest.mark.parametrize("kind", ["same_person", "different_persons"])
def test_pairs_are_of_their_kind(images, kind):
    people = set()
    for index in range(12):
        pair = images.draw_pair(kind, seed=0, epoch=1, index=index)
        first, second = index_of(images, pair.query), index_of(images, pair.gallery)
        same = images.pid_N[first] == images.pid_N[second]
        assert same == (kind == "same_person")
        assert not same or images.camid_N[first] != images.camid_N[second]
        people.add(images.pid_N[first])
        direct = images.pair(first, second)
        assert torch.equal(pair.warps.to_gallery.position_NHW2, direct.warps.to_gallery.position_NHW2)
        assert len(pair.warps) == 1
        assert pair.query.dtype == torch.uint8
    assert len(people) > 1


def test_a_pair_depends_on_seed_epoch_and_index_alone(images):
    draw = images.draw_pair
    first = draw("same_person", seed=0, epoch=0, index=0)
    draw("different_persons", seed=9, epoch=9, index=9)
    assert torch.equal(first.query, draw("same_person", seed=0, epoch=0, index=0).query)
    drawn = [draw("same_person", seed=s, epoch=e, index=i) for s in (0, 1) for e in (0, 1) for i in (0, 1)]
    assert len({(one.query.numpy().tobytes(), one.gallery.numpy().tobytes()) for one in drawn}) > 5


@pytest.mark.parametrize("num", [0, 4])
def test_more_people_than_there_are(num):
    with pytest.raises(SamplingError, match=f"wanted 1 to 3 people.*num_pids = {num}"):
        draw_surface_images(PLAN, num)


def test_one_person_alone_makes_no_pair_of_two(images):
    one = images.of_people({3})
    assert images.kinds == ("same_person", "different_persons")
    assert one.kinds == ("same_person",)
    with pytest.raises(SamplingError, match="different persons"):
        one.draw_pair("different_persons", seed=0, epoch=0, index=0)
