"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from autodisp.errors import InputError
from autodisp.files import sync_folder


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A temporary folder whose files move to the given one at the end, unless an exception leaves the block.

    The temporary one lies inside the other, so that moving is renaming. Files of the same name are replaced. A folder
    that was made for it and stays empty is removed.

    Raises:
        InputError: the folder cannot be made or written to, or a file in it not be replaced.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
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
        for path in made:
            with suppress(OSError):  # it holds the files, or another program's
                path.rmdir()


def _move(path: Path, target: Path) -> None:
    try:
        path.replace(target)
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{target}: cannot be replaced ({error.strerror}); take another folder with out=") from None


def refuse_overwriting(folder: Path, names: list[str]) -> None:
    """Makes sure that none of these files is there.

    Raises:
        InputError: names the first that is.
    """
    for name in names:
        if (folder / name).exists():
            raise InputError(f"{folder / name}: exists already; take another folder with out=, or overwrite=true")
