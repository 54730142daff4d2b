import pytest

from reid.errors import ConfigError
from reid.evaluation.reranked import Figures
from reid.report.stages import ALONE, HEADERS, NOTE, PERFECT, RANDOM, gains_table, stages_table
from tests.report.runs import reranked, run, target


def rows(text: str) -> list[dict[str, str]]:
    lines = text.split("\n\n", maxsplit=1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(HEADERS, row, strict=True)) for row in cells]


def test_a_row_tells_what_was_gained_and_what_could_be():
    text = stages_table([run(target(reranked=reranked()), first_stage="embedding (dim=8), top 100, replace")])
    assert text is not None
    (row,) = rows(text)
    assert (row["Experiment"], row["Method"], row["Seed"]) == ("a run", "embedding > transmatcher", "3")
    assert (row["Top k"], row["First stage"], row["Re-ranked"]) == ("100", "40.0 / 20.0", "50.0 / 25.0")
    assert (row["Perfect order"], row["Random order"]) == ("90.0 / 60.0", "10.0 / 10.0")
    assert (row["mAP gained (95 %)"], row["Of the possible"]) == ("+5.0 (+4.0 to +6.0)", "12 %")
    assert row["ms a query"] == "509"  # 1 s for 8 + 100 images, 1 s and 3 s for 8 queries


def test_next_to_nothing_is_no_negative_zero():
    text = stages_table([run(target(reranked=reranked(share_of_oracle=-0.004)))])
    assert text is not None
    assert rows(text)[0]["Of the possible"] == "0 %"


def test_a_reranker_of_the_whole_gallery_has_no_shortlist_to_be_perfect_on():
    whole = reranked(top_k=None, fusion=None, oracle=None, shuffled=None, share_of_oracle=None)
    text = stages_table([run(target(reranked=whole), rerankers=("k_reciprocal (k1=20)",))])
    assert text is not None
    (row,) = rows(text)
    assert (row["Top k"], row["Perfect order"], row["Of the possible"]) == ("all", "-", "-")
    assert row["Method"] == "transmatcher > k_reciprocal"


def test_the_weight_of_the_first_stage_is_told():
    text = stages_table([run(target(reranked=reranked(fusion="lerp", weight=0.3)))])
    assert text is not None
    assert "transmatcher, 0.3 of the first" in text


def test_rows_of_one_test_stand_together_and_others_are_left_out():
    two = run(target("a", reranked=reranked()), target("b", reranked=reranked()))
    text = stages_table([two, run(target("c")), two.model_copy(update={"title": "other"})])
    assert text is not None
    assert [(row["Test"], row["Experiment"]) for row in rows(text)] == [
        ("a", "a run"),
        ("a", "other"),
        ("b", "a run"),
        ("b", "other"),
    ]
    assert stages_table([run(target())]) is None


def test_another_rule_of_the_map_is_not_mixed_with_the_gains():
    """The target's mAP is 25.0 by the finite sum and 12.5 by the trapezoid."""
    plain, quoted = (run(target(reranked=reranked()), ap_rule=rule) for rule in ("finite_sum", "trapezoid"))
    assert rows(stages_table([plain])) == rows(stages_table([quoted]))
    assert rows(stages_table([quoted]))[0]["Re-ranked"] == "50.0 / 25.0"
    assert stages_table([plain, quoted]).endswith(f"|\n\n{NOTE}")
    assert NOTE.startswith("mAP is the finite sum")
    assert NOTE not in stages_table([plain])
    assert stages_table([run(target(), ap_rule="trapezoid"), plain]) == stages_table([plain])


def test_the_seed_of_another_first_stage_is_said():
    assert rows(stages_table([run(target(reranked=reranked()), first_seed=1)]))[0]["Seed"] == "1 > 3"


def test_gains_stand_between_the_orders_that_are_no_second_stage():
    """First stage 20.0, perfect 60.0, random 10.0; the second stages have 25.0, and 12.0 over the whole gallery."""
    short = run(target("a", reranked=reranked()), target("b", reranked=reranked()))
    whole = reranked(top_k=None, fusion=None, oracle=None, shuffled=None, share_of_oracle=None)
    classical = run(target("a", mAP=0.12, reranked=whole), rerankers=("k_reciprocal (k1=20)",))
    text = gains_table([classical, run(target("c")), short])
    assert text is not None
    names = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    assert names == [PERFECT, "a run", ALONE, "transmatcher > k_reciprocal", RANDOM]
    assert "| 50.0 / 25.0    | +5.0 (+4.0 to +6.0) | 12 %" in text
    assert gains_table([run(target())]) is None


def test_gains_over_two_first_stages_are_not_mixed():
    other = reranked(first=Figures(rank1=0.3, mAP=0.1))
    with pytest.raises(ConfigError, match=r"wanted runs over one first stage.*40\.0 / 20\.0 and 30\.0 / 10\.0"):
        gains_table([run(target(reranked=reranked())), run(target(reranked=other))])
