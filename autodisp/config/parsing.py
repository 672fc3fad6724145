"""Turns a composed config into typed sections, with one-line errors for unknown keys, wrong types and values."""

import functools
import os
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, make_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from autodisp.config.checks import LARGEST, Must, PathTo, nearest, nearest_setting, need, need_choice, printable, shown
from autodisp.config.renamed import rename
from autodisp.errors import InputError, first_line

Config = TypeVar("Config")

_WORDS: dict[Any, str] = {
    int: "a whole number, such as 10",
    float: "a number, such as 0.5",
    bool: "true or false",
    str: "text, in quotes where it looks like something else",
    list[int]: "a list of whole numbers, such as [1,2]",
    list[float]: "a list of numbers, such as [0.5,2]",
    list[str]: "a list of words, such as [a,b]",
    Any: "a word or a list of them",
    list[list[Any]]: "a list of lists of numbers, such as [[0.5,1]]",
    type(None): "null",
}


@dataclass(frozen=True)
class Setting:
    """A field of a schema."""

    kinds: tuple[Any, ...]
    """Accepted types; a literal counts as text."""
    choices: tuple[str, ...]
    """All values, if they can be listed."""
    constraints: tuple[Must, ...]
    default: Any
    """The default, or MISSING."""

    @property
    def section(self) -> type | None:
        """The schema, if the field is a section."""
        (kind, *_) = self.kinds
        return kind if isinstance(kind, type) and is_dataclass(kind) else None

    @property
    def usual(self) -> str:
        """The default of a number in words, to be appended to a constraint."""
        if type(self.default) not in (int, float):
            return ", or null" if self.default is None and type(None) in self.kinds else ""
        return f"; {self.default:g} is usual" if isinstance(self.default, float) else f"; {self.default} is usual"


@functools.cache
def settings_of(schema: type) -> Mapping[str, Setting]:
    """The fields of a dataclass by name."""
    found = {}
    hints = get_type_hints(schema, include_extras=True)
    for field in fields(schema):
        hint = hints[field.name]
        hint, *constraints = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        kinds = tuple(str if get_origin(kind) is Literal else kind for kind in kinds)
        default = field.default if field.default_factory is MISSING else field.default_factory()
        found[field.name] = Setting(kinds, tuple(choices), tuple(constraints), default)
    return found


def read(tree: DictConfig, schema: type[Config], choices: Mapping[str, Mapping[str, type]]) -> Config:
    """Returns the typed config of a config composed by Hydra.

    Args:
        schema: a dataclass whose fields are dataclasses (sections), plain settings, or sections by name.
        choices: the dataclass of each ``name``, for each section by name.

    Raises:
        InputError: the first error, in one line.
    """
    tree, known = rename(tree), settings_of(schema)  # type: ignore[arg-type]
    for key in map(str, tree):
        if key not in known:
            near = nearest_setting(key, list(dotted({name: tree[name] for name in tree if name in known})))
            hint = f"did you mean '{near}'? " if near else ""
            there = ", ".join(sorted(known))
            raise InputError(f"{printable(key)}: no such section or setting; {hint}there are {there}")
    values: dict[str, Any] = {}
    try:
        for name, setting in known.items():
            if name not in tree and setting.default is not MISSING:
                continue  # missing in configs of earlier versions
            if name in choices:
                values[name] = _section_by_name(tree, name, choices[name])
            elif setting.section is not None:
                values[name] = _section(_node(tree, name), name, setting.section)
            else:
                values[name] = _value(tree, name, name, setting)
    except OmegaConfBaseException as error:
        raise InputError(one_line(error)) from None
    return schema(**values)


def _node(tree: DictConfig, name: str) -> DictConfig:
    node = OmegaConf.select(tree, name)
    need(isinstance(node, DictConfig), name, node, f"a section with keys, such as {name}.KEY=VALUE; see --help")
    assert isinstance(node, DictConfig)
    return node


def _section_by_name(tree: DictConfig, name: str, choices: Mapping[str, type]) -> Any:
    choice = OmegaConf.select(tree, f"{name}.name") if isinstance(OmegaConf.select(tree, name), DictConfig) else None
    need_choice(name, choice, choices)
    choice = str(choice)
    node = _node(tree, name)
    keys = set(map(str, node))
    fitting = [other for other, schema in choices.items() if keys <= settings_of(schema).keys()]
    if fitting and choice not in fitting:
        raise InputError(
            f"{name}.name={choice}: the other settings are those of another {name}; write {name}={choice}, which "
            "brings its own"
        )
    return _section(node, name, choices[choice])


def _section(node: DictConfig, path: str, schema: type) -> Any:
    known = settings_of(schema)
    for key in map(str, node):
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean '{near}'? " if near else ""
            raise InputError(f"{path}.{printable(key)}: no such setting; {hint}{path} has {', '.join(known)}")
    values: dict[str, Any] = {}
    for name in map(str, node):
        key, setting = f"{path}.{name}", known[name]
        if setting.section is None:
            values[name] = _value(node, name, key, setting)
        else:
            inner = node[name]
            need(isinstance(inner, DictConfig), key, inner, f"a section with keys, such as {key}.KEY=VALUE")
            values[name] = _section(inner, key, setting.section)
    return schema(**values)


def _value(node: DictConfig, name: str, key: str, setting: Setting) -> Any:
    """Returns the value of one setting, converted to its type and checked."""
    value = _typed(node, name, key, setting)
    if value is None:
        return None
    if setting.choices:
        need_choice(key, value, setting.choices)
    for constraint in setting.constraints:
        constraint.check(key, value, setting.usual)
        if isinstance(constraint, PathTo):
            value = os.path.expanduser(value)
    need(type(value) is not int or value <= LARGEST, key, value, f"at most {LARGEST}{setting.usual}")
    return value


def _typed(node: DictConfig, name: str, key: str, setting: Setting) -> Any:
    kinds = setting.kinds
    try:
        value = node.get(name)
    except InterpolationResolutionError as error:
        given = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload,index]
        raise InputError(
            f"{key}={shown(given)}: {printable(first_line(error))}; write the value itself, or ${{KEY}} with a setting "
            "that there is"
        ) from None
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    if isinstance(plain, bool) and str(plain).lower() in setting.choices:
        return str(plain).lower()
    if type(plain) in kinds:
        return plain
    words = ", or ".join(_WORDS[kind] for kind in kinds)
    need(not isinstance(plain, dict), key, plain, f"{words}, not a section with keys")
    # OmegaConf would convert these silently
    need(not (isinstance(plain, bool) and str in kinds), key, plain, words)
    need(not (bool in kinds and isinstance(plain, int) and plain not in (0, 1)), key, plain, words)
    # nor does it check what is inside of these
    need(not _is_nested(plain, 2 if list[list[Any]] in kinds else 1), key, plain, words)
    typed = OmegaConf.structured(_holder(functools.reduce(lambda one, other: one | other, kinds)))
    try:
        typed.merge_with({"value": plain})
    except OmegaConfBaseException:
        need(False, key, plain, words)
    return OmegaConf.to_container(typed)["value"]  # type: ignore[call-overload,index]


def _is_nested(value: Any, depth: int) -> bool:
    """Returns True for a value with a section, or with lists inside of more than ``depth`` - 1 others."""
    if not isinstance(value, list):
        return isinstance(value, dict)
    return depth == 0 or any(_is_nested(entry, depth - 1) for entry in value)


@functools.cache
def _holder(kind: Any) -> type:
    return make_dataclass("Holder", [("value", kind)])


def dotted(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of all sections and settings of a config."""
    for name in node:
        yield f"{prefix}{name}"
        inner = node._get_node(name) if isinstance(node, DictConfig) else node[name]
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_interpolation():
            yield from dotted(inner, f"{prefix}{name}.")


def one_line(error: Exception) -> str:
    """Returns a library's message about a setting as one line that begins with the setting's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    message = printable(first_line(error))
    return f"{key}: {message}" if key and key not in message else message
