"""Reads the environment variables of torchrun, without importing torch."""

import os


def processes() -> int:
    """Returns the number of processes; 1 without torchrun."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Returns the number of this process."""
    return _number("RANK", 0)


def local_processes() -> int:
    """Returns the number of processes on this machine."""
    return _number("LOCAL_WORLD_SIZE", 1)


def local_rank() -> int:
    """Returns the number of this process on its machine, which selects its GPU."""
    return _number("LOCAL_RANK", 0)


def _number(variable: str, otherwise: int) -> int:
    return int(os.environ.get(variable, otherwise)) if "TORCHELASTIC_RUN_ID" in os.environ else otherwise
