"""The folder of a run, claimed by one process at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from autodisp import torchrun
from autodisp.atomic import missing, remove_empty
from autodisp.commands import as_typed, command
from autodisp.errors import InputError
from autodisp.run_files import CHECKPOINTS, COMMAND, CONFIG
from autodisp.run_lock import LOCK, Taken, is_held, locked


@contextmanager
def claimed(
    folder: Path, tree: DictConfig, *, key: str = "run.folder", resumes_with: str | None = None
) -> Iterator[Path]:
    """Claims a new folder for one process until the end of the block.

    If the name contains the start time, as the default does, and is taken, the first free one of NAME_2, NAME_3 and so
    on is claimed and written to the config. A folder that stays empty is removed. Among several processes, the first
    one claims a folder for all.

    Args:
        folder: created with its parents.
        key: the setting that named the folder.
        resumes_with: the program that can resume a run in the folder, if any.

    Raises:
        Taken: it is not empty, or another process has claimed it.
        InputError: it cannot be created.
    """
    from autodisp import distributed  # imports torch, for which --help does not wait

    with ExitStack() as held:
        yield distributed.on_first(lambda: held.enter_context(_claimed(folder, tree, key, resumes_with)))


@contextmanager
def _claimed(folder: Path, tree: DictConfig, key: str, resumes_with: str | None) -> Iterator[Path]:
    timed = "${now:" in template_of(tree, key)
    others = (folder.with_name(f"{folder.name}_{number}") for number in count(2))
    with ExitStack() as held:
        for candidate in chain([folder], others if timed else ()):
            try:
                held.enter_context(_alone_in(candidate, key, resumes_with))
            except Taken:
                if timed:
                    continue
                raise
            break
        if timed:
            OmegaConf.update(tree, key, str(candidate))
        yield candidate


def template_of(tree: DictConfig, key: str) -> str:
    """Returns the value of a setting before its interpolations are resolved."""
    section, _, name = key.rpartition(".")
    node = tree[section] if section else tree
    return str(OmegaConf.to_container(node, resolve=False)[name])  # type: ignore[call-overload,index]


def holds_run(folder: Path) -> bool:
    """Returns True if the folder contains a run that can be resumed."""
    return (folder / CONFIG).exists() and (folder / CHECKPOINTS).is_dir()


@contextmanager
def _alone_in(folder: Path, key: str, resumes_with: str | None) -> Iterator[None]:
    with ExitStack() as held:
        try:
            made = missing(folder)
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_content(folder, key, resumes_with)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise InputError(f"{key}={folder}: is not writable; take another one")
            first, ours = _leave_mark(folder), is_held(folder)
            held.enter_context(locked(folder))
            # Without locks, the folder belongs to the process that created the file.
            if ours or not (first or is_held(folder)):
                raise Taken(f"{key}={folder}: another run has claimed it; take another folder")
            _refuse_content(folder, key, resumes_with)
        except OSError as error:
            raise InputError(f"{key}={folder}: cannot be used ({error.strerror}); take another one") from None
        try:
            yield
        finally:
            with suppress(OSError):
                if [path.name for path in folder.iterdir()] == [LOCK]:
                    (folder / LOCK).unlink()
                    remove_empty(made)


def _leave_mark(folder: Path) -> bool:
    """Creates the file of the lock; returns True if it did not exist."""
    try:
        (folder / LOCK).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _refuse_content(folder: Path, key: str, resumes_with: str | None) -> None:
    if all(path.name == LOCK for path in folder.iterdir()):
        return
    if resumes_with and holds_run(folder):
        raise Taken(
            f"{key}={folder}: contains a run already, which is not overwritten; resume it by "
            f"`{command(resumes_with, ('resume', folder))}`, or take another folder"
        )
    raise Taken(f"{key}={folder}: is not empty, and a run overwrites nothing; take another folder")


def begin_run(folder: Path, tree: DictConfig, config: Any) -> None:
    """Writes the first files of a run into its folder, and creates that of its states."""
    keep_command(folder)
    keep_config(folder, tree, config)
    (folder / CHECKPOINTS).mkdir()


def keep_config(folder: Path, tree: DictConfig, config: Any) -> None:
    """Writes the composed config into the run's folder, with the absolute paths of the typed one."""
    kept = tree.copy()
    for name in ("dataset", "task", "relaxation"):
        section = getattr(config, name, None)
        for key in ("factory", "root") if getattr(section, "factory", None) is not None else ():
            if hasattr(section, key):
                OmegaConf.update(kept, f"{name}.{key}", getattr(section, key))
    OmegaConf.save(kept, folder / CONFIG, resolve=True)


def keep_command(folder: Path) -> None:
    """Writes the command line of a run into its folder."""
    words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    if torchrun.processes() > 1:
        words = ["torchrun", f"--nproc-per-node={torchrun.local_processes()}", *words]
    typed = as_typed(words)
    (folder / COMMAND).write_text(typed + "\n", encoding="utf-8", errors="surrogateescape")
