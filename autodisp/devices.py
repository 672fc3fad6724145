"""Measurements that a GPU and a CPU need different calls for."""

import resource
import sys
from typing import Literal

import torch


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has done what was launched on it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> tuple[int, Literal["device", "process"]]:
    """Returns the largest memory so far, bytes, and whose: that of the tensors on a GPU, or that of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "device"
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (largest if sys.platform == "darwin" else 1024 * largest), "process"  # macOS gives bytes, others KiB
