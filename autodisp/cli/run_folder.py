"""Where a run goes: a folder of its own."""

from pathlib import Path

from autodisp.errors import InputError


def make_run_folder(folder: Path) -> Path:
    """A fresh folder for a run.

    Raises:
        InputError: it holds something already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise InputError(f"run.folder={folder}: cannot be used ({error.strerror}); take another one") from None
    if taken:
        raise InputError(f"run.folder={folder}: is not empty, and a run overwrites nothing; take another folder")
    return folder
