"""How left and right views that lie in one folder are told apart: by a table of naming rules, never by sort order.

A rule is a pair of words, such as left and right or im0 and im1. Two files belong together if their paths are the same
once the one's left word and the other's right word are blanked out, everywhere or in one place only. Words end where
letters, digits, capitals or other characters begin: imgL, left01, IMG_0007-R and leftImg8bit are all understood.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Place = Literal["anywhere", "folder", "end of name", "inside a word"]

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_BLANK = "\0"


class Rule(NamedTuple):
    """The words that tell a left from a right view."""

    left: tuple[str, ...]
    """Words in a row within one folder's or file's name, lower case."""
    right: tuple[str, ...]
    place: Place = "anywhere"
    only_two: bool = False
    """Not where the same name exists with a third number, which makes it a sequence."""

    def __str__(self) -> str:
        """The rule as it is shown to a person."""
        return f"{''.join(self.left)}/{''.join(self.right)}"


RULES = (
    Rule(("left",), ("right",)),
    Rule(("im", "0"), ("im", "1"), "end of name", only_two=True),  # Middlebury 2014 and 2021, ETH3D
    Rule(("view", "1"), ("view", "5"), "end of name"),  # Middlebury 2005 and 2006
    Rule(("im", "2"), ("im", "6"), "end of name"),  # Middlebury 2001 and 2003
    Rule(("image", "2"), ("image", "3"), "folder"),  # KITTI
    Rule(("image", "02"), ("image", "03"), "folder"),  # KITTI raw
    Rule(("image", "0"), ("image", "1"), "folder"),  # KITTI in grey, UnrealStereo4K
    Rule(("image", "00"), ("image", "01"), "folder"),
    Rule(("colored", "0"), ("colored", "1"), "folder"),  # KITTI 2012
    Rule(("cam", "0"), ("cam", "1")),  # EuRoC
    Rule(("camera", "0"), ("camera", "1")),  # Virtual KITTI 2
    Rule(("l",), ("r",)),
    Rule(("left",), ("right",), "inside a word"),  # imgleft, leftcam
)
"""Those that come first win: a file that found its partner is out of the others' reach."""
LAST_RESORT = Rule(("0",), ("1",), "end of name", only_two=True)
"""Tried if no other rule finds a pair: disp0 and disp1 lie beside many a pair, and numbers mostly count frames."""


class Keys(NamedTuple):
    """What a rule makes of some paths: (blanked path, path) of each possible left and right view."""

    left: list[tuple[str, str]]
    right: list[tuple[str, str]]


def keys(paths: Sequence[str], rule: Rule) -> Keys:
    """The paths that a rule takes for left and for right views.

    Args:
        paths: relative, with / between folders, without suffix.
        rule: the words to look for.
    """
    numbers = _numbers(paths) if rule.only_two else {}
    kinds: list[list[tuple[str, str]]] = []
    for words in (rule.left, rule.right):
        found = [(key, path) for path in paths for key in _blanked(path, words, rule)]
        kinds.append([(key, path) for key, path in found if len(numbers.get(key, ())) < 3])
    return Keys(*kinds)


def partner(path: str, rule: Rule) -> str:
    """The path that would complete a pair with this one, which has a word of the rule; the last of its words says
    which view it is."""
    sides = ((rule.left, rule.right), (rule.right, rule.left))
    words, others = max(sides, key=lambda side: max(_spans(path, side[0], rule), default=(-1, -1)))
    for start, end in reversed(_spans(path, words, rule)):
        path = path[:start] + _exchanged(path[start:end], words, others) + path[end:]
    return path


def _blanked(path: str, words: tuple[str, ...], rule: Rule) -> set[str]:
    """The path with all places blanked out, and with each alone: left/a_left is a pair with right/a_right or a_left."""
    spans = _spans(path, words, rule)
    if rule is LAST_RESORT and any(_spans(path, side, RULES[0]) for side in (("left",), ("right",))):
        return set()  # the number of a frame
    alone = {path[:start] + _blank(path[start:end], words) + path[end:] for start, end in spans}
    everywhere = path
    for start, end in reversed(spans):
        everywhere = everywhere[:start] + _blank(path[start:end], words) + everywhere[end:]
    return alone | ({everywhere} if spans else set())


def _blank(text: str, words: tuple[str, ...]) -> str:
    """Blanks out the last word only, which is all of it but for names such as im0, whose letters both views share."""
    return text[: len(text) - len(words[-1])] + _BLANK


def _exchanged(text: str, words: tuple[str, ...], others: tuple[str, ...]) -> str:
    """The text with the other side's last word, in the same capitals."""
    old = text[len(text) - len(words[-1]) :]
    new = others[-1]
    if old.isupper():
        new = new.upper()
    elif old[0].isupper():
        new = new.capitalize()
    return text[: len(text) - len(old)] + new


def _spans(path: str, words: tuple[str, ...], rule: Rule) -> list[tuple[int, int]]:
    """Where the words stand in the path."""
    if rule.place == "inside a word":
        return [match.span() for match in re.finditer(re.escape(words[0]), path, re.IGNORECASE)]
    name = path.rfind("/") + 1
    spans = []
    tokens = list(_WORD.finditer(path))
    for first in range(len(tokens) - len(words) + 1):
        run = tokens[first : first + len(words)]
        start, end = run[0].start(), run[-1].end()
        if (
            all(token[0].lower() == word for token, word in zip(run, words, strict=True))
            and "/" not in path[start:end]
            and not (rule.place == "folder" and end > name)
            and not (rule.place == "end of name" and (start < name or end < len(path)))
        ):
            spans.append((start, end))
    return spans


def _numbers(paths: Iterable[str]) -> dict[str, set[str]]:
    """The numbers that end otherwise equal paths, by the path with its number blanked out."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for path in paths:
        if match := re.search(r"[0-9]+$", path):
            found[path[: match.start()] + _BLANK].add(match[0])
    return found
