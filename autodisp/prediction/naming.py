"""Naming rules that distinguish left and right views in one folder, independently of their sort order.

Two files form a pair if their paths are equal after the left word of a rule in one and the right word in the other are
blanked out, either everywhere or in one place only.
"""

import re
from collections.abc import Container
from typing import NamedTuple

_BLANK = "\0"
_BEGINNING = "(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
"""Beginning of a word: not preceded by a letter, or a capital after a lower-case letter."""
_FOLDER = "(?![0-9])(?=[^/]*/)"


class Rule(NamedTuple):
    """Words that distinguish a left from a right view."""

    words: str
    """Description for messages."""
    left: re.Pattern[str]
    """Pattern whose group is the part that differs from the right view."""
    right: re.Pattern[str]
    only_two: bool = False
    """If True, the rule does not apply where the same name exists with a 2, which indicates a sequence."""

    def keys(self, right: bool, name: str, names: Container[str]) -> set[str]:
        """Returns the blanked forms of a name, interpreted as that of a left or a right view."""
        spans = [match.span(1) for match in (self.right if right else self.left).finditer(name)]
        if self.only_two and any(_replaced(name, [span], "2") in names for span in spans):
            return set()
        return {_replaced(name, chosen, _BLANK) for chosen in [spans, *([span] for span in spans)] if chosen}


def _replaced(name: str, spans: list[tuple[int, int]], text: str) -> str:
    for start, end in reversed(spans):
        name = name[:start] + text + name[end:]
    return name


def _rule(word: str, left: str, right: str, *, end: str, beginning: str = _BEGINNING, only_two: bool = False) -> Rule:
    """Creates a rule for words with the same beginning and different ends, such as im0 and im1."""
    begin = f"{beginning}(?i:{word}){'[-_. ]?' if word else ''}"
    first, second = (re.compile(f"{begin}((?i:{side})){end}") for side in (left, right))
    return Rule(f"{word}{left}/{word}{right}", first, second, only_two)


RULES = (
    _rule("", "left", "right", end="(?![a-z])"),
    _rule("im", "0", "1", end="$", only_two=True),  # Middlebury 2014 and 2021, ETH3D
    _rule("view", "1", "5", end="$"),  # Middlebury 2005 and 2006
    _rule("im", "2", "6", end="$"),  # Middlebury 2001 and 2003
    _rule("image", "2", "3", end=_FOLDER),  # KITTI
    _rule("image", "02", "03", end=_FOLDER),  # KITTI raw
    _rule("image", "0", "1", end=_FOLDER),  # KITTI in grey, UnrealStereo4K
    _rule("image", "00", "01", end=_FOLDER),
    _rule("colored", "0", "1", end=_FOLDER),  # KITTI 2012
    _rule("cam", "0", "1", end="(?![0-9])"),  # EuRoC
    _rule("camera", "0", "1", end="(?![0-9])"),  # Virtual KITTI 2
    _rule("", "l", "r", end="(?![A-Za-z])"),
    _rule("", "left", "right", beginning="", end=""),  # imgleft, leftcam
)
"""Earlier rules take precedence: a paired file is not considered by later rules."""
GROUND_TRUTH = re.compile(rf"{_BEGINNING}(?i:disp|disparit(?:y|ies)|depths?|masks?|occlusions?|segmentation)(?![a-z])")
"""A word of a path that tells a map of both views, as InStereo2K's left_disp.png, from a view."""
LAST_RESORT = _rule("", "0", "1", beginning="^(?!.*(?i:left|right)).*(?<![0-9])", end="$", only_two=True)
"""Used only if no other rule finds a pair: many pairs come with disp0 and disp1, and numbers usually count frames."""
