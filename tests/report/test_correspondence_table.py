"""Tables of one run's correspondences; every expected figure is written out by hand."""

from reid.evaluation.correspondence_results import Gain
from reid.report.correspondence_table import HEADERS, correspondence_table, identity_table
from tests.report.test_correspondence_summary import method, result, rows


def test_a_row_by_hand():
    gain = Gain(value=0.1, low=-0.02, high=0.2)
    own = method(precision=0.5, recall=0.25, ap=0.125, marginal_error=0.00123)
    other = method(method="identity", mean_px=None, pck_2px=None, auc=None, pck_4px_gain=gain)
    first, second = rows(correspondence_table(result(own, other)))
    assert tuple(first) == HEADERS
    assert list(first.values()) == [
        *("street", "mild (1,200)", "roma", "2.0", "25.0 / 50.0 / 75.0", "100.0", "0.900"),
        *("50.0 / 25.0 / 12.5", "-", "-", "1.2e-03"),
    ]
    assert list(second.values())[2:] == [
        *("identity", "-", "- / 50.0 / 75.0", "100.0", "-", "-", "+10.0 (-2.0 to +20.0)", "-", "-"),
    ]


def test_scores_by_hand():
    (row,) = rows(identity_table(result(method())))
    assert list(row.values()) == ["street", "mass", "9 of one person, 9 of two", "0.750 (0.700 to 0.800)"]
