"""Memory that training frees and takes again is not fetched from the system anew."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from maxquery_training.heap import keep_freed_memory
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(50_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(4):  # the heap grows to what is needed
    faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc here")
def test_large_tensors_are_made_of_memory_that_the_process_has():
    def faults(call: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS.format(call=call)], capture_output=True, text=True)
        return int(done.stdout)

    assert faults("assert keep_freed_memory()") < faults("") / 20
