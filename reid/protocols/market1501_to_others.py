"""Market-1501 to the other real sets."""

from reid.protocols._base import Protocol, Transfer

COMPONENT = Protocol(
    name="market1501_to_others",
    title="Single source: Market-1501 to MSMT17 and CUHK03-NP",
    source="Liao and Shao, Query-Adaptive Convolution, ECCV 2020; TransMatcher, NeurIPS 2021",
    transfers=(
        Transfer(
            sources=({"name": "market1501"},),
            targets=({"name": "msmt17"}, {"name": "cuhk03_np", "variant": "detected"}),
        ),
    ),
)
