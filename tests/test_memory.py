import resource
import subprocess
import sys

import pytest

from reid.memory import keep_freed_memory

_FAULTS = """
import resource, sys
import torch
from reid.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    torch.ones(2**24)  # several places in memory, until one of them fits
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or not keep_freed_memory(keep=False), reason="no glibc")
def test_freed_memory_is_used_again():
    pages = 2**24 * 4 // resource.getpagesize()

    def faults(word: str) -> int:
        run = subprocess.run([sys.executable, "-c", _FAULTS, word], check=True, capture_output=True, text=True)
        return int(run.stdout)

    assert faults("keep") < pages / 10 < 4 * pages < faults("default")
