"""Refuses settings in one line that names the setting, its value and what it must be."""

import difflib
import math
from collections.abc import Sequence
from typing import Any

from autodisp.errors import InputError

PRECISIONS = ("float32", "bfloat16", "float16")
"""Of a forward pass."""


def need(holds: bool, key: str, value: Any, constraint: str) -> None:
    """Refuses a setting: names it, its value and what it must be."""
    if not holds:
        raise InputError(f"{key}={value}: must be {constraint}")


def need_at_least(section: str, config: Any, **minima: float) -> None:
    """Refuses the settings below their minimum, and what is no number."""
    for key, minimum in minima.items():
        value = getattr(config, key)
        need(value is not None and minimum <= value < math.inf, f"{section}.{key}", value, f"at least {minimum}")


def need_choice(key: str, value: str, choices: Sequence[str]) -> None:
    """Refuses a name that is not among the choices, and offers the nearest."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(f"{key}={value}: must be one of {', '.join(choices)}{hint}")
