"""The training images of MSMT17 to the other real sets."""

from reid.protocols._base import Protocol, Transfer

COMPONENT = Protocol(
    name="msmt17_to_others",
    title="Single source: MSMT17, training images with val, to Market-1501 and CUHK03-NP",
    source="Liao and Shao, Query-Adaptive Convolution, ECCV 2020; TransMatcher, NeurIPS 2021",
    transfers=(
        Transfer(
            sources=({"name": "msmt17", "train": "train+val"},),
            targets=({"name": "market1501"}, {"name": "cuhk03_np", "variant": "detected"}),
        ),
    ),
)
