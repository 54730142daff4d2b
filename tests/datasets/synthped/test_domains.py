from typing import get_args

import pytest

from reid.datasets.synthped import Config
from reid.datasets.synthped.domains import DOMAINS
from reid.datasets.synthped.props import DRAWS
from reid.datasets.synthped.scene import Wall
from reid.datasets.synthped.wardrobe import PATTERNS


def test_the_config_offers_all_domains_and_their_keys_differ():
    assert set(get_args(Config.model_fields["domain"].annotation)) == set(DOMAINS)
    assert len({domain.key for domain in DOMAINS.values()}) == len(DOMAINS) >= 3


@pytest.mark.parametrize("name", sorted(DOMAINS))
def test_declarations_hold_together(name):
    domain = DOMAINS[name]
    assert set(domain.things) <= set(DRAWS)
    assert set(domain.walls) <= set(get_args(Wall))
    assert len(domain.wardrobe.patterns) == len(PATTERNS)
    for field in domain.__slots__:
        value = getattr(domain, field)
        if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], float):
            assert value[0] <= value[1], field
