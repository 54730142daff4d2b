import torch
from torch import nn

from reid.nn.state_dict import misfits, some


def state(**changes):
    return {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), **changes}


def test_what_fits_has_no_misfits():
    module = nn.Linear(3, 2)
    assert misfits(module, state()) == ""
    assert misfits(module, module.state_dict()) == ""


def test_every_kind_of_misfit_is_told():
    changed = state(weight=torch.zeros(2, 4), gain=torch.zeros(1))
    del changed["bias"]
    wanted = "missing: bias; unexpected: gain; of another shape: weight [2, 4] instead of [2, 3]"
    assert misfits(nn.Linear(3, 2), changed) == wanted


def test_what_is_optional_may_be_missing_but_not_misshapen():
    module = nn.Sequential(nn.Linear(3, 2))
    assert misfits(module, {"0.weight": torch.zeros(2, 3)}, optional=(".bias",)) == ""
    found = misfits(module, {"0.weight": torch.zeros(2, 3), "0.bias": torch.zeros(1)}, optional=(".bias",))
    assert found == "of another shape: 0.bias [1] instead of [2]"


def test_many_names_are_counted():
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
