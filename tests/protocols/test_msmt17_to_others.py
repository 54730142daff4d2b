from tests.protocols._checks import check_declaration, names


def test_sources_and_targets():
    protocol = check_declaration("msmt17_to_others")
    assert names(protocol) == [(["msmt17"], ["market1501", "cuhk03_np"])]
    assert protocol.transfers[0].sources[0]["train"] == "train+val"
