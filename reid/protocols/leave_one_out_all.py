"""Several sources, one target: all images of the sources (the form called P3)."""

from reid.protocols._base import Protocol, leave_one_out

SOURCES = (
    {"name": "market1501", "train": "all"},
    {"name": "msmt17", "train": "all"},
    {"name": "cuhk03_np", "variant": "detected", "train": "all"},
)
TARGETS = ({"name": "market1501"}, {"name": "msmt17"}, {"name": "cuhk03_np", "variant": "detected"})

COMPONENT = Protocol(
    name="leave_one_out_all",
    title="Leave one out: all images of two of Market-1501, MSMT17 and CUHK03-NP, tested on the third",
    source="protocol 3 of the domain generalisation literature, here without CUHK-SYSU",
    transfers=leave_one_out(SOURCES, TARGETS),
)
