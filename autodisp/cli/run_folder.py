"""Where a run goes: a folder of its own, with one process at a time in it."""

import os
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from autodisp.commands import as_typed, command
from autodisp.config.sections import OwnConfig
from autodisp.errors import InputError

CONFIG = "config.yaml"
COMMAND = "command.txt"


def make_run_folder(folder: Path, *, key: str = "run.folder", resumes_with: str | None = None) -> Path:
    """A fresh folder for a run.

    Args:
        folder: is made, with those above it.
        key: the setting that named it.
        resumes_with: the program that goes on with a run which is there already, if any does.

    Raises:
        InputError: it holds something already, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
        usable = os.access(folder, os.W_OK | os.X_OK)
    except OSError as error:
        raise InputError(f"{key}={folder}: cannot be used ({error.strerror}); take another one") from None
    if taken and resumes_with and (folder / CONFIG).exists() and (folder / "checkpoints").is_dir():
        raise InputError(
            f"{key}={folder}: holds a run already, and nothing of it is overwritten; go on with it by "
            f"`{command(resumes_with, ('resume', folder))}`, or take another folder"
        )
    if taken:
        raise InputError(f"{key}={folder}: is not empty, and a run overwrites nothing; take another folder")
    if not usable:
        raise InputError(f"{key}={folder}: is not writable; take another one")
    return folder


def keep_config(folder: Path, tree: DictConfig, dataset: Any) -> None:
    """Leaves the composed config in the run's folder; a reader of the user's own is named as from anywhere.

    Args:
        folder: of the run.
        tree: what was composed.
        dataset: the typed section of the dataset.
    """
    kept = tree.copy()
    if isinstance(dataset, OwnConfig):
        for key in ("factory", "root"):
            OmegaConf.update(kept, f"dataset.{key}", getattr(dataset, key))
    OmegaConf.save(kept, folder / CONFIG, resolve=True)


def keep_command(folder: Path) -> None:
    """Leaves the command line that made a run in its folder, for whoever looks at it later."""
    typed = as_typed([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    (folder / COMMAND).write_text(typed + "\n", encoding="utf-8", errors="surrogateescape")
