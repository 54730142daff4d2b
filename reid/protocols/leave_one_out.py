"""Several sources, one target: training splits (the form called P2)."""

from reid.protocols._base import Protocol, leave_one_out

TARGETS = ({"name": "market1501"}, {"name": "msmt17"}, {"name": "cuhk03_np", "variant": "detected"})

COMPONENT = Protocol(
    name="leave_one_out",
    title="Leave one out: training splits of two of Market-1501, MSMT17 and CUHK03-NP, tested on the third",
    source="protocol 2 of the domain generalisation literature, here without CUHK-SYSU",
    transfers=leave_one_out(TARGETS, TARGETS),
)
