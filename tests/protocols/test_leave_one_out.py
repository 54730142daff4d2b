from tests.protocols._checks import REAL, check_declaration, names


def test_every_set_is_the_target_once_and_no_source_then():
    folds = names(check_declaration("leave_one_out"))
    assert sorted(target for _, (target,) in folds) == sorted(REAL)
    assert all({*sources, *targets} == REAL and len(sources) == 2 for sources, targets in folds)


def test_training_splits_only():
    protocol = check_declaration("leave_one_out")
    assert all(table.get("train") != "all" for transfer in protocol.transfers for table in transfer.sources)
