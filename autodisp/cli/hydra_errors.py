"""Translates errors of Hydra and OmegaConf about a command line into one line: value, constraint, remedy."""

import os
import re
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from autodisp import configs, errors
from autodisp.cli.verbosity import OPTIONS, TAKEN_BY
from autodisp.config.checks import nearest, nearest_setting, printable
from autodisp.config.parsing import dotted, one_line
from autodisp.errors import InputError

_WRITE = (
    "write group=choice or section.key=value, and for a value with spaces, commas, brackets or letters beyond ASCII "
    "\"section.key='a value'\""
)


def in_one_line(error: Exception, *, program: str) -> str:
    """Returns the error as one line; ``program`` is the command that prints the help."""
    if isinstance(error, InputError):
        return printable(str(error))
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        return printable(_no_such_choice(error.missing_cfg_file, error.options))
    if isinstance(error, OverrideParseException):
        return f"'{printable(error.override)}' cannot be read as a setting; {_WRITE}"
    return printable(_composition_error(error, program))


def options_apart(words: Sequence[str], program: str) -> list[str]:
    """Returns the words of a command line with -m in front and other options at the end.

    argparse reads no setting behind an option.
    """
    try:
        given, rest = _options_parser(program).parse_known_args([word for word in words if word != "--version"])
    except InputError:  # for refuse_unknown_options
        return list(words)
    settings = [*given.overrides, *(word for word in rest if not word.startswith("-"))]
    options = [word for word in words if word not in settings]
    sweeps = [word for word in options if word in ("-m", "--multirun")]
    return [*sweeps, *settings, *(word for word in options if word not in sweeps)]


def _options_parser(program: str) -> ArgumentParser:
    """Hydra's parser, which raises an InputError instead of printing its usage."""

    def refuse(message: str) -> NoReturn:
        raise InputError(f"{message.removeprefix('argument ')}; `{program} --hydra-help` lists the options")

    parser: ArgumentParser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.allow_abbrev = False  # Hydra has options with surprising effects
    return parser


def refuse_unknown_options(program: str) -> None:
    """Refuses an option unknown to Hydra, for which Hydra would print a page.

    Raises:
        InputError: with the option.
    """
    parser = _options_parser(program)
    _, unknown = parser.parse_known_args()
    option = next((text for text in unknown if text.startswith("-")), None)
    if option in OPTIONS:
        programs = " and ".join(f"autodisp-{name}" for name in TAKEN_BY[OPTIONS[option]])
        raise InputError(f"{option}: is for {programs}, which show their progress; leave it out")
    if option is not None:
        setting = option.lstrip("-").partition("=")[0] or "key"
        raise InputError(
            f"{option}: no such option; settings are written without dashes, as {setting}=VALUE, and `{program} "
            "--help` lists them"
        )


def group_without_choice(error: Exception, *, program: str) -> InputError | None:
    """Returns the error to raise instead of Hydra's own about a group without a choice."""
    if not str(error).startswith("Config group override"):
        return None
    parser = OverridesParser.create()
    for text in sys.argv[1:]:
        try:
            override = parser.parse_override(text)
        except HydraException:
            continue
        if not override.key_or_group:
            return InputError(f"'{text}' cannot be read as a setting; {_WRITE}")
        if "." not in override.key_or_group and not isinstance(override.value(), str | list):
            break
    else:
        text = "a group=null"
    return InputError(f"{text}: a group needs one of its choices; `{program} --help` lists them")


def _no_such_choice(missing: str, options: Sequence[str]) -> str:
    group, _, choice = missing.rpartition("/")
    for text in sys.argv[1:]:
        given, _, value = text.lstrip("+").partition("=")
        if missing == f"{given}/{value}":
            group, choice = given, value
    others = [name for name in ("search", "train") if choice in configs.groups(name).get(group, {})]
    if others:
        known = f"take {group} from {', '.join(options)}"
        return f"{group}={choice}: is a choice of autodisp-{' and autodisp-'.join(others)}; leave it out, or {known}"
    near = nearest(choice, options, cutoff=0.5)
    hint = f"did you mean {group}={near}? " if near else ""
    return f"{group}={choice}: no such choice; {hint}{group} is one of {', '.join(options)}"


def _composition_error(error: Exception, program: str) -> str:
    message = str(error)
    part = "hydra" if re.search(r"'hydra\.|override hydra\.", message) else "job"
    all_of_them = f"`{program} --cfg {part}` shows all of them"
    if found := re.match(r"(Additional|Primary) config [^']*(?:'(.+)' )?not found", message):
        option = "--config-path" if found[1] == "Primary" else f"--config-dir {found[2]}"
        return f"{option}: there is no such folder; name one with --config-dir, or leave it out"
    if found := re.match(r"Cannot find primary config '([^']+)'", message):
        return f"--config-name {found[1]}: no such config; name its folder with --config-dir, or leave it out"
    if found := re.search(r"Sweeper does not support sweep type : (\w+)_SWEEP", message):
        return (
            f"{found[1].lower()}(...): is for a sweeper that optimizes (hydra/sweeper=); write values, such as seed=0,1"
        )
    if found := re.search(r"Could not override '([^']+)'", message):
        others = _choices_with(found[1], program)
        if others and any(text.startswith("resume=") for text in sys.argv[1:]):
            return f"{found[1]}: cannot be set with resume=, since a run keeps its config; leave it out"
        if others:
            group = found[1].partition(".")[0]
            return (
                f"{found[1]}: the {group} that is chosen has no such setting; {group}={f' and {group}='.join(others)} "
                f"{'has' if len(others) == 1 else 'have'} it: take one of those, or leave it out"
            )
        near = _nearest_in(error, found[1])
        hint = f"did you mean {near}? " if near else ""
        return f"{found[1]}: no such setting; {hint}{all_of_them}"
    if found := re.search(r"An item is already at '([^']+)'", message):
        return f"+{found[1]}: exists already, and + adds a new one; write {found[1]}=VALUE without the +"
    if found := re.search(r"Could not delete from config\. '([^']+)' does not exist", message):
        return f"~{found[1]}: no such setting, so there is nothing to remove; {all_of_them}"
    if found := re.search(r"Ambiguous value for argument '(.+)'", message):
        key, _, value = found[1].partition("=")
        return (
            f"{found[1]}: more than one value, which is a run for each with -m in front; write a list as "
            f"{key}=[{value}], and a text with commas as \"{key}='{value}'\""
        )
    if found := re.search(r"Sweep parameters '(.+)' requires --multirun", message):
        return f"{found[1]}: is a run for each value, which needs -m in front; write one value without it"
    if found := re.search(r"Error merging override (.+)", message):
        key = found[1].lstrip("+~").partition("=")[0]
        return f"{found[1]}: is of another kind than the setting; `{program} --cfg {part}` shows what {key} holds"
    if found := re.search(r"Error resolving interpolation '([^']+)'", message):
        given = next((text for text in sys.argv[1:] if found[1] in text), found[1])
        return f"{given}: names no group that is chosen before; write the choice itself"
    if not message and isinstance(error.__cause__, OmegaConfBaseException):
        return one_line(error.__cause__)
    return one_line(error)


def _choices_with(key: str, program: str) -> list[str]:
    """Returns the choices of the group that have the setting."""
    group, _, name = key.partition(".")
    program = program.removeprefix("autodisp-")
    choices = configs.groups(program).get(group, {}) if name else {}
    return [choice for choice in choices if name in configs.settings(program, group, choice)]


def _nearest_in(error: BaseException, key: str) -> str | None:
    """Returns the nearest setting of the config in which OmegaConf looked it up."""
    for cause in errors.causes(error):
        node = getattr(cause, "parent_node", None)
        if isinstance(node, DictConfig):
            root = node._get_root()
            assert isinstance(root, DictConfig)
            return nearest_setting(key, [name for name in dotted(root) if name.partition(".")[0] != "hydra"])
    return None


def unusable(error: Exception) -> InputError | None:
    """Returns the error to raise instead of that of a folder that Hydra cannot make or write to, outside of a job."""
    if not isinstance(error, OSError) or error.filename is None or errors.is_full_disk(error):
        return None
    if any(
        frame.name == "__call__" and frame.filename.endswith("job.py")
        for frame in traceback.extract_tb(error.__traceback__)
    ):
        return None
    folder = "hydra.sweep.dir" if {"-m", "--multirun"} & set(sys.argv) else "hydra.run.dir"
    return InputError(f"{error.filename}: cannot be used ({error.strerror}); take another folder with {folder}=FOLDER")


def unreadable_config(error: Exception) -> InputError | None:
    """Returns the error to raise instead of Hydra's own about a config file, which have no common class."""
    frames = traceback.extract_tb(error.__traceback__)
    if not any(f"{os.sep}hydra{os.sep}_internal{os.sep}config_" in frame.filename for frame in frames):
        return None
    said = errors.in_one_line(error, at_most=400)
    return InputError(f"a config file cannot be read ({said}); fix it, or leave it out")
