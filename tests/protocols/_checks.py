"""What holds for every protocol."""

import importlib

from reid.protocols._base import Protocol

REAL = {"market1501", "msmt17", "cuhk03_np"}


def check_declaration(name: str) -> Protocol:
    """The protocol of that file, after checking its name, its texts and that every table is a valid one."""
    protocol = importlib.import_module(f"reid.protocols.{name}").COMPONENT
    assert isinstance(protocol, Protocol)
    assert protocol.name == name
    assert protocol.title
    assert protocol.source
    assert protocol.transfers
    for transfer in protocol.transfers:
        assert transfer.sources
        assert transfer.targets
        for table in (*transfer.sources, *transfer.targets):
            importlib.import_module(f"reid.datasets.{table['name']}").Config.model_validate(dict(table))
    return protocol


def names(protocol: Protocol) -> list[tuple[list[str], list[str]]]:
    """(sources, targets) of each transfer, by name."""
    return [
        ([table["name"] for table in transfer.sources], [table["name"] for table in transfer.targets])
        for transfer in protocol.transfers
    ]
