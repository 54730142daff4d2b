"""Rendered people to real ones: ClonedPerson."""

from reid.protocols._base import Protocol, Transfer

COMPONENT = Protocol(
    name="clonedperson_to_real",
    title="Synthetic source: ClonedPerson to Market-1501, MSMT17 and CUHK03-NP",
    source="Wang, Liang and Liao, Cloning Outfits from Real-World Images to 3D Characters, CVPR 2022",
    transfers=(
        Transfer(
            sources=({"name": "clonedperson"},),
            targets=({"name": "market1501"}, {"name": "msmt17"}, {"name": "cuhk03_np", "variant": "detected"}),
        ),
    ),
)
