"""Resumes a run in its folder with its own config."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from autodisp.commands import command
from autodisp.config.checks import need_path
from autodisp.errors import InputError
from autodisp.records import read_json_lines, start_record
from autodisp.report.reading import flat_settings, setting_of
from autodisp.run_files import CHECKPOINTS, CONFIG, METRICS

FREE = (
    "run.device",
    "run.workers",
    "run.threads",
    "run.kernels",
    "run.graphs",
    "run.verbosity",
    "search.recompute",
    "validation.batch_size",
    "dataset.root",
    "resume",
)
"""Settings that do not change the result, up to rounding: metrics are pooled over samples, and in a training only
``valid/loss``, a mean over batches, depends on validation.batch_size. Samples below another dataset.root are compared
with those of the run, see ``refuse_other_files``."""

Config = TypeVar("Config")


def resumed_config(
    tree: DictConfig,
    folder: Path,
    *,
    parse: Callable[[DictConfig], Config],
    grows: Callable[[Config], Mapping[str, str | None]],
    overrides: Sequence[str] | None = None,
) -> tuple[DictConfig, Config]:
    """Returns the config with which the run in a folder is resumed, composed and typed.

    Settings on the command line override the config of the run. If the command line chooses a group, such as
    ``experiment=demo``, its whole composed config is used. Either is refused if it would change the run.

    Args:
        tree: as composed from the command line.
        folder: of the run.
        parse: turns a composed config into a typed one, and refuses wrong settings.
        grows: returns the numeric settings of a typed config that may be raised, each with the reason against it, or
            None.
        overrides: arguments of the command line; if None, Hydra's, and in a sweep the whole config.

    Raises:
        InputError: there is no run, it has links that lead out of its folder, or the config changes a setting that
            must not change.
    """
    need_path("resume", str(tree.resume), what="the folder of a run")
    _refuse_links(folder)
    _refuse_lost_states(folder)
    stored = stored_config(folder)
    _refuse_another_program(folder, stored, tree)
    own = parse(stored)
    before = flat_settings(asdict(own))  # type: ignore[call-overload]
    words = [text.lstrip("+~") for text in (_overrides(tree) if overrides is None else overrides)]
    keys = [text.partition("=")[0] for text in words if not text.startswith("resume=")]
    if any("." not in key and (isinstance(tree.get(key), DictConfig) or key not in tree) for key in keys):
        wanted = tree.copy()
        if "run.folder" not in keys:
            OmegaConf.update(wanted, "run.folder", stored.run.folder)
    else:
        wanted = stored.copy()
        for key in ("run.verbosity", *keys):  # verbosity is the command line's alone
            OmegaConf.update(wanted, key, OmegaConf.select(tree, key), force_add=True)
    config = parse(wanted)
    after = flat_settings(asdict(config))  # type: ignore[call-overload]
    if "run.folder" in keys and Path(after["run.folder"]).resolve() == folder.resolve():
        after["run.folder"] = before["run.folder"]
    _refuse_changes(folder, before, after, grows(own))
    return wanted, config


def raisable(key: str, depends: Mapping[str, bool]) -> dict[str, str | None]:
    """Returns a number of epochs or steps with the reason against raising it: those that are done depend on it.

    Args:
        key: of the setting.
        depends: reasons, such as "drop-path rises over", with True for those that apply.
    """
    unit = key.rpartition(".")[2]
    for words, holds in depends.items():
        if holds:
            return {key: f"{words} all {unit}, so the ones done would have been others"}
    return {key: None}


def _overrides(tree: DictConfig) -> Sequence[str]:
    """Arguments of the command line; in a sweep the whole config, since a folder may contain an earlier sweep's job."""
    hydra = HydraConfig.get()
    return [str(key) for key in tree] if hydra.mode == RunMode.MULTIRUN else list(hydra.overrides.task)


def stored_config(folder: Path) -> DictConfig:
    """Reads the config in the folder of a run.

    Raises:
        InputError: there is none, or it is damaged.
    """
    try:
        stored = OmegaConf.load(folder / CONFIG)
    except Exception as error:  # OSError, or any exception of YAML at a damaged file
        raise InputError(
            f"resume={folder}: its {CONFIG} cannot be read ({type(error).__name__}); name the folder of a run"
        ) from None
    if not isinstance(stored, DictConfig):
        raise InputError(f"resume={folder}: its {CONFIG} is a list; name the folder of a run")
    return stored


def _refuse_another_program(folder: Path, stored: DictConfig, tree: DictConfig) -> None:
    for section, kind, program in (("search", "search", "autodisp-search"), ("training", "training", "autodisp-train")):
        if section in stored and section not in tree:
            resuming = command(program, ("resume", folder))
            raise InputError(f"resume={folder}: is the folder of a {kind}; resume it by `{resuming}`")


def _refuse_links(folder: Path) -> None:
    """Refuses links out of the folder, since a run writes and deletes its own files only."""
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"resume={folder}: {path} is a link to {path.resolve()}, outside of it, and a run writes into its own "
                "folder only: put there what it points to"
            )


def refuse_other_files(folder: Path, now: Mapping[str, Any]) -> None:
    """Refuses a run whose samples or space are not those that it began with: resumed, it would be another run.

    Args:
        folder: of the run.
        now: the fingerprint of its data, see ``SearchData``; what an earlier version did not record is not compared.

    Raises:
        InputError: they differ.
    """
    path = folder / METRICS
    start = start_record(read_json_lines(path)) if path.is_file() else {}
    for key, found in now.items():
        if start.get(key, found) != found:
            what = "its space.file has other cells than when the run began"
            if key == "samples":
                counts = f"{found['count']} now, {setting_of(start, 'samples.count')} when it began"
                what = f"its data has other samples ({counts}), so the splits would be others"
            raise InputError(f"resume={folder}: {what}: put the files back as they were, or start another run")


def _refuse_lost_states(folder: Path) -> None:
    """Refuses a run with results whose states were deleted: it would start again and overwrite them.

    A run that was killed before its first state has at most one record besides events.
    """
    states, records = folder / CHECKPOINTS, folder / METRICS
    if not records.is_file() or (states.is_dir() and any(states.iterdir())):
        return
    made = [record for record in read_json_lines(records) if "event" not in record]
    if not states.is_dir() or len(made) > 1:
        raise InputError(
            f"resume={folder}: has results, but no state in {CHECKPOINTS}/ to resume from: put the states back, or "
            "start another run"
        )


def _refuse_changes(
    folder: Path, before: Mapping[str, Any], after: Mapping[str, Any], grows: Mapping[str, str | None]
) -> None:
    changed = [key for key in sorted({*before, *after}) if key not in FREE and before.get(key) != after.get(key)]
    refused = []
    for key in changed:
        words = f"{key}={after.get(key)} (the run has {before.get(key)})"
        if key not in grows:
            refused.append(words)
        elif (why_not := grows[key]) is not None:
            refused.append(f"{words}: {why_not}")
        elif after[key] < before[key]:
            refused.append(f"{words}: can be raised, not lowered")
    if refused:
        free = ", ".join(key for key in FREE if key != "resume" and key in before)
        raise InputError(
            f"resume={folder}: would change {'; '.join(refused)}. A run keeps its config: leave this out, or start "
            f"another run; only {free} may differ"
        )
