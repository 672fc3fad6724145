"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a path to write to, which takes the place of `path` once the block is done.

    If the block fails or is interrupted, `path` stays as it was and what was written is removed.

    Args:
        path: of a folder that exists. The path to write to lies beside it and has the same suffix.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
