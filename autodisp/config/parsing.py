"""What Hydra composed becomes typed sections; unknown keys and wrong types end in one line."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, make_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from autodisp.config.checks import nearest, nearest_setting, need, need_choice, printable, shown
from autodisp.errors import InputError

Config = TypeVar("Config")
Section = TypeVar("Section")

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
}


def read(tree: DictConfig, schema: type[Config], choices: Mapping[str, Mapping[str, type]]) -> Config:
    """The typed config out of what Hydra composed.

    Args:
        tree: the composed config.
        schema: a dataclass whose fields are dataclasses (sections), plain settings, or sections by name.
        choices: for each section by name, the dataclass that each ``name`` in it stands for.

    Raises:
        InputError: the first thing that is wrong, in one line.
    """
    known = get_type_hints(schema)
    for key in map(str, tree):
        if key not in known:
            near = nearest_setting(key, list(dotted({name: tree[name] for name in tree if name in known})))
            hint = f"did you mean '{near}'? " if near else ""
            there = ", ".join(sorted(known))
            raise InputError(f"{printable(key)}: no such section or setting; {hint}there are {there}")
    values: dict[str, Any] = {}
    try:
        for field in fields(schema):  # type: ignore[arg-type]
            name, kind = field.name, known[field.name]
            if name not in tree and field.default_factory is not MISSING:
                continue  # a section that configs of earlier versions do not have
            if name in choices:
                values[name] = _section_by_name(tree, name, choices[name])
            elif isinstance(kind, type) and is_dataclass(kind):
                values[name] = _section(_node(tree, name), name, kind)
            elif name in tree or field.default is MISSING:
                values[name] = _setting(tree, name, name, kind)
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
    own = [other for other, schema in choices.items() if keys <= {field.name for field in fields(schema)}]
    if own and choice not in own:
        raise InputError(
            f"{name}.name={choice}: the other settings are those of another {name}; write {name}={choice}, which "
            "brings its own"
        )
    return _section(node, name, choices[choice])


def _section(node: DictConfig, path: str, schema: type[Section]) -> Section:
    known = get_type_hints(schema)
    for key in map(str, node):
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean '{near}'? " if near else ""
            raise InputError(f"{path}.{printable(key)}: no such setting; {hint}{path} has {', '.join(known)}")
    values: dict[str, Any] = {}
    for name, kind in known.items():
        key = f"{path}.{name}"
        if name not in node:
            continue
        if isinstance(kind, type) and is_dataclass(kind):
            inner = node[name]
            need(isinstance(inner, DictConfig), key, inner, f"a section with keys, such as {key}.KEY=VALUE")
            values[name] = _section(inner, key, kind)
        else:
            values[name] = _setting(node, name, key, kind)
    return schema(**values)


def _setting(node: DictConfig, name: str, key: str, kind: Any) -> Any:
    """One setting, converted to its type."""
    try:
        value = node.get(name)
    except InterpolationResolutionError as error:
        given = OmegaConf.to_container(node, resolve=False)[name]  # type: ignore[call-overload,index]
        raise InputError(
            f"{key}={shown(given)}: {_first_line(error)}; write the value itself, or ${{KEY}} with a setting that "
            "there is"
        ) from None
    plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if type(plain) in kinds:
        return plain
    words = _in_words(kinds)
    need(not isinstance(plain, dict), key, plain, f"{words}, not a section with keys")
    # these OmegaConf would turn into text and truth
    need(not (isinstance(plain, bool) and str in kinds), key, plain, words)
    need(not (bool in kinds and isinstance(plain, int) and plain not in (0, 1)), key, plain, words)
    need(not _holds_section(plain), key, plain, words)
    typed = OmegaConf.structured(_holder(kind))
    try:
        typed.merge_with({"value": plain})
    except OmegaConfBaseException:
        need(False, key, plain, words)
    return OmegaConf.to_container(typed)["value"]  # type: ignore[call-overload,index]


def _holds_section(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_holds_section, value)))


@functools.cache
def _holder(kind: Any) -> type:
    return make_dataclass("Setting", [("value", kind)])


def _in_words(kinds: Sequence[Any]) -> str:
    return ", or ".join("null" if kind is type(None) else _WORDS[kind] for kind in kinds)


def dotted(node: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    """The names of all sections and settings in a config, with dots."""
    for name in node:
        yield f"{prefix}{name}"
        inner = node._get_node(name) if isinstance(node, DictConfig) else node[name]
        if isinstance(inner, DictConfig) and not inner._is_none() and not inner._is_interpolation():
            yield from dotted(inner, f"{prefix}{name}.")


def one_line(error: Exception) -> str:
    """A library's message about a setting as one line that begins with the setting's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    message = _first_line(error)
    return f"{key}: {message}" if key and key not in message else message


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0]) if lines else type(error).__name__
