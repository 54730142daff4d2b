import torch

from reid.nn.grid import cell_centres


def test_cell_centres_by_hand():
    found = cell_centres(2, 3, 4, torch.zeros(1))
    assert found.tolist() == [[[2, 2], [6, 2], [10, 2]], [[2, 6], [6, 6], [10, 6]]]
