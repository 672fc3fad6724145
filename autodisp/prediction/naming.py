"""Naming rules that tell left and right views in one folder apart, never their sort order.

Two files belong together if their paths are the same once the left word of a rule in the one and the right word in the
other are blanked out, everywhere or in one place only.
"""

import re
from collections.abc import Container
from typing import NamedTuple

_BEGINNING = "(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
"""Of a word: no letter before it, or a capital after a small letter."""
_BLANK = "\0"


class Rule(NamedTuple):
    """The words that tell a left from a right view."""

    words: str
    """As they are shown to a person."""
    left: re.Pattern[str]
    """Its group is what differs from the right view."""
    right: re.Pattern[str]
    only_two: bool = False
    """Not where the same name exists with a 2, which makes it a sequence."""

    def left_keys(self, name: str, names: Container[str]) -> set[str]:
        """The blanked forms of a name, of all those names, that may be a left view's."""
        return self._keys(self.left, name, names)

    def right_keys(self, name: str, names: Container[str]) -> set[str]:
        """The same of a right view."""
        return self._keys(self.right, name, names)

    def _keys(self, words: re.Pattern[str], name: str, names: Container[str]) -> set[str]:
        spans = [match.span(1) for match in words.finditer(name)]
        if self.only_two and any(_replaced(name, [span], "2") in names for span in spans):
            return set()
        return {_replaced(name, chosen, _BLANK) for chosen in [spans, *([span] for span in spans)] if chosen}


def _replaced(name: str, spans: list[tuple[int, int]], text: str) -> str:
    for start, end in reversed(spans):
        name = name[:start] + text + name[end:]
    return name


def _words(left: str, right: str, *, end: str, beginning: str = _BEGINNING) -> Rule:
    first, second = (re.compile(f"{beginning}((?i:{word})){end}") for word in (left, right))
    return Rule(f"{left}/{right}", first, second)


def _numbers(word: str, left: str, right: str, *, end: str, only_two: bool = False) -> Rule:
    first, second = (re.compile(f"{_BEGINNING}(?i:{word})[-_. ]?({number}){end}") for number in (left, right))
    return Rule(f"{word}{left}/{word}{right}", first, second, only_two)


_END, _FOLDER, _ANYWHERE = "$", "(?![0-9])(?=[^/]*/)", "(?![0-9])"

RULES = (
    _words("left", "right", end="(?![a-z])"),
    _numbers("im", "0", "1", end=_END, only_two=True),  # Middlebury 2014 and 2021, ETH3D
    _numbers("view", "1", "5", end=_END),  # Middlebury 2005 and 2006
    _numbers("im", "2", "6", end=_END),  # Middlebury 2001 and 2003
    _numbers("image", "2", "3", end=_FOLDER),  # KITTI
    _numbers("image", "02", "03", end=_FOLDER),  # KITTI raw
    _numbers("image", "0", "1", end=_FOLDER),  # KITTI in grey, UnrealStereo4K
    _numbers("image", "00", "01", end=_FOLDER),
    _numbers("colored", "0", "1", end=_FOLDER),  # KITTI 2012
    _numbers("cam", "0", "1", end=_ANYWHERE),  # EuRoC
    _numbers("camera", "0", "1", end=_ANYWHERE),  # Virtual KITTI 2
    _words("l", "r", end="(?![A-Za-z])"),
    _words("left", "right", beginning="", end=""),  # imgleft, leftcam
)
"""Those that come first win: a file that found its partner is out of the others' reach."""
LAST_RESORT = Rule(
    "0/1",
    re.compile(r"^(?!.*(?i:left|right)).*(?<![0-9])(0)$"),
    re.compile(r"^(?!.*(?i:left|right)).*(?<![0-9])(1)$"),
    only_two=True,
)
"""Tried if no other rule finds a pair: disp0 and disp1 lie beside many a pair, and numbers mostly count frames."""
