"""From one drawn domain to the others, with each domain tested on itself as a control."""

from reid.protocols._base import Protocol, Transfer

STUDIO = {"name": "synthped", "domain": "studio"}
STREET = {"name": "synthped", "domain": "street"}
MALL = {"name": "synthped", "domain": "mall"}

COMPONENT = Protocol(
    name="synthped",
    title="Drawn domains: studio to street and mall, and each to itself",
    source="ours",
    transfers=(
        Transfer(sources=(STUDIO,), targets=(STREET, MALL, STUDIO)),
        Transfer(sources=(STREET,), targets=(STREET,)),
        Transfer(sources=(MALL,), targets=(MALL,)),
    ),
)
