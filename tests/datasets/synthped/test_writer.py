import re

import numpy as np
import pytest
from PIL import Image

from reid.datasets.synthped import Config
from reid.datasets.synthped.writer import draw_set, file_name, install_cameras, jobs, person_pid
from reid.progress import Silent

SMALL = Config(
    domain="mall", num_train_pids=2, num_test_pids=2, num_cameras=3, images_per_camera=2, num_distractors=3, num_junk=2
)
NAME = re.compile(r"(-1|\d{4})_c\d+s1_\d{6}_\d{2}\.jpg")


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    counts = draw_set(SMALL, folder, Silent())
    return folder, counts


def test_files_have_market_names_sizes_and_counts(drawn):
    folder, counts = drawn
    found = files(folder)
    assert len(found) == sum(counts.values())
    assert all(NAME.fullmatch(name.split("/")[1]) for name in found)
    assert counts["query"] == 2 * SMALL.queries_per_pid
    assert sum(name.startswith("bounding_box_test/0000") for name in found) == 3
    assert sum(name.startswith("bounding_box_test/-1") for name in found) == 2
    with Image.open(folder / next(iter(found))) as image:
        assert image.size == (64, 128)
        assert image.format == "JPEG"


def test_the_same_table_gives_the_same_bytes(drawn, tmp_path):
    draw_set(SMALL, tmp_path, Silent())
    assert files(tmp_path) == files(drawn[0])


def test_an_identity_does_not_change_with_how_many_there_are(drawn, tmp_path):
    more = SMALL.model_copy(update={"num_train_pids": 4, "num_test_pids": 3, "num_distractors": 5, "num_junk": 4})
    draw_set(more, tmp_path, Silent())
    before, after = files(drawn[0]), files(tmp_path)
    assert before.items() < after.items()


@pytest.mark.parametrize("change", [{"seed": 1}, {"domain": "street"}])
def test_seed_and_domain_change_the_people(drawn, tmp_path, change):
    draw_set(SMALL.model_copy(update=change), tmp_path, Silent())
    assert not set(files(tmp_path).values()) & set(files(drawn[0]).values())


def test_a_person_is_in_one_place_at_a_time():
    for job in jobs(SMALL, install_cameras(SMALL)):
        frames = [shot.frame for shot in job.shots]
        assert frames == sorted(set(frames))
        if job.pid > 0:
            moves = [b.frame - a.frame for a, b in zip(job.shots, job.shots[1:], strict=False) if a.camid != b.camid]
            assert min(moves) >= 15 * 25


def test_every_query_has_a_match_in_another_camera():
    plan = SMALL.model_copy(update={"num_test_pids": 30, "num_cameras": 2, "images_per_camera": 2})
    for job in jobs(plan, install_cameras(plan)):
        listed = list(zip(job.shots, job.splits, strict=True))
        for shot, split in listed:
            if split == "query":
                assert any(other.camid != shot.camid for other, place in listed if place == "gallery")


def test_names_of_strays_differ():
    plan = SMALL.model_copy(update={"num_train_pids": 0, "num_test_pids": 0, "num_distractors": 1500, "num_junk": 0})
    names = [file_name(job.pid, shot) for job in jobs(plan, install_cameras(plan)) for shot in job.shots]
    assert len(set(names)) == 1500


def test_pids_of_training_and_testing_never_meet():
    assert {person_pid(1, index) for index in range(50)}.isdisjoint(person_pid(2, index) for index in range(50))
    assert np.min([person_pid(1, 0), person_pid(2, 0)]) == 1
