"""Tables of correspondences over seeds; every expected figure is written out by hand."""

import pytest

from reid.errors import CheckpointError, ConfigError
from reid.evaluation.correspondence_results import (
    CorrespondenceResult,
    Gain,
    IdentityResult,
    MethodResult,
    read_correspondences,
    write_correspondences,
)
from reid.report.correspondence_summary import HEADERS, IDENTITY_HEADERS, correspondence_summary


def method(**changes: object) -> MethodResult:
    facts = {
        "target": "street",
        "pairs": "mild",
        "method": "roma",
        "num_pairs": 1200,
        "mean_px": 2.0,
        "median_px": 1.0,
        "pck_2px": 0.25,
        "pck_4px": 0.5,
        "pck_8px": 0.75,
        "coverage": 1.0,
        "auc": 0.9,
    }
    return MethodResult.model_validate({**facts, **changes})


def result(*methods: MethodResult, seed: int = 0, **changes: object) -> CorrespondenceResult:
    score = IdentityResult(target="street", score="mass", num_same=9, num_different=9, auc=0.75, low=0.7, high=0.8)
    facts = {
        "title": "RoMa",
        "method": "roma",
        "matcher": "roma (dim=8)",
        "backbone": "resnet",
        "weights": None,
        "trained_on": "studio",
        "recipe": "abc",
        "seed": seed,
        "image_size": (128, 64),
        "methods": methods,
        "identity": (score,),
        "machine": "2 cores",
        "commit": None,
    }
    return CorrespondenceResult.model_validate({**facts, **changes})


def rows(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def tables(*results: CorrespondenceResult) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    one, two = correspondence_summary(results).split("\n\n")
    return rows(one), rows(two)


def test_seeds_are_one_row_with_mean_and_deviation():
    where, who = tables(*(result(method(pck_4px=value, mean_px=px, coverage=value / 2), seed=seed)
                          for seed, (value, px) in enumerate([(0.4, 1.0), (0.5, 2.0), (0.6, 3.0)])))  # fmt: skip
    (row,) = where
    assert tuple(row) == HEADERS
    assert (row["Matcher"], row["Pairs"], row["Seeds"]) == ("RoMa", "mild (1,200)", "0, 1, 2")
    assert (row["PCK 4 px"], row["EPE px"], row["Certainty AUC"]) == ("50.0 ± 10.0", "2.0 ± 1.0", "0.900 ± 0.000")
    assert row["Coverage"] == "25.0 ± 5.0"
    assert (row["AP"], row["PCK 4 px ahead"], row["AP ahead"]) == ("-", "-", "-")
    (score,) = who
    assert tuple(score) == IDENTITY_HEADERS
    assert (score["Score"], score["AUC"]) == ("mass", "0.750 ± 0.000")


def test_a_margin_is_told_with_the_seeds_in_which_it_is_beyond_chance():
    gains = [Gain(value=0.1, low=0.05, high=0.15), Gain(value=0.02, low=-0.01, high=0.05)]
    other = [result(method(), method(method="identity", pck_4px_gain=gain, ap=0.5), seed=seed)
             for seed, gain in enumerate(gains)]  # fmt: skip
    where, _ = tables(*other)
    assert [row["Method"] for row in where] == ["roma", "identity"]
    assert where[1]["PCK 4 px ahead"] == "+6.0 (1 of 2)"
    assert where[1]["AP"] == "50.0 ± 0.0"


def test_matches_of_keypoints_have_precision_and_recall():
    where, _ = tables(*(result(method(precision=0.8, recall=recall, ap=0.3), method(method="identity"), seed=seed)
                        for seed, recall in enumerate([0.5, 0.7])))  # fmt: skip
    found = [[row[name] for name in ("Precision", "Recall", "AP")] for row in where]
    assert found == [["80.0 ± 0.0", "60.0 ± 14.1", "30.0 ± 0.0"], ["-", "-", "-"]]


def test_the_marginal_error_is_the_mean_of_the_seeds():
    where, _ = tables(*(result(method(marginal_error=error), method(method="identity"), seed=seed)
                        for seed, error in enumerate([0.001, 0.003])))  # fmt: skip
    assert [row["Marginal error"] for row in where] == ["2.0e-03 ± 1.4e-03", "-"]


def test_another_recipe_title_or_test_stays_apart():
    base = result(method())
    for other in (
        result(method(), recipe="def"),
        result(method(), title="RoMa, regression"),
        result(method(pairs="hard"), seed=1),
    ):
        assert len(tables(base, other)[0]) == 2
    with pytest.raises(ConfigError, match="two results of seed 0 on street"):
        correspondence_summary([base, base])


def test_what_was_not_measured_is_a_dash():
    (row,), _ = tables(result(method(mean_px=None, pck_4px=None, auc=None)))
    assert (row["EPE px"], row["PCK 4 px"], row["Certainty AUC"]) == ("-", "-", "-")


def test_results_are_read_as_written(tmp_path):
    whole = result(method())
    write_correspondences(tmp_path / "correspondences.json", whole)
    assert read_correspondences(tmp_path) == read_correspondences(tmp_path / "correspondences.json") == whole
    with pytest.raises(CheckpointError, match="reid correspond makes it"):
        read_correspondences(tmp_path / "other.json")
