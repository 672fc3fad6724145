"""What Hydra composed becomes typed sections; unknown keys and wrong types end in one line."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, make_dataclass
from typing import Any, TypeVar, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autodisp.config.checks import need_choice
from autodisp.errors import InputError

Config = TypeVar("Config")
Section = TypeVar("Section")


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
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"{key}: no such section or setting; {hint}there are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    try:
        for name, kind in known.items():
            if name in choices:
                choice = OmegaConf.select(tree, f"{name}.name")
                need_choice(name, choice, tuple(choices[name]))
                values[name] = _section(tree, name, choices[name][choice])
            elif isinstance(kind, type) and is_dataclass(kind):
                values[name] = _section(tree, name, kind)
            else:
                values[name] = _setting(tree, name, kind)
    except OmegaConfBaseException as error:
        raise InputError(one_line(error)) from None
    return schema(**values)


def _setting(tree: DictConfig, name: str, kind: Any) -> Any:
    """A setting that stands in no section, converted to its type."""
    if isinstance(OmegaConf.select(tree, name), DictConfig):
        raise InputError(f"{name}: is one setting, not a section with keys")
    typed = OmegaConf.structured(make_dataclass("Setting", [(name, kind)]))
    typed.merge_with({name: OmegaConf.select(tree, name)})
    return OmegaConf.to_container(typed)[name]  # type: ignore[call-overload,index]


def _section(tree: DictConfig, name: str, schema: type[Section]) -> Section:
    node = OmegaConf.select(tree, name)
    if not isinstance(node, DictConfig):
        raise InputError(f"{name}={node}: must be a section with keys; see --help for its choices")
    _refuse_unknown(node, name, schema)
    typed = OmegaConf.create({name: OmegaConf.structured(schema)})
    _unlock(typed[name])
    typed.merge_with({name: OmegaConf.to_container(node, resolve=True)})
    section = OmegaConf.to_object(typed[name])
    assert isinstance(section, schema)
    return section


def _unlock(node: DictConfig) -> None:
    """A frozen dataclass becomes a read-only node, which could not take the values of the YAML."""
    OmegaConf.set_readonly(node, False)
    for _, value in node.items_ex(resolve=False):
        if isinstance(value, DictConfig):
            _unlock(value)


def _refuse_unknown(node: DictConfig, path: str, schema: Any) -> None:
    known = {entry.name: entry.type for entry in fields(schema)}
    for name, value in node.items_ex(resolve=False):
        key = str(name)
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise InputError(f"{path}.{key}: no such setting; {hint}{path} has {', '.join(known)}")
        if isinstance(value, DictConfig) and hasattr(known[key], "__dataclass_fields__"):
            _refuse_unknown(value, f"{path}.{key}", known[key])


def one_line(error: Exception) -> str:
    """A library's message about a setting as one line that begins with the setting's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    key = next((line.removeprefix("full_key:").strip() for line in lines if line.startswith("full_key:")), "")
    message = lines[0] if lines else type(error).__name__
    if "is not a ListConfig" in message:
        message = "must be a list, such as [1,2]"
    return f"{key}: {message}" if key and key not in message else message
