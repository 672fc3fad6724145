"""Refuses settings in one line that names the setting, its value, what it must be and what to take instead."""

import dataclasses
import difflib
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from autodisp.errors import InputError

PRECISIONS = ("float32", "bfloat16", "float16")
"""Of a forward pass."""
DEVICES = ("auto", "cpu", "cuda")
LARGEST = 2**31 - 1
"""Of whole numbers that count something; what comes above is a slip of the hand, and overflows somewhere."""
_LONGEST_NAME = 255
"""Bytes of a folder's or a file's name, on every file system in use."""
_ABBREVIATIONS = {"lr": "learning_rate", "wd": "weight_decay", "bs": "batch_size", "batch": "batch_size"}
"""What users of other programs write."""
_SHOWN = 80
"""Characters of a value."""


def need(holds: bool, key: str, value: Any, constraint: str) -> None:
    """Refuses a setting: names it, its value and what it must be."""
    if not holds:
        raise InputError(f"{key}={shown(value)}: must be {constraint}")


def need_at_least(section: str, config: Any, **minima: float) -> None:
    """Refuses the settings below their minimum, and what is no number or none that can be meant."""
    for key, minimum in minima.items():
        value, name = getattr(config, key), f"{section}.{key}" if section else key
        usual = _usual(config, key)
        need(not value < minimum, name, value, f"at least {minimum:g}{usual}")
        need(math.isfinite(value), name, value, f"at least {minimum:g} and finite{usual}")
        need(isinstance(value, float) or value <= LARGEST, name, value, f"at most {LARGEST}{usual}")


def need_at_most(section: str, config: Any, **maxima: float) -> None:
    """Refuses the settings above what any network, picture or machine has: memory or patience would end first."""
    for key, maximum in maxima.items():
        value = getattr(config, key)
        name = f"{section}.{key}" if section else key
        need(value is None or value <= maximum, name, value, f"at most {maximum}{_usual(config, key)}")


def need_count(key: str, value: int | None, *, null: str) -> None:
    """Refuses a number of things that is none.

    Args:
        key: the setting.
        value: how many; None passes.
        null: what null stands for.
    """
    need(value is None or value >= 1, key, value, f"at least 1, or null for {null}")
    need(value is None or value <= LARGEST, key, value, f"at most {LARGEST}, or null for {null}")


def _usual(config: Any, key: str) -> str:
    default = next(field.default for field in dataclasses.fields(config) if field.name == key)
    if default is None:
        return ", or null"
    return "" if default is dataclasses.MISSING else f"; {shown(default)} is usual"


def need_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Refuses a name that is not among the choices, and offers the nearest."""
    choices = tuple(choices)
    if value not in choices:
        near = nearest(str(value), choices, cutoff=0.5)
        hint = f"; did you mean '{near}'?" if near else ""
        raise InputError(f"{key}={shown(value)}: must be one of {', '.join(choices)}{hint}")


def need_path(key: str, value: str | None, *, what: str) -> None:
    """Refuses what cannot be the path of anything.

    Args:
        key: the setting.
        value: a path; None passes.
        what: it names, such as "a folder that the run makes".
    """
    if value is None:
        return
    need(bool(value.strip()), key, value, f"a path to {what}")
    plain = all(unicodedata.category(letter) != "Cc" for letter in value)
    need(plain, key, value, f"free of control characters, a path to {what}")
    longest = max(len(name.encode(errors="surrogatepass")) for name in value.split("/"))
    need(longest <= _LONGEST_NAME, key, value, f"of names of at most {_LONGEST_NAME} bytes, a path to {what}")


@contextmanager
def naming(key: str, value: str | None, *, choices: Sequence[str] = ()) -> Iterator[None]:
    """What is wrong with the file that a setting names is said of the setting.

    Args:
        key: the setting.
        value: the file.
        choices: what the setting takes beside files; the nearest is offered.

    Raises:
        InputError: as in the block, with the setting in front where the message begins with its value.
    """
    try:
        yield
    except InputError as error:
        said = str(error)
        near = nearest(value or "", choices)
        hint = f"; did you mean '{near}'?" if near and near != value else ""
        raise InputError(f"{key}={said}{hint}" if said.startswith((f"{value}:", f"{value} ")) else said) from None


def need_threads(key: str, threads: int | None) -> None:
    """Refuses a number of threads that no machine has."""
    need(threads is None or 1 <= threads <= 1024, key, threads, "at least 1 and at most 1024, or null for all cores")


def nearest(word: str, choices: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The choice that was most likely meant, whatever the capitals; None if none is near."""
    folded = {choice.casefold(): choice for choice in choices}
    found = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def nearest_setting(key: str, settings: Sequence[str]) -> str | None:
    """The setting that was most likely meant: of the same name in another section, or nearly so in the same one.

    Args:
        key: with dots, as it was given.
        settings: with dots, all there are.

    Returns:
        The setting with dots; where several sections have one of that name, all joined by "or".
    """
    section, _, name = key.rpartition(".")
    name = _ABBREVIATIONS.get(name.casefold(), name)
    below = [setting for setting in settings if setting.startswith(f"{section}.")]
    elsewhere = [setting for setting in settings if setting.rpartition(".")[2].casefold() == name.casefold()]
    if elsewhere:
        return " or ".join([setting for setting in elsewhere if setting in below] or elsewhere)
    if section and section not in settings:
        near = nearest(section, [setting for setting in settings if "." not in setting])
        return f"{near}.{name}" if near else None
    beside = below if section else [setting for setting in settings if "." not in setting]
    near = nearest(name, [setting.rpartition(".")[2] for setting in beside])
    if near:
        return " or ".join(setting for setting in beside if setting.rpartition(".")[2] == near)
    return nearest(key, [setting for setting in settings if setting != section])


def shown(value: Any) -> str:
    """A value as the user would write it, in one line of bounded length."""
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
    """The text in one line that a terminal takes for nothing but text: control characters become escapes."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def checked_factory(key: str, factory: str | None, *, what: str) -> str | None:
    """A ``FILE.py:NAME`` with an absolute path, since whoever resumes the run may stand elsewhere."""
    named = factory is None or re.fullmatch(r".+:[^\W\d]\w*", factory) is not None
    need(named, key, factory, what)
    if factory is not None and ".py:" in factory:
        return os.path.abspath(os.path.expanduser(factory))
    return factory


def check_files(config: Any) -> None:
    """Checks the settings that every section of a dataset of files has: limit, root, exclude."""
    need(config.limit is None or config.limit >= 1, "dataset.limit", config.limit, "at least 1, or null for all")
    for key, what in (("root", "the folder of the data"), ("exclude", "a list of samples to leave out, or null")):
        need_path(f"dataset.{key}", getattr(config, key, None) or None, what=what)
