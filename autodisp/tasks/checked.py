"""Checks a custom kit, and what its task returns, where it is returned: the engine would fail elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from types import UnionType
from typing import Any, SupportsFloat, get_args, get_origin, get_type_hints

from torch import Tensor

from autodisp.cells.spaces import KINDS
from autodisp.errors import InputError, WrongSetting, in_one_line
from autodisp.tasks.base import Task, main_output
from autodisp.tasks.kit import TaskKit


def check_kit(kit: TaskKit, origin: str) -> None:
    """Checks the types of a kit's fields and the kinds of cell of its task.

    Raises:
        WrongSetting: one is wrong; the message begins with the origin.
    """
    hints = get_type_hints(TaskKit)
    for field in fields(TaskKit):
        value, hint = getattr(kit, field.name), hints[field.name]
        options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if not isinstance(value, tuple(get_origin(option) or option for option in options)):
            wanted = " or ".join(getattr(option, "__name__", str(option)) for option in options)
            raise WrongSetting(f"{origin}: its {field.name} is {_shown(value)}, must be {wanted}; mend the file")
    kinds = kit.task.kinds
    if not (isinstance(kinds, tuple) and kinds and set(kinds) <= set(KINDS)):
        some = f"a tuple of some of {', '.join(KINDS)}"
        raise WrongSetting(f"{origin}: kinds of its task is {_shown(kinds)}, must be {some}; mend the file")


def checked(task: type[Task], origin: str) -> type[Task]:
    """Returns the class with methods that raise an InputError, beginning with the origin, for a wrong result."""
    return type(task.__name__, (task,), {name: _checked(task, name, origin) for name in _RESULTS})


def _checked(task: type[Task], name: str, origin: str) -> Callable[..., Any]:
    method, (fits, wanted) = getattr(task, name), _RESULTS[name]

    @wraps(method)
    def call(self: Task, *given: Any, **named: Any) -> Any:
        found = method(self, *given, **named)
        if not fits(self, found, *given):
            must = wanted.format(self.figure.name)
            raise InputError(f"{origin}: {name} of {task.__name__} returns {_shown(found)}, must be {must}")
        return found

    return call


def _is_loss(task: Task, found: Any, output: Any, *_: Any) -> bool:
    if not isinstance(found, Tensor) or found.ndim != 0:
        return False
    return found.requires_grad or not main_output(output).requires_grad


def _is_measure(task: Task, found: Any, *_: Any) -> bool:
    pairs = found.values() if isinstance(found, Mapping) and task.figure.name in found else [None]
    return all(isinstance(pair, Tensor) and pair.shape[:1] == (2,) for pair in pairs)


_RESULTS: Mapping[str, tuple[Callable[..., bool], str]] = {
    "inputs": (
        lambda task, found, *_: isinstance(found, tuple) and all(isinstance(entry, Tensor) for entry in found),
        "a tuple of tensors",
    ),
    "loss": (_is_loss, "a scalar tensor with a gradient"),
    "measure": (_is_measure, "a dict of tensors (2,), each a sum and a count, with '{}'"),
    "constant": (lambda task, found, *_: isinstance(found, SupportsFloat), "a number"),
    "coarsest": (lambda task, found, *_: isinstance(found, tuple) and len(found) == 2, "(height, width)"),
}
"""For each method, whether a result fits, called with the task, the result and the arguments; and what it must be."""


def _shown(found: Any) -> str:
    if isinstance(found, Tensor):
        return f"a tensor {tuple(found.shape)} {'with' if found.requires_grad else 'without'} a gradient"
    return in_one_line(repr(found), at_most=80)
