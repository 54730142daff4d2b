import math

import pytest

from reid.errors import ConfigError
from reid.evaluation.results import Training
from reid.report.summary import HEADERS, overview, summary
from tests.report.runs import reranked, run, target


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_seeds_are_one_row_with_mean_and_deviation():
    training = Training(epochs=1, steps=10, images_seen=640, seconds=1800)
    seeds = [
        run(target(rank1=rank1), seed=seed).model_copy(update={"training": training})
        for seed, rank1 in enumerate([0.5, 0.6, 0.7])
    ]
    (row,) = rows(summary(seeds))
    values = dict(zip(HEADERS, row, strict=True))
    deviation = 100 * math.sqrt(((0.5 - 0.6) ** 2 + (0.7 - 0.6) ** 2) / 2)
    assert values["Rank-1"] == f"60.0 ± {deviation:.1f}"
    assert (values["Seeds"], values["Images seen"], values["Hours"]) == ("0, 1, 2", "640", "0.50")


@pytest.mark.parametrize("changes", [{"matcher": "qaconv"}, {"sources": ("other",)}, {"image_size": (128, 64)}])
def test_what_differs_in_more_than_the_seed_stays_apart(changes):
    assert len(rows(summary([run(target()), run(target(), **changes)]))) == 2


def test_rows_of_one_test_stand_together():
    results = [run(target("a"), target("b")), run(target("a"), target("b"), matcher="qaconv")]
    assert [row[1] for row in rows(summary(results))] == ["a", "a", "b", "b"]


def test_one_run_has_no_deviation():
    (row,) = rows(summary([run(target())]))
    assert dict(zip(HEADERS, row, strict=True))["Rank-1"] == "50.0"


@pytest.mark.parametrize("changes", [{"recipe": "b2"}, {"state_precision": "float32"}, {"ap_rule": "trapezoid"}])
def test_other_trainings_and_rules_stay_apart(changes):
    assert (
        len(rows(summary([run(target(), recipe="a1"), run(target(), **{"recipe": "a1", "seed": 4, **changes})]))) == 2
    )


@pytest.mark.parametrize("changes", [{"camera_rule": "off"}, {"counts_checked": False}, {"num_gallery": 50}])
def test_other_tests_stay_apart(changes):
    results = [run(target(), recipe="a1"), run(target(**changes), recipe="a1", seed=4)]
    assert len(rows(summary(results))) == 2


def test_one_recipe_is_one_row_whatever_its_title_and_commit():
    one, two = run(target(), recipe="a1", seed=1), run(target(), recipe="a1", seed=2, commit="def5678")
    (row,) = rows(summary([one, two.model_copy(update={"title": "another seed"})]))
    assert dict(zip(HEADERS, row, strict=True))["Seeds"] == "1, 2"


def test_results_without_a_recipe_go_by_their_title():
    one, two = run(target(), seed=1), run(target(), seed=2)
    assert len(rows(summary([one, two.model_copy(update={"title": "another"})]))) == 2


def test_a_seed_that_comes_twice_is_refused():
    with pytest.raises(ConfigError, match="two results of seed 3 on market1501"):
        summary([run(target(), recipe="a1"), run(target(), recipe="a1")])


def test_the_overview_has_a_row_a_training_and_a_column_a_test():
    seeds = [run(target("home", rank1=rank1), target("away"), seed=seed) for seed, rank1 in enumerate((0.4, 0.6))]
    other = run(target("away", rank1=0.25), matcher="qaconv")
    lines = overview([*seeds, other]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]
    assert cells == [
        ["Train", "Experiment", "Method", "Seeds", "home", "away"],
        ["msmt17", "a run", "transmatcher", "0, 1", "50.0 ± 14.1 / 25.0 ± 0.0", "50.0 ± 0.0 / 25.0 ± 0.0"],
        ["msmt17", "a run", "qaconv", "3", "-", "25.0 / 25.0"],
    ]
    with pytest.raises(ConfigError, match="two results of seed 3"):
        overview([other, other])


def cells(text):
    lines = text.splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def behind(top_k, **changes):
    """A second stage behind a first."""
    fusion = changes.get("fusion", "replace")
    changed = reranked(top_k=top_k, fusion=fusion)
    stamp = {"recipe": "a1", "first_stage": f"embedding (), top {top_k}, {fusion}", **changes}
    stamp.pop("fusion", None)
    return run(target("home", reranked=changed), target("away", reranked=changed), **stamp)


def test_lengths_of_a_shortlist_are_rows_of_their_own():
    header, *found = cells(overview([behind(6), behind(3), behind(3, fusion="lerp"), run(target("away"))]))
    assert header == ["Train", "Experiment", "Method", "Top k", "Seeds", "home", "away"]
    assert [(row[3], row[5], row[6]) for row in found] == [
        ("6", "50.0 / 25.0", "50.0 / 25.0"),
        ("3", "50.0 / 25.0", "50.0 / 25.0"),
        ("3, lerp", "50.0 / 25.0", "50.0 / 25.0"),
        ("-", "-", "50.0 / 25.0"),
    ]
    assert [row[4] for row in rows(summary([behind(6), behind(3)]))] == ["6", "3", "6", "3"]


@pytest.mark.parametrize(
    ("changes", "of_run", "told"),
    [
        ({"camera_rule": "off"}, {}, ("finite sum, camera rule on", "finite sum, camera rule off")),
        ({}, {"ap_rule": "trapezoid"}, ("finite sum, camera rule on", "trapezoid, camera rule on")),
        ({}, {"int8_products": True}, ("states, finite sum, camera rule on", "int8 products, finite sum")),
    ],
)
def test_other_rules_are_rows_of_their_own_and_said(changes, of_run, told):
    one = run(target("home"), target("away", camera_rule="off (no camera ids)"), recipe="a1")
    two = run(target("home", **changes), target("away", **changes), recipe="a1", **of_run)
    header, *found = cells(overview([one, two]))
    assert header == ["Train", "Experiment", "Method", "Seeds", "Protocol", "home", "away"]
    assert len(found) == 2
    assert all("-" not in row[5:] for row in found)
    for row, words in zip(found, told, strict=True):
        assert words in row[4]


def test_no_cell_of_the_overview_is_overwritten():
    """Two galleries under one label: nothing but the test parts them."""
    results = [run(target("home", num_gallery=num, rank1=num / 100), recipe="a1") for num in (50, 100)]
    assert [row[-1] for row in cells(overview(results))[1:]] == ["50.0 / 25.0", "100.0 / 25.0"]


def test_tests_that_were_kept_apart_share_a_row():
    results = [run(target("home"), recipe="a1"), run(target("away"), recipe="a1")]
    assert [row[-2:] for row in cells(overview(results))[1:]] == [["50.0 / 25.0", "50.0 / 25.0"]]


def test_experiments_of_one_method_are_told_apart():
    titled = [run(target(), recipe=form, matcher="etr ()").model_copy(update={"title": f"ETR-{form}"}) for form in "SD"]
    assert [row[2:4] for row in rows(summary(titled))] == [["ETR-S", "etr"], ["ETR-D", "etr"]]


def test_each_seed_has_a_first_stage_of_its_own():
    seeds = [run(target(), recipe="a1", first_recipe="f1", seed=seed, first_seed=seed) for seed in range(3)]
    (row,) = rows(summary(seeds))
    assert dict(zip(HEADERS, row, strict=True))["Seeds"] == "0, 1, 2"
    other = run(target(), recipe="a1", first_recipe="f2", seed=3, first_seed=3)
    assert len(rows(summary([*seeds, other]))) == 2


def test_one_second_stage_behind_first_stages_of_several_seeds():
    seeds = [run(target(), recipe="a1", first_recipe="f1", seed=0, first_seed=seed) for seed in range(3)]
    (row,) = rows(summary(seeds))
    assert dict(zip(HEADERS, row, strict=True))["Seeds"] == "0, 1 > 0, 2 > 0"
    with pytest.raises(ConfigError, match="two results of seed 1 > 0"):
        summary([*seeds, seeds[1]])
