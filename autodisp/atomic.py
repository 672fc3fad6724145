"""Atomic writing of files and folders."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from autodisp.errors import InputError


@contextmanager
def replacing(path: Path, *, lasting: bool = False) -> Iterator[Path]:
    """Yields a path to write to; the file written there replaces `path` at the end of the block.

    If the block fails or is interrupted, `path` stays as it was and what was written is removed.

    Args:
        path: in a folder that exists. The path to write to is in the same folder and has the same suffix.
        lasting: flush the file and its name to the disk, so that they survive a power cut.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        if lasting:
            _sync(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):  # the first fault is the one to report
            temporary.unlink(missing_ok=True)
        raise
    if lasting:
        sync_folder(path.parent)


def leftovers(folder: Path, pattern: str) -> Iterator[Path]:
    """Yields the temporary files that :func:`replacing` left behind in killed processes."""
    return folder.glob(f".[0-9]*.{pattern}")


def sync_folder(folder: Path) -> None:
    """Flushes a folder to the disk, so that a renaming in it survives a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder whose files move to the given one at the end, unless an exception leaves the block.

    The temporary folder is inside the given one, so that moving is renaming. Files of the same name are replaced. A
    folder that was created for it and stays empty is removed.

    Raises:
        InputError: the folder cannot be created or written to, or a file in it cannot be replaced.
    """
    made = missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryDirectory(prefix=".export-", dir=folder)
    except OSError as error:
        raise InputError(f"out={folder}: cannot be used ({error.strerror}); take another folder") from None
    try:
        with temporary as name:
            yield Path(name)
            for path in sorted(Path(name).iterdir()):
                _move(path, folder / path.name)
        sync_folder(folder)
    finally:
        remove_empty(made)  # others contain the files, or another program's


def missing(folder: Path) -> list[Path]:
    """Returns the folder and its parents that do not exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Removes the empty folders, in that order."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _move(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{target}: cannot be replaced ({error.strerror}); take another folder with out=") from None


def refuse_overwriting(folder: Path, names: list[str]) -> None:
    """Raises an error if one of these files exists.

    Raises:
        InputError: with the first one that exists.
    """
    for name in names:
        if (folder / name).exists():
            raise InputError(f"{folder / name}: exists already; take another folder with out=, or overwrite=true")
