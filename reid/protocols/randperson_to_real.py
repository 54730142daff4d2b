"""Rendered people to real ones: RandPerson."""

from reid.protocols._base import Protocol, Transfer

COMPONENT = Protocol(
    name="randperson_to_real",
    title="Synthetic source: RandPerson to Market-1501, MSMT17 and CUHK03-NP",
    source="Wang, Liao and Shao, Surpassing Real-World Source Training Data, ACM MM 2020; TransMatcher, NeurIPS 2021",
    transfers=(
        Transfer(
            sources=({"name": "randperson"},),
            targets=({"name": "market1501"}, {"name": "msmt17"}, {"name": "cuhk03_np", "variant": "detected"}),
        ),
    ),
)
