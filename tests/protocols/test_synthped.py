from tests.protocols._checks import check_declaration


def test_studio_to_the_others_and_each_domain_to_itself():
    transfers = check_declaration("synthped").transfers
    pairs = {(a["domain"], b["domain"]) for each in transfers for a in each.sources for b in each.targets}
    assert pairs == {
        ("studio", "street"),
        ("studio", "mall"),
        ("studio", "studio"),
        ("street", "street"),
        ("mall", "mall"),
    }
