"""autodisp-check: inspects every sample of a dataset before a long run, and lists what to leave out."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autodisp.assembly.checking import Check, CheckReport
from autodisp.cli.console import build_console, say
from autodisp.cli.run_folder import claimed
from autodisp.commands import Word, command
from autodisp.config.check import parse
from autodisp.config.checks import printable
from autodisp.errors import RunFault
from autodisp.report.next_steps import task_words

REPORT, LIST = "check.json", "excluded.txt"
_SHOWN = 3
_WIDTH_OF_FILES = 160
"""Width of the table if standard output is not a terminal, so that few file names are broken."""
_REFRESH_SECONDS, _LINE_SECONDS = 0.25, 30.0


def run(tree: DictConfig) -> float:
    """Runs the program on its composed config; returns the number of problems."""
    return float(len(check(tree, HydraConfig.get().overrides.task).problems))


def check(tree: DictConfig, overrides: Sequence[str]) -> CheckReport:
    """Inspects the dataset of the composed config, and writes a report and a list into a folder.

    Raises:
        InputError: a setting or the folder cannot be used, or the data is missing.
        RunFault: the report cannot be written.
    """
    config = parse(tree)
    prepared = Check(config)
    console = build_console(width=_WIDTH_OF_FILES)
    progressing = build_console(quiet=config.run.verbosity == "quiet")
    with claimed(Path(config.out), tree, key="out") as folder:
        with _progress(progressing) as progress:
            report = prepared.run(progress)
        try:
            (folder / REPORT).write_text(json.dumps(report.to_json(), indent=2) + "\n", encoding="utf-8")
            report.write_list(folder / LIST)
        except OSError as error:
            raise RunFault(
                f"{folder}: the report cannot be written ({error.strerror}): make room, or take out=PATH"
            ) from None
    _show(report, folder, console, next_command(report, folder, overrides))
    return report


def next_command(report: CheckReport, folder: Path, overrides: Sequence[str]) -> str:
    """Returns the next command: a run without the excluded samples, or another check once an obstacle is removed."""
    config = report.config
    words: list[Word] = [word for word in overrides if _key(word).partition(".")[0] in ("dataset", "seed")]
    if report.obstacle:
        return command("autodisp-check", *words)
    if report.excluded:
        words = [word for word in words if _key(word) != "dataset.exclude"]
        words.append(("dataset.exclude", folder / LIST))
    if "test" in (config.split, *report.samples) and "train" not in report.samples:
        words = [word for word in words if _key(word) not in ("seed", "dataset")]
        model = "checkpoint=runs/MY_TRAINING/best.safetensors"
        return command("autodisp-evaluate", model, ("dataset", config.dataset.name), *words)
    if report.crop is not None:
        words = [word for word in words if _key(word) != "dataset.crop"]
        words.append(("dataset.crop", report.crop))
    if not config.entry.ground_truth:
        words = [word for word in words if _key(word) != "dataset"]
        return command("autodisp-train", "recipe=adapt", "init=shipped", *words)
    task = task_words(asdict(config), config.kit.name)
    return command("autodisp-search", *task, *words)


def _key(word: Word) -> str:
    return word.lstrip("+").partition("=")[0] if isinstance(word, str) else word[0]


def _show(report: CheckReport, folder: Path, console: Console, following: str) -> None:
    """Prints the table, the verdict, and the next command."""

    def encodable(text: str) -> str:  # file names may contain characters that the terminal's encoding lacks
        return text.encode(console.encoding, "backslashreplace").decode(console.encoding)

    splits = ", ".join(f"{count} {split}" for split, count in report.samples.items())
    table = Table("what", "count", "the first of them", title=f"check of {report.config.dataset.name}: {splits}")
    root = os.path.join(os.path.expanduser(str(getattr(report.config.dataset, "root", None) or "")), "")
    firsts = []
    everything = (*report.problems, *report.notes)
    for kind in dict.fromkeys([*report.kinds, *(found.kind for found in everything)]):
        findings = [found for found in everything if found.kind == kind]
        for first in findings[:1]:
            place = first.sample or first.file
            firsts.append(printable(f"first {kind}: {'' if place in first.says else f'{place}: '}{first.says}"))
        files = [printable(finding.file.removeprefix(root) if root else finding.file) for finding in findings[:_SHOWN]]
        more = [f"and {len(findings) - _SHOWN} more"] if len(findings) > _SHOWN else []
        words = kind if kind in report.kinds else f"{kind} (a note)"
        table.add_row(words, str(len(findings)), encodable("\n".join([*files, *more])))
    console.print(table, markup=False)
    lines = (
        *firsts,
        *(f"data:  {line}" for line in report.data),
        *(f"note:  {remark}" for remark in report.remarks),
        f"verdict: {verdict(report)}{f'; {report.obstacle}' if report.obstacle else ''}",
        f"files: {folder}/ ({REPORT}, {LIST})",
        f"next:  {'fix it, then ' if report.obstacle else ''}{following}",
    )
    say(console, *map(encodable, lines))


def verdict(report: CheckReport) -> str:
    """Returns the verdict in one line."""
    total = _counted(sum(report.samples.values()), "sample")
    if not report.problems:
        return f"no problem in {total}; see the notes" if report.notes else f"nothing is wrong with {total}"
    samples = len({problem.sample for problem in report.problems if problem.sample})
    listed = f", {len(report.excluded)} listed in {LIST}" if report.excluded else ""
    return f"{_counted(len(report.problems), 'problem')} in {samples} of {total}{listed}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int, int, int], None]]:
    """Shows a bar on a terminal, else a line every 30 seconds; without a thread, since processes are forked."""
    drawn = console.is_terminal and not console.is_dumb_terminal
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    shown = time.monotonic()

    def show(done: int, total: int, problems: int) -> None:
        nonlocal shown
        if time.monotonic() - shown < (_REFRESH_SECONDS if drawn else _LINE_SECONDS) and (done > 1 or not drawn):
            return
        words, shown = _counted(problems, "problem"), time.monotonic()
        bar.update(task, completed=done, total=total, description=words, refresh=True)
        if not drawn:
            console.print(f"{done} of {total} samples, {words}", markup=False)

    with Progress(*columns, console=console, auto_refresh=False, transient=True, disable=not drawn) as bar:
        task = bar.add_task("")
        yield show
