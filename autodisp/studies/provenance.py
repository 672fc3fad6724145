"""Provenance of the results of a study: its command, the versions, and the machine."""

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

import autodisp
from autodisp.errors import InputError
from autodisp.search.measuring import machine

PROVENANCE = "provenance.json"
"""File in the folder of a study."""


def provenance(command: str) -> dict[str, str]:
    """Returns the command, the versions and the machine of this process, and the commit if it runs from a checkout."""
    made_on = machine(torch.device("cpu"))
    return {
        "command": command,
        "autodisp": autodisp.__version__,
        **({"commit": commit} if (commit := _commit()) else {}),
        "torch": version("torch"),
        "python": made_on["python"],
        "machine": f"{made_on['processor']}, {os.cpu_count()} cores",
    }


def read_provenance(folder: Path) -> Mapping[str, str]:
    """Reads the provenance in the folder of a study.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / PROVENANCE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in content.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}); begin the study again, which does not repeat its runs"
        ) from None


def _commit() -> str:
    """Returns the commit of the package's checkout, with -dirty if files were changed; empty if it is installed."""
    package = Path(autodisp.__file__).parent
    if not (package.parent / ".git").exists():
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        words = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return ""
