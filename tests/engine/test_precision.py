import pytest
import torch

from reid.engine.precision import autocast, check_precision
from reid.errors import ConfigError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_products_have_the_dtype_asked_for(precision, dtype):
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_float32_is_float32_within_another_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16), autocast(CPU, "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_fp16_needs_cuda():
    with pytest.raises(ConfigError, match="'fp16' needs CUDA, found device 'cpu'"):
        check_precision(CPU, "fp16")
    check_precision(torch.device("cuda"), "fp16")
    check_precision(CPU, "bf16")
