"""Writing files so that they are whole or absent."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Makes a renaming in that folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
