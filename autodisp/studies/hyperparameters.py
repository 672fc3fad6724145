"""study=hyperparameters: learning rate and weight decay of the training of found cells, AutoDispNet's second stage.

A trial is a run: Optuna proposes values (TPE), the cells are trained with them for the first number of steps, then
anew for the next one, until Hyperband prunes the trial. AutoDispNet took BOHB, which is not maintained any more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autodisp.commands import setting
from autodisp.errors import InputError
from autodisp.report.curves import Chart, empty_chart, logarithmic_if_wide, whole_numbers
from autodisp.report.figures import COLOURS, style
from autodisp.report.study_page import Findings, ResultTable, Value
from autodisp.studies.graph import Run
from autodisp.studies.protocol import Protocol
from autodisp.studies.results import Results, in_words
from autodisp.studies.study import Study
from autodisp.studies.trials import JOURNAL, PREFIX, TRIAL, importances, read_trial

LEARNING_RATE, WEIGHT_DECAY = "optimizer.learning_rate", "optimizer.weight_decay"


@dataclass(frozen=True)
class HyperparametersStudy(Study):
    """Optimises two settings of a training; see the module."""

    dataset: str
    genotype: str
    trials: int
    steps: Sequence[int]
    """Numbers of training steps at which a trial may be pruned, ascending."""
    ranges: Mapping[str, Sequence[float]]
    """Lowest and highest value of each setting, on a logarithmic scale."""

    def runs(self, protocol: Protocol) -> list[Run]:
        """Returns a run for each trial; all of them train with the first seed."""
        training = protocol.trains(self.dataset, self.genotype, protocol.seeds[0], short=True)
        words = [setting(f"{PREFIX}steps", list(self.steps)), f"{PREFIX}direction={protocol.figure.direction}"]
        words += [setting(f"{PREFIX}range.{key}", list(ends)) for key, ends in self.ranges.items()]
        return [
            Run("tune", (*training.settings, *words, f"{PREFIX}trial={trial}"), {"trial": str(trial)})
            for trial in range(self.trials)
        ]

    def findings(self, results: Results) -> Findings:
        """Returns the trials, the course of the best one, and the importance of the settings."""
        figure, trials = results.protocol.figure, [self._trial(results, run) for run in results.done("tune")]
        unit = in_words(figure)
        rows: list[list[Value]] = []
        course: list[tuple[int, float]] = []
        for trial in sorted((trial for trial in trials if trial), key=lambda trial: int(trial["number"])):
            values = {int(steps): float(value) for steps, value in trial["values"].items() if value is not None}
            found = [values.get(steps) for steps in self.steps]
            rows.append([int(trial["number"]), *(trial["params"].get(key) for key in self.ranges), *found])
            if found[-1] is not None and (not course or figure.better(found[-1], course[-1][1])):
                course.append((int(trial["number"]), found[-1]))
        names = [key.rpartition(".")[2] for key in self.ranges]
        heads = ["trial", *names, *(f"{unit} after {steps} steps" for steps in self.steps)]
        tables = [ResultTable("trials", "Trials", heads, rows, "Empty: pruned by Hyperband, or not finite.")]
        if found_importances := importances(results.folder / JOURNAL):
            told: list[list[Value]] = [[key, value] for key, value in found_importances.items()]
            tables.append(ResultTable("importance", "Importance (PED-ANOVA)", ["setting", "share"], told))
        best = f"; best: {course[-1][1]:.4g} {figure.unit}, trial {course[-1][0]}" if course else ""
        return Findings(
            f"hyperparameters of {self.genotype} on {self.dataset}",
            f"{len(rows)} trials{best}",
            tables,
            [_course(course, unit)] if course else [],
            notes=results.notes,
        )

    def _trial(self, results: Results, run: Run) -> dict[str, Any]:
        try:
            return read_trial(results.folder_of(run) / TRIAL)
        except InputError as error:
            results.notes.append(f"{run.name}: left out: {error}")
            return {}


def _course(course: Sequence[tuple[int, float]], unit: str) -> Chart:
    figure, axes = empty_chart(f"best {unit}", "trial")
    with style():
        axes.step(*zip(*course, strict=True), where="post", marker="o", color=COLOURS[0])
        logarithmic_if_wide(axes, [value for _, value in course])
        whole_numbers(axes)
    return Chart("best", f"best {unit}", figure, "The best complete trial so far.")
