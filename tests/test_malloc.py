"""In a process of its own: what malloc was told holds for the rest of it."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import sys
import torch
from autodisp.cli.malloc import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

told = keep_freed_memory() if sys.argv[1] == "keep" else None
def use():
    for _ in range(20):
        torch.zeros(12 * 2**20).add_(1)  # 48 MiB, more than glibc ever keeps by itself

use()  # where the heap lies differs between processes, and it grows a few times at first
before = faults()
use()
print(told, faults() - before)
"""


def run(what: str) -> tuple[str, int]:
    result = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True)
    told, faults = result.stdout.split()
    return told, int(faults)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_freed_memory_is_used_again() -> None:
    told, kept = run("keep")
    if told == "False":
        pytest.skip("this malloc is not glibc's")
    _, given_back = run("leave")
    assert kept < given_back / 2
