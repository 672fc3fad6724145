"""Where a run goes: a folder of its own."""

from pathlib import Path

from autodisp.errors import InputError


def make_run_folder(folder: Path, *, key: str = "run.folder") -> Path:
    """A fresh folder for a run.

    Args:
        folder: is made, with those above it.
        key: the setting that named it.

    Raises:
        InputError: it holds something already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"{key}={folder}: cannot be used ({error.strerror}); take another one") from None
    if taken:
        raise InputError(f"{key}={folder}: is not empty, and a run overwrites nothing; take another folder")
    return folder
