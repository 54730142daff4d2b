from pathlib import Path

import pytest

from reid.errors import ConfigError
from reid.report.table import PublishedRow, read_published, table
from tests.report.runs import reranked, run, target

KNOWN = ("randperson", "market1501", "TransMatcher")


def published(**changes) -> PublishedRow:
    facts = {"source": "msmt17", "method": "TransMatcher", "target": "market1501", "rank1": 0.801, "map": 0.52}
    origin = {"citation": "README", "citation_url": "https://example.org", "config": "ResNet-50"}
    return PublishedRow.model_validate({**facts, **origin, **changes})


PUBLISHED = (published(), published(source="randperson", method="QAConv", rank1=0.767, map=0.467))


def cells(text: str) -> list[list[str]]:
    lines = text.split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_ours_stands_above_the_published_number_of_the_same_pair():
    text = table([run(target())], PUBLISHED)
    rows = cells(text)
    assert rows[0][:8] == ["Train", "Test", "Experiment", "Method", "Top k", "Rank-1", "mAP", "From"]
    assert rows[1][:8] == ["msmt17", "market1501", "a run", "transmatcher", "-", "50.0", "25.0", "ours"]
    assert rows[2][:8] == ["msmt17", "market1501", "-", "TransMatcher", "-", "80.1", "52.0", "published [1]"]
    assert rows[2][8:] == ["finite sum", "ResNet-50", "-", "-"]
    assert len(rows) == 3
    assert text.endswith("\n\n[1] README. https://example.org")


def test_each_citation_is_printed_once():
    rows = [published(), published(method="QAConv-GS", citation="poster"), published(method="QAConv 2.0")]
    text = table([run(target())], rows)
    assert [row[7] for row in cells(text)[2:]] == ["published [1]", "published [2]", "published [1]"]
    assert text.count("README") == 1


def test_published_numbers_do_not_stand_beside_another_test_set():
    text = table([run(target(counts_checked=False))], PUBLISHED)
    assert len(cells(text)) == 2
    assert "published" not in text


def test_every_row_is_stamped():
    row = cells(table([run(target())]))[1]
    protocol = "last epoch, 384x128 bfloat16, float16 states, camera rule on, counts checked"
    assert row[8:] == ["finite sum", protocol, "3", "abc1234"]


def test_keys_that_were_cut_are_said():
    row = cells(table([run(target(), key_rank=64, int8_products=True)]))[1]
    assert "384x128 bfloat16, float16 states, keys cut to rank 64, int8 products, camera rule on" in row[9]


def test_what_is_special_is_said():
    special = target(counts_checked=False, camera_rule="off (no camera ids)", num_query_counted=6, unmatched={"x": 2})
    row = cells(table([run(special, commit=None, ap_rule="trapezoid", sources=())]))[1]
    assert row[0] == "nothing (untrained)"
    assert row[6] == "12.5"
    assert row[8] == "trapezoid"
    assert "camera rule off (no camera ids), counts unchecked, 2 of 8 queries without a match" in row[9]
    assert row[11] == "-"


def test_experiments_of_one_method_are_told_apart():
    s, d = (run(target(), matcher="etr (x)").model_copy(update={"title": f"ETR-{form}"}) for form in "SD")
    assert [row[2:4] for row in cells(table([s, d]))[1:]] == [["ETR-S", "etr"], ["ETR-D", "etr"]]


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "100"),
        ({"fusion": "lerp", "weight": 0.3}, "100, lerp"),
        ({"top_k": None, "fusion": None}, "all"),
    ],
)
def test_how_many_were_put_in_order_is_said(changes, shown):
    assert cells(table([run(target(reranked=reranked(**changes)))]))[1][4] == shown


def test_the_seed_of_another_first_stage_is_said():
    shown = [cells(table([run(target(), first_seed=seed)]))[1][10] for seed in (None, 3, 1)]
    assert shown == ["3", "3", "1 > 3"]


def test_unchecked_sources_count_as_unchecked():
    assert "counts unchecked" in table([run(target(), sources_counts_checked=False)])


def test_rows_are_grouped_by_pair_in_the_order_of_the_runs():
    runs = [run(target("b"), target("a")), run(target("a"), target("b"), matcher="qaconv (neck=64)")]
    rows = cells(table(runs))[1:]
    found = [(row[1], row[3]) for row in rows]
    assert found == [("b", "transmatcher"), ("b", "qaconv"), ("a", "transmatcher"), ("a", "qaconv")]


def test_several_sources_are_joined():
    assert cells(table([run(target(), sources=("a", "b"))]))[1][0] == "a + b"


ROW = """[[row]]
source = "msmt17"
method = "TransMatcher"
target = "market1501"
rank1 = 0.801
map = 0.52
citation = "README"
citation_url = "https://example.org"
config = "ResNet-50"
"""


def test_published_rows_are_read(tmp_path):
    path = tmp_path / "published.toml"
    path.write_text(ROW, encoding="utf-8")
    assert read_published(path) == PUBLISHED[:1]


def test_the_published_rows_of_the_repository_are_whole():
    rows = read_published(Path(__file__).parents[2] / "experiments" / "published.toml")
    found = [(row.rank1, row.map) for row in rows if (row.source, row.target, row.method) == KNOWN]
    assert found == [(0.773, 0.491)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROW.replace("source", "sorce"), "Did you mean 'source'"),
        (ROW.replace("]]", "]"), "not valid TOML"),
        (ROW.replace("0.801", "80.1"), r"rank1 = 80\.1"),
    ],
)
def test_a_damaged_list_of_published_rows_is_an_error(tmp_path, text, message):
    path = tmp_path / "published.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_published(path)
