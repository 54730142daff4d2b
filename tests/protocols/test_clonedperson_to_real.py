from tests.protocols._checks import check_declaration, names


def test_sources_and_targets():
    assert names(check_declaration("clonedperson_to_real")) == [
        (["clonedperson"], ["market1501", "msmt17", "cuhk03_np"])
    ]
