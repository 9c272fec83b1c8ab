"""Page faults of a process that allocates repeatedly, with and without `keep_freed_memory`."""

import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import resource, sys
import torch
from dl_lib.utils.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(30):  # the heap reaches its final size in a few rounds
    torch.ones(12 * 2**20)  # 48 MB: glibc unmaps blocks of this size by default
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(12 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="requires glibc")
def test_large_blocks_cause_no_new_page_faults():
    def page_faults(mode):
        run = subprocess.run([sys.executable, "-c", ALLOCATE, mode], check=True, capture_output=True, text=True)
        return int(run.stdout)

    assert page_faults("keep") < page_faults("default") / 10
