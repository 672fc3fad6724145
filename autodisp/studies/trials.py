"""Trials of Optuna in the journal file of a study, which any number of processes of any number of machines share."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autodisp.atomic import replacing
from autodisp.errors import InputError, in_one_line
from autodisp.report.reading import as_number

JOURNAL = "optuna.journal"
"""File in the folder of the study."""
TRIAL = "trial.json"
"""File in the folder of a trial: its number, the proposed values, and the metrics by number of steps."""
PREFIX = "tune."
"""Prefix of words for the trial, which the training does not get."""
_NAME = "study"
_ETA = 3


@dataclass(frozen=True)
class Tuning:
    """The words of a trial."""

    training: Sequence[str]
    steps: Sequence[int]
    ranges: Mapping[str, tuple[float, float]]
    direction: str
    trial: int

    @classmethod
    def read(cls, words: Sequence[str]) -> "Tuning":
        """Reads the words of a run."""
        own = dict(word.removeprefix(PREFIX).split("=", 1) for word in words if word.startswith(PREFIX))
        values = {key: yaml.safe_load(value) for key, value in own.items()}
        ranges = {
            key.removeprefix("range."): tuple(map(float, v)) for key, v in values.items() if key.startswith("range.")
        }
        training = [word for word in words if not word.startswith(PREFIX)]
        return cls(training, values["steps"], ranges, values["direction"], values["trial"])  # type: ignore[arg-type]


def carry_out(tuning: Tuning, folder: Path, train: Callable[[Sequence[str], Path], float | None]) -> float | None:
    """Carries out a trial, or resumes the one that is in the folder.

    Args:
        folder: of the trial, inside that of the runs.
        train: trains with the words in a folder, resuming what is there; returns the validation metric.

    Returns:
        The metric after all steps; None if the trial was pruned, or the metric is not finite.

    Raises:
        InputError: Optuna is not installed, or the journal or the trial is damaged.
    """
    optuna = _optuna()
    study = _study(folder.parent.parent / JOURNAL, tuning)
    folder.mkdir(exist_ok=True)
    path = folder / TRIAL
    if path.exists():
        content = read_trial(path)
        known = next((one for one in study.trials if one.number == content["number"]), None)
        if known is not None and known.state.is_finished():
            return None if known.value is None else float(known.value)
    else:
        known, content = None, {"params": {}, "values": {}}
    if known is not None:
        trial, reported = optuna.trial.Trial(study, known._trial_id), set(known.intermediate_values)
    else:  # a new trial, or one whose journal was lost
        if content["params"]:
            study.enqueue_trial(content["params"])
        trial, reported = study.ask(), set()
        params = {key: trial.suggest_float(key, *ends, log=True) for key, ends in tuning.ranges.items()}
        content |= {"number": trial.number, "params": params}
        _write(path, content)
    value: float | None = None
    state = optuna.trial.TrialState.COMPLETE
    for steps in tuning.steps:
        if str(steps) not in content["values"]:
            words = [f"{key}={value:.6g}" for key, value in content["params"].items()]
            metric = train([*tuning.training, *words, *lasting(steps)], folder / f"steps_{steps}")
            content["values"][str(steps)] = metric
            _write(path, content)
        value = content["values"][str(steps)]
        if value is None or value != value:
            value, state = None, optuna.trial.TrialState.FAIL
            break
        if steps not in reported:
            trial.report(value, steps)
        if steps != tuning.steps[-1] and trial.should_prune():
            value, state = None, optuna.trial.TrialState.PRUNED
            break
    study.tell(trial, value, state=state)
    return value


def read_trial(path: Path) -> dict[str, Any]:
    """Reads the file of a trial.

    Raises:
        InputError: it cannot be read, or is damaged.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        numbers = [*content["params"].values(), *map(int, content["values"])]
        numbers += [value for value in content["values"].values() if value is not None]
        if type(content["number"]) is not int or None in map(as_number, numbers):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}); delete its folder, and the study begins the trial again"
        ) from None
    return content


def lasting(steps: int) -> list[str]:
    """Returns the words of a training of that many steps, which is validated at its end."""
    return [f"training.steps={steps}", f"validation.every={steps}"]


def importances(journal: Path) -> dict[str, float]:
    """Returns the importance of the settings; empty without Optuna, or if the trials are too few or too alike."""
    if not journal.is_file():
        return {}
    try:
        optuna = _optuna()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of trials that are all alike: importances would be equal
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = optuna.importance.PedAnovaImportanceEvaluator()
            study = optuna.load_study(study_name=_NAME, storage=_storage(journal))
            return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except Exception:  # too few trials, or a damaged journal, of which Optuna may raise any exception
        return {}


def _study(journal: Path, tuning: Tuning) -> Any:
    optuna = _optuna()
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=tuning.steps[0], max_resource=tuning.steps[-1], reduction_factor=_ETA
    )
    sampler = optuna.samplers.TPESampler(seed=tuning.trial, constant_liar=True)
    direction = "minimize" if tuning.direction == "min" else "maximize"
    try:
        return optuna.create_study(
            study_name=_NAME, storage=_storage(journal), direction=direction, sampler=sampler, pruner=pruner,
            load_if_exists=True,
        )  # fmt: skip
    except Exception as error:  # of a damaged journal Optuna may raise any exception
        raise InputError(
            f"{journal}: cannot be read ({type(error).__name__}: {in_one_line(error, at_most=80)}); move it away, and "
            "the trials that are not done begin a new one"
        ) from None


def _storage(journal: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(journal)))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InputError("study=hyperparameters needs optuna: pip install 'autodisp[studies]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with replacing(path) as place:
        place.write_text(json.dumps(content) + "\n", encoding="utf-8")
