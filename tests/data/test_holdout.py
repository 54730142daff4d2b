from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.data.holdout import hold_out
from reid.errors import SamplingError
from reid.types import ImageRecord


def records(people, cams=(0, 1), images=2, sources=("a",)):
    return [
        ImageRecord(Path(f"{source}_{pid}_{cam}_{n}.jpg"), pid, cam, source=source)
        for source in sources
        for pid in people
        for cam in cams
        for n in range(images)
    ]


def persons(images):
    return {(image.source, image.pid) for image in images}


def test_query_is_the_first_image_of_each_camera():
    held = hold_out(records([1, 2, 3, 4]), 2, seed=0)
    assert len(persons(held.query)) == 2
    assert {image.path.name.split("_")[3] for image in held.query} == {"0.jpg"}
    assert sorted((image.pid, image.camid) for image in held.query) == sorted(
        (image.pid, image.camid) for image in held.gallery
    )


@given(
    num_people=st.integers(2, 30),
    share=st.floats(0, 1),
    images=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    two_sources=st.booleans(),
)
def test_every_image_is_in_one_part_and_no_person_in_two(num_people, share, images, seed, two_sources):
    everything = records(range(num_people), images=images, sources=("a", "b") if two_sources else ("a",))
    num_pids = int(share * (len(persons(everything)) - 2))
    held = hold_out(everything, num_pids, seed)
    parts = [*held.train, *held.query, *held.gallery]
    assert sorted(str(image.path) for image in parts) == sorted(str(image.path) for image in everything)
    tested = persons(held.query) | persons(held.gallery)
    assert len(tested) == num_pids
    assert not tested & persons(held.train)
    assert held.train == [image for image in everything if (image.source, image.pid) not in tested]


def test_the_draw_depends_on_the_seed_alone():
    everything = records(range(50))
    one, two = hold_out(everything, 10, seed=1), hold_out(everything[::-1], 10, seed=1)
    assert persons(one.query) == persons(two.query)
    assert persons(one.query) != persons(hold_out(everything, 10, seed=2).query)


def test_zero_holds_out_nobody():
    held = hold_out(records([1]), 0, seed=0)
    assert (len(held.train), held.query, held.gallery) == (4, [], [])


def test_images_without_camera_count_as_one_camera():
    held = hold_out(records([1, 2, 3], cams=(None,), images=3), 1, seed=0)
    assert (len(held.query), len(held.gallery)) == (1, 2)


def test_two_people_must_be_left():
    with pytest.raises(SamplingError, match=r"validation_pids = 2.*found 3 in all\. Hold out fewer"):
        hold_out(records([1, 2, 3]), 2, seed=0)
