from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.errors import ProtocolError
from reid.protocols._leaks import refuse_leaks
from reid.types import ImageRecord


def record(path, pid, source="a", role="person"):
    return ImageRecord(path, pid, source=source, role=role)


def test_disjoint_sets_pass(tmp_path):
    train = [record(tmp_path / "train" / "1.jpg", 1), record(tmp_path / "train" / "2.jpg", 2)]
    test = [record(tmp_path / "test" / "1.jpg", 3), record(tmp_path / "test" / "2.jpg", 1, source="b")]
    refuse_leaks(train, test)


def test_trained_identity_is_refused(tmp_path):
    train = [record(tmp_path / "1.jpg", 1)]
    test = [record(tmp_path / "2.jpg", 1), record(tmp_path / "3.jpg", 4)]
    with pytest.raises(ProtocolError, match=r"0 of 2 test images and 1 of 2 test identities \(such as a 1\)"):
        refuse_leaks(train, test)


def test_trained_image_is_refused_under_another_name_of_the_set(tmp_path):
    train = [record(tmp_path / "1.jpg", 1)]
    test = [record(tmp_path / "sub" / ".." / "1.jpg", 7, source="b")]
    with pytest.raises(ProtocolError, match=r"1 of 1 test images \(such as .*1\.jpg\) and 0 of 1 test identities"):
        refuse_leaks(train, test)


def test_links_are_followed(tmp_path):
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.jpg").symlink_to(tmp_path / "1.jpg")
    with pytest.raises(ProtocolError, match="1 of 1 test images"):
        refuse_leaks([record(tmp_path / "1.jpg", 1)], [record(tmp_path / "2.jpg", 2)])


def test_junk_and_distractors_are_no_identity(tmp_path):
    train = [record(tmp_path / "1.jpg", -1, role="distractor")]
    refuse_leaks(
        train, [record(tmp_path / "2.jpg", -1, role="distractor"), record(tmp_path / "3.jpg", -1, role="junk")]
    )


def test_examples_are_few(tmp_path):
    train = [record(tmp_path / "t" / f"{number}.jpg", number) for number in range(20)]
    test = [record(tmp_path / "q" / f"{number}.jpg", number) for number in range(5, 20)]
    with pytest.raises(ProtocolError, match=r"15 of 15 test identities \(such as a 5, a 6, a 7\) among"):
        refuse_leaks(train, test)


people = st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 6)), max_size=6)


@given(people, people)
def test_refuses_exactly_if_people_are_shared(train_people, test_people):
    train = [record(Path("train", source, f"{pid}.jpg"), pid, source) for source, pid in train_people]
    test = [record(Path("test", source, f"{pid}.jpg"), pid, source) for source, pid in test_people]
    if train_people & test_people:
        with pytest.raises(ProtocolError):
            refuse_leaks(train, test)
    else:
        refuse_leaks(train, test)
