import pytest
import torch

from reid.cli_options import open_session
from reid.data.loader import default_workers
from reid.errors import ConfigError


def test_a_session_is_what_was_asked_for(tmp_path):
    session = open_session(tmp_path, "cpu", 3)
    assert (session.data_root, session.device, session.num_workers) == (tmp_path, torch.device("cpu"), 3)


def test_defaults_are_the_machine_s(tmp_path):
    session = open_session(tmp_path, "", None)
    assert session.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert session.num_workers == default_workers()


def test_a_device_that_cannot_be_used(tmp_path):
    with pytest.raises(ConfigError, match="device meta: cannot be used here"):
        open_session(tmp_path, "meta", 0)
