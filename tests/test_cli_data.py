import re

import pytest


def test_data_list(reid):
    code, shown, _ = reid("data", "list")
    assert code == 0
    for name in ("market1501", "msmt17", "cuhk03_np", "randperson", "clonedperson", "folder", "synthped"):
        assert f"\n{name} " in shown


def test_data_check_compares_counts(reid, drawn_root):
    code, shown, _ = reid("data", "check", "market1501", "--data", drawn_root)
    assert code == 2
    assert "12,936" in shown
    assert re.search(r"train +images +12,936 +40 +NO", shown)
    code, shown, _ = reid(
        "data", "check", "market1501", "--data", drawn_root, "--set", "expected_counts=none", "--deep"
    )
    assert code == 0
    assert "Everything as it should be." in shown


def test_data_check_finds_a_damaged_image(reid, data_root):
    path = next((data_root / "market" / "query").iterdir())
    path.write_bytes(path.read_bytes()[:300])
    arguments = ["data", "check", "market1501", "--data", data_root, "--set", "expected_counts=none"]
    assert reid(*arguments)[0] == 0
    code, shown, _ = reid(*arguments, "--deep")
    assert code == 2
    assert path.name in shown


def test_roots_are_found_from_here_or_below_the_data_root(reid, drawn_root, monkeypatch):
    monkeypatch.chdir(drawn_root / "market")
    rule = ["--set", "expected_counts=none"]
    assert reid("data", "check", "market1501", "--root", ".", *rule)[0] == 0
    assert reid("data", "check", "market1501", "--data", drawn_root, "--set", "root=market", *rule)[0] == 0
    code, _, error = reid("data", "check", "market1501", "--root", "market", *rule)
    assert code == 2
    assert str(drawn_root / "market" / "market") in error


def test_data_make_draws_synthped(reid, tmp_path):
    sizes = ["num_train_pids=2", "num_test_pids=2", "num_distractors=1", "num_junk=1", "num_cameras=2"]
    assignments = [argument for size in sizes for argument in ("--set", size)]
    code, shown, _ = reid("data", "make", "synthped", "--data", tmp_path, *assignments)
    assert code == 0
    assert "synthped (studio)" in shown
    assert len(list(tmp_path.glob("synthped/studio-*/bounding_box_train/*.jpg"))) > 0


@pytest.mark.parametrize("name", ["synthpet", "market"])
def test_an_unknown_data_set(name, reid):
    code, _, error = reid("data", "check", name)
    assert code == 2
    assert "no dataset named" in error


def test_data_make_says_what_is_wrong(reid, drawn_root):
    code, shown, _ = reid("data", "make", "market1501", "--data", drawn_root)
    assert code == 2
    assert re.search(r"train +images +12,936 +40 +NO", shown)
    assert reid("data", "make", "market1501", "--data", drawn_root, "--set", "expected_counts=none")[0] == 0
