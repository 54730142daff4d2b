from tests.protocols._checks import check_declaration, names


def test_sources_and_targets():
    assert names(check_declaration("randperson_to_real")) == [(["randperson"], ["market1501", "msmt17", "cuhk03_np"])]
