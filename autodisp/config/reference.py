"""Writes docs/config.md: every program's settings, from the schema and the YAML files.

    python -m autodisp.config.reference docs/config.md

Types and constraints are those of the schema, defaults and meanings those of the YAML and its comments.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import yaml

from autodisp import configs
from autodisp.config import check, evaluate, export, predict, report, search, study, train
from autodisp.config.checks import shown
from autodisp.config.notes import head_of, meanings_of_choices, read_notes
from autodisp.config.parsing import Setting, settings_of
from autodisp.config.sections import DATASETS, NETWORKS, TASKS, FromCheckpointConfig

PROGRAMS: Mapping[str, type] = {
    "search": search.SearchConfig,
    "train": train.TrainConfig,
    "evaluate": evaluate.EvaluateConfig,
    "predict": predict.PredictConfig,
    "export": export.ExportConfig,
    "report": report.ReportConfig,
    "check": check.CheckConfig,
    "study": study.StudyConfig,
}
"""The schema of each program."""
_BY_NAME: Mapping[str, Mapping[str, type]] = {
    "task": TASKS,
    "dataset": DATASETS,
    "network": {**NETWORKS, "from_checkpoint": FromCheckpointConfig},
    **study.StudyConfig.SECTIONS,
}
"""Groups whose choices have different settings, with the schema of each ``name``."""
_TYPES: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    list[int]: "list of whole numbers",
    list[float]: "list of numbers",
    list[str]: "list of words",
    list[list[Any]]: "list of lists of numbers",
    Any: "word or list of words",
    type(None): "null",
}
_INTRODUCTION = """# Settings of every program

Made by `make docs` from the schema; do not edit. A setting is written `section.key=value` behind the program's name, \
a group's choice `group=choice`; `--cfg job` prints the resulting config and `--help` the choices. A setting that does \
not fit is refused in one line; none is ignored."""


def reference() -> str:
    """Returns the whole page."""
    parts, seen = [_INTRODUCTION], dict[str, str]()
    for program, schema in PROGRAMS.items():
        parts += _of_program(program, schema, seen)
    return "\n\n".join(parts) + "\n"


def _of_program(program: str, schema: type, seen: dict[str, str]) -> Iterator[str]:
    """Yields the parts of one program; ``seen`` maps the tables above to their programs."""
    text = configs.primary(program).read_text(encoding="utf-8")
    content, groups = yaml.safe_load(text), configs.groups(program)
    yield f"## autodisp-{program}"
    yield " ".join(content["hydra"]["help"]["header"].split())
    yield "\n".join(["Groups, the default in bold:\n", *_list_of(groups, content["defaults"], seen)])
    settings = dict(_flat(settings_of(schema)))
    by_choice = {group for group in groups if any(key.startswith(f"{group}.") for key in settings)} - content.keys()
    alone = {key: one for key, one in settings.items() if key.partition(".")[0] not in by_choice}
    yield _table(alone, {"": content}, read_notes(text).settings)
    for group in groups:
        choices: dict[type | None, list[str]] = {}
        if group in by_choice or (group in _BY_NAME and group not in content):
            for choice in groups[group]:
                choices.setdefault(_BY_NAME.get(group, {}).get(_name(program, group, choice)), []).append(choice)
        for own, names in choices.items():
            table = _of_choices(program, group, names, own, settings)
            title = f"### {', '.join(f'{group}={name}' for name in names)}"
            if table:
                yield title
                yield table if table not in seen else f"As in {seen[table]}."
                seen.setdefault(table, f"autodisp-{program}")


def _list_of(groups: Mapping[str, Mapping[str, Any]], defaults: Sequence[Any], seen: dict[str, str]) -> Iterator[str]:
    usual = {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}
    for group, choices in groups.items():
        yield f"- `{group}`: {', '.join(f'**{one}**' if one == usual.get(group) else one for one in choices)}"
        for choice, file in choices.items():
            line = f"    - `{group}={choice}`: {head_of(file)}"
            if head_of(file) and line not in seen:
                yield line
                seen[line] = ""


def _of_choices(
    program: str, group: str, choices: Sequence[str], schema: type | None, settings: Mapping[str, Setting]
) -> str:
    """Returns the table of some choices with one schema; None: that of the program."""
    if schema is not None:
        settings = dict(_flat(settings_of(schema), f"{group}."))
    own = {key: setting for key, setting in settings.items() if key.startswith(f"{group}.") and key != f"{group}.name"}
    contents = {choice: configs.settings(program, group, choice) for choice in choices}
    values = {choice: content if group in content else {group: content} for choice, content in contents.items()}
    own = {key: setting for key, setting in own.items() if any(_has(content, key) for content in values.values())}
    return _table(own, values, meanings_of_choices(program, group, choices)) if own else ""


def _has(content: Any, key: str) -> bool:
    name, _, rest = key.partition(".")
    return isinstance(content, dict) and name in content and (not rest or _has(content[name], rest))


def _name(program: str, group: str, choice: str) -> str:
    content = configs.settings(program, group, choice)
    return str(content.get(group, content).get("name", choice))


def _flat(settings: Mapping[str, Setting], prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """Yields all settings by dotted name, without those of sections by name."""
    for name, setting in settings.items():
        if f"{prefix}{name}" in _BY_NAME and setting.default is MISSING and setting.section is not None:
            continue
        if setting.section is None:
            yield f"{prefix}{name}", setting
        else:
            yield from _flat(settings_of(setting.section), f"{prefix}{name}.")


def _table(settings: Mapping[str, Setting], contents: Mapping[str, Any], meanings: Mapping[str, str]) -> str:
    """Returns a table with a row for each setting.

    Args:
        contents: the YAML with the defaults, by choice.
    """
    rows = [["setting", "type", "default", "must be", "meaning"], ["---"] * 5]
    for key, setting in settings.items():
        must = [f"one of {', '.join(setting.choices)}"] if setting.choices else []
        must += [constraint.words for constraint in setting.constraints]
        kind = " or ".join(_TYPES[kind] for kind in setting.kinds)
        rows.append([f"`{key}`", kind, _default(key, setting, contents), "; ".join(must), meanings.get(key, "")])
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)


def _default(key: str, setting: Setting, contents: Mapping[str, Any]) -> str:
    """Returns the default, or each of several defaults with its choices."""
    by_value: dict[str, list[str]] = {}
    for choice, value in contents.items():
        for name in key.split("."):
            value = value.get(name, setting.default) if isinstance(value, dict) else value
        by_value.setdefault(value if isinstance(value, str) else shown(value), []).append(choice)
    if len(by_value) == 1:
        return f"`{next(iter(by_value))}`"
    return "; ".join(f"`{value}` ({', '.join(choices)})" for value, choices in by_value.items())


def main(arguments: Sequence[str]) -> None:
    """Writes the page to the given path."""
    (path,) = arguments
    Path(path).write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
