"""Checks of settings, each with a one-line error: setting, value, constraint, remedy."""

import difflib
import math
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from autodisp import torchrun
from autodisp.errors import InputError

LARGEST = 2**32 - 1
"""Upper bound of integer settings; larger values are typos and may overflow."""
_LONGEST_NAME = 255
"""Longest name of a folder or a file in bytes, on every common file system."""
_ABBREVIATIONS = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "batch": "batch_size"}
"""Names that are common in other programs."""
_SHOWN = 80
"""Longest value in an error line, in characters."""


def need(holds: bool, key: str, value: Any, constraint: str) -> None:
    """Refuses a setting unless ``holds``, with its value and the constraint."""
    if not holds:
        raise InputError(f"{key}={shown(value)}: must be {constraint}")


@dataclass(frozen=True)
class Must:
    """A constraint on a single setting, written next to its type as ``Annotated[int, Must(...)]``.

    The parser checks it, and docs/config.md quotes it. None always passes.

    Args:
        words: the constraint, after "must be".
        holds: called with a value of the setting's type.
    """

    words: str
    holds: Callable[[Any], bool]

    def check(self, key: str, value: Any, usual: str) -> None:
        """Refuses a value that breaks the constraint; ``usual`` is appended to words that end without a hint.

        Raises:
            InputError: the value breaks the constraint.
        """
        ends_with_hint = ";" in self.words or "null" in self.words
        need(self.holds(value), key, value, self.words if ends_with_hint else f"{self.words}{usual}")


def at_least(minimum: float, null: str = "") -> Must:
    """A finite number of at least the minimum; ``null`` is the meaning of null."""
    finite = " and finite" if isinstance(minimum, float) else ""
    words = f"at least {minimum:g}{finite}{f', or null for {null}' if null else ''}"
    return Must(words, lambda value: minimum <= value < math.inf)


def at_most(maximum: int) -> Must:
    """A number up to the maximum, above which memory or time would run out first."""
    return Must(f"at most {maximum}", lambda value: value <= maximum)


SHARED = Must(
    "a multiple of the number of processes of torchrun; they share each batch",
    lambda size: size % torchrun.processes() == 0,
)
"""The batch of a training step."""


class PathTo(Must):
    """A possible path of ``what``; the parser expands a tilde."""

    def __init__(self, what: str) -> None:
        super().__init__(f"a path to {what}", lambda value: True)

    def check(self, key: str, value: Any, usual: str) -> None:
        """See :func:`need_path`."""
        need_path(key, value, what=self.words.removeprefix("a path to "))


ABOVE_0 = Must("above 0 and finite", lambda value: 0 < value < math.inf)
Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of a forward pass."""
DEVICES = ("auto", "cpu", "cuda", "cuda:N")


class _DeviceName(Must):
    def __init__(self) -> None:
        super().__init__(f"one of {', '.join(DEVICES)}", lambda value: True)

    def check(self, key: str, value: Any, usual: str) -> None:
        """Refuses a name that is not among the devices."""
        if not re.fullmatch(r"cuda:\d{1,3}", value):
            need_choice(key, value, DEVICES)
            need(value != DEVICES[-1], key, value, "the number of a GPU after cuda:, such as cuda:0")


Device = Annotated[str, _DeviceName()]
Seed = Annotated[int, Must("at least 0 and below 2^32; 0 is usual", lambda value: 0 <= value < 2**32)]
Threads = Annotated[
    int | None, Must("at least 1 and at most 1024, or null for all cores", lambda value: 1 <= value <= 1024)
]
Probability = Annotated[float, Must("at least 0 and below 1; 0 is none", lambda value: 0 <= value < 1)]
Momentum = Annotated[float, Must("at least 0 and below 1", lambda value: 0 <= value < 1)]
Clip = Annotated[float, Must("above 0 (inf for no clipping)", lambda value: value > 0)]
ModelFile = Annotated[str | None, PathTo("a model file such as best.safetensors, or shipped")]


def need_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Refuses a name that is not among the choices, and suggests the nearest."""
    choices = tuple(choices)
    if value not in choices:
        near = nearest(str(value), choices, cutoff=0.5)
        hint = f"; did you mean '{near}'?" if near else ""
        raise InputError(f"{key}={shown(value)}: must be one of {', '.join(choices)}{hint}")


def need_path(key: str, value: str | None, *, what: str) -> None:
    """Refuses a value that cannot be a path.

    Args:
        value: a path; None passes.
        what: target of the path, such as "a folder that the run makes".
    """
    if value is None:
        return
    need(bool(value.strip()), key, value, f"a path to {what}")
    plain = all(unicodedata.category(letter) != "Cc" for letter in value)
    need(plain, key, value, f"free of control characters, a path to {what}")
    longest = max(len(name.encode(errors="surrogatepass")) for name in value.split("/"))
    need(longest <= _LONGEST_NAME, key, value, f"of names of at most {_LONGEST_NAME} bytes, a path to {what}")


def need_falling(section: str, rates: Any) -> None:
    """Refuses a schedule from ``learning_rate`` to ``min_learning_rate`` that rises."""
    first, last = rates.learning_rate, rates.min_learning_rate
    constraint = f"at most learning_rate={first}, where the schedule begins"
    need(last <= first, f"{section}.min_learning_rate", last, constraint)


@contextmanager
def naming(key: str, value: str | None, *, choices: Sequence[str] = ()) -> Iterator[None]:
    """Prefixes errors of the block about a file with the setting that named the file.

    Args:
        choices: values other than files that the setting accepts; the nearest one is suggested.

    Raises:
        InputError: as in the block, prefixed with the setting if the message begins with its value.
    """
    try:
        yield
    except InputError as error:
        said = str(error)
        near = nearest(value or "", choices)
        hint = f"; did you mean '{near}'?" if near and near != value else ""
        raise InputError(f"{key}={said}{hint}" if said.startswith((f"{value}:", f"{value} ")) else said) from None


def nearest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Returns the most similar choice, regardless of case; None if none is similar."""
    folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def nearest_setting(key: str, settings: Sequence[str]) -> str | None:
    """Returns the most similar setting: of the same name in another section, or of a similar name in the same section.

    Returns:
        The dotted name; if several sections have a setting of that name, all of them joined by "or".
    """
    section, _, name = key.rpartition(".")
    name = _ABBREVIATIONS.get(name.casefold(), name)
    below = [setting for setting in settings if setting.startswith(f"{section}.")]
    elsewhere = [setting for setting in settings if setting.rpartition(".")[2].casefold() == name.casefold()]
    if elsewhere:
        return " or ".join([setting for setting in elsewhere if setting in below] or elsewhere)
    if section and section not in settings:
        near = nearest(section, [setting for setting in settings if "." not in setting])
        return f"{near}.{name}" if any(setting.startswith(f"{near}.") for setting in settings) else near
    siblings = below if section else [setting for setting in settings if "." not in setting]
    near = nearest(name, [setting.rpartition(".")[2] for setting in siblings])
    if near:
        return " or ".join(setting for setting in siblings if setting.rpartition(".")[2] == near)
    return nearest(key, [setting for setting in settings if setting != section])


def shown(value: Any) -> str:
    """Returns a value as the user would write it, in one line of bounded length."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, list | tuple):
        text = f"[{', '.join(map(shown, value))}]"
    else:
        text = printable(str(value)) or "''"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def printable(text: str) -> str:
    """Returns the text with control characters escaped, safe to print on one line of a terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def checked_factory(key: str, factory: str | None, *, what: str) -> str | None:
    """Checks ``FILE.py:NAME`` and makes the path absolute, so that the run can be resumed from another folder."""
    named = factory is None or re.fullmatch(r".+:[^\W\d]\w*", factory) is not None
    need(named, key, factory, what)
    if factory is not None and ".py:" in factory:
        return os.path.abspath(os.path.expanduser(factory))
    return factory
