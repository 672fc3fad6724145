"""Standard output of the programs: tables, and lines of paths and commands, which are to be copied."""

from rich.console import Console


def build_console(*, width: int | None = None, quiet: bool = False) -> Console:
    """Builds a console that highlights nothing.

    Args:
        width: columns where standard output is no terminal; None for rich's 80.
        quiet: if True, it prints nothing.
    """
    console = Console(highlight=False, emoji=False, quiet=quiet)
    if width is not None and not console.is_terminal:
        console.width = width
    return console


def say(console: Console, *lines: str) -> None:
    """Prints lines without markup, and without wrapping them."""
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
