import numpy as np

from reid.report.margins import margins
from tests.report.runs import run, target


def result_of(*per_query, label="market1501"):
    return target(label, per_query=per_query, num_query=len(per_query), num_query_counted=len(per_query))


def rows(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def named(title, *targets, **stamp):
    return run(*targets, **stamp).model_copy(update={"title": title})


def test_margins_by_hand():
    # Rank-1: 4/4 against 2/4. AP of rank 2 is 1/2, so mAP is 1 against 3/4.
    best = named("best", result_of((1,), (1,), (1,), (1,)))
    half = named("half", result_of((1,), (2,), (1,), (2,)))
    (row,) = rows(margins([best, half]))
    assert row[:3] == ["market1501", "best", "half"]
    assert row[3].startswith("+50.0 (")
    assert row[4].startswith("+25.0 (")
    (back,) = rows(margins([half, best]))
    assert back[3].startswith("-50.0 (")


def test_the_interval_is_that_of_a_bootstrap_over_queries():
    rng = np.random.default_rng(5)
    one, two = ([(int(rank),) for rank in rng.integers(1, 3, 400)] for _ in range(2))
    (row,) = rows(margins([named("one", result_of(*one)), named("two", result_of(*two))]))
    low, high = (float(part) for part in row[3].split("(")[1].rstrip(")").split(" to "))
    difference = np.array([(a == (1,)) - (b == (1,)) for a, b in zip(one, two, strict=True)], dtype=float)
    error = 196 * difference.std() / np.sqrt(400)  # the normal approximation, in points of percent
    np.testing.assert_allclose([low, high], 100 * difference.mean() + np.array([-error, error]), atol=0.6)


def test_the_same_results_print_the_same_text():
    one, two = named("one", result_of((1,), (3, 4))), named("two", result_of((2,), (1, 2)))
    assert margins([one, two]) == margins([one, two])


def test_no_difference_has_no_interval():
    one = named("one", result_of((1,), (2,)))
    (row,) = rows(margins([one, one]))
    assert row[3:] == ["+0.0 (+0.0 to +0.0)"] * 2


def test_queries_without_a_match_are_left_out_of_both():
    one, two = named("one", result_of((1,), (), (1,))), named("two", result_of((2,), (), (1,)))
    assert rows(margins([one, two]))[0][3].startswith("+50.0 (")


def test_the_ap_rule_of_the_first_run_is_used():
    # rank 2: the trapezoid of precisions 0 and 1/2 is 1/4; the finite sum 1/2
    one, two = (named("a", result_of((1,))), named("b", result_of((2,))))
    assert rows(margins([one, two]))[0][4].startswith("+50.0 (")
    trapezoid = named("a", result_of((1,)), ap_rule="trapezoid")
    assert rows(margins([trapezoid, two]))[0][4].startswith("+75.0 (")


def test_every_target_and_every_other_run():
    labels = ("market1501", "msmt17")
    runs = [named(title, *[result_of((1,), label=label) for label in labels]) for title in "abc"]
    assert [row[:3] for row in rows(margins(runs))] == [
        ["market1501", "a", "b"],
        ["market1501", "a", "c"],
        ["msmt17", "a", "b"],
        ["msmt17", "a", "c"],
    ]


def test_what_cannot_be_compared_is_left_out():
    one = named("one", result_of((1,), (1,)))
    sentence = "No two of these results"
    for other in (
        named("another target", result_of((1,), (1,), label="msmt17")),
        named("other queries", result_of((1,), (1, 2))),
        named("no ranks kept", target()),
    ):
        assert margins([one, other]).startswith(sentence)
    assert margins([one]).startswith(sentence)
