"""Builds and runs an evaluation from its typed config."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodisp.assembly.data import kept, need_truth, notes_on_samples
from autodisp.config.checks import naming
from autodisp.config.evaluate import EvaluateConfig
from autodisp.config.sections import ONE_SCALE
from autodisp.datasets.splits import Part, subset
from autodisp.datasets.streams import fixed_batches
from autodisp.errors import InputError
from autodisp.evaluation.runner import Evaluation, Metrics, evaluate
from autodisp.evaluation.worst import Case, WithWorst
from autodisp.prediction.models import open_model
from autodisp.prediction.outputs import write_png
from autodisp.tasks.base import autocast
from autodisp.tasks.kit import Split, TaskKit, WorstSamples

SHAPES3D_TRAIN_SEED = 0
Predictor = Callable[[Any], Tensor]


@dataclass(frozen=True)
class EvaluationData:
    """Samples of an evaluation."""

    split: Split
    batches: Iterable[Any]
    names: Sequence[str]
    """Names of the samples, in order."""
    metrics: Callable[[], Metrics[Any]]
    notes: Callable[[], list[str]]
    """Notes on the data, from a few samples."""
    facts: Mapping[str, Any]
    """See ``TaskKit.facts``."""


def build_evaluation_data(config: EvaluateConfig) -> EvaluationData:
    """Reads the split to evaluate on.

    Raises:
        InputError: the data is missing or damaged, or has no such split.
    """
    data, kit = config.dataset, config.kit
    entry = kit.datasets[data.name]
    if config.split == "test" and "test" not in entry.splits:
        raise InputError(f"split=test: dataset={data.name} has ground truth for training only; take split=train")
    split: Split = "test" if "test" in entry.splits and config.split != "train" else "train"
    dataset = entry.build(data, seed=SHAPES3D_TRAIN_SEED, split=split, strict=True)
    chosen = subset(len(dataset), limit=data.limit, seed=0)
    part: Part[Any] = Part(kept(data, dataset), chosen, kit.fixed(data))
    need_truth(data, entry, part)
    return EvaluationData(
        split,
        fixed_batches(part, config.batch_size),
        [dataset.names[index] for index in chosen],
        lambda: kit.metrics(config, dataset),
        lambda: notes_on_samples(data, entry, Part(dataset, chosen), enlarges=False),
        kit.facts(dataset),
    )


def build_predictors(
    config: EvaluateConfig, data: EvaluationData, device: torch.device
) -> tuple[dict[str, Predictor], Any]:
    """Builds the predictors to evaluate, by their names in the table; returns them, and the model or None.

    Raises:
        InputError: the model cannot be used, or has another task or other classes than the dataset.
    """
    found, model = dict[str, Predictor](), None
    kit = config.kit
    if config.baseline is not None:
        found[config.baseline] = kit.baselines[config.baseline](config, data.batches, data.facts)
    if config.checkpoint is not None:
        with naming("checkpoint", config.checkpoint, choices=["shipped"]):
            task, model = open_model(config.checkpoint, device=device)
        if task != kit.name:
            raise InputError(
                f"checkpoint={config.checkpoint}: is of another task than dataset={config.dataset.name}; take a "
                "dataset of its own task"
            )
        _need_as_many_classes(config, model, data.facts)
        if config.scales != ONE_SCALE and kit.scaled is not None:
            model = kit.scaled(model, config.scales)
        found["network"] = _predictor(config, model, device)
        if config.correction is not None:
            found[config.correction] = _predictor(config, kit.corrections[config.correction](model), device)
    return found, model


def _predictor(config: EvaluateConfig, model: Any, device: torch.device) -> Predictor:
    kit = config.kit
    predict = (lambda batch: model(*kit.inputs(batch))) if kit.predictor is None else kit.predictor(config, model)

    def in_precision(batch: Any) -> Tensor:
        with autocast(config.run.precision, device):
            return predict(batch)

    return in_precision


def _need_as_many_classes(config: EvaluateConfig, model: Any, facts: Mapping[str, Any]) -> None:
    """Checks the number of classes of a model that names them against that of the data."""
    names, count = getattr(model, "classes", None), facts.get("classes")
    if not isinstance(names, list) or count is None or len(names) == count:
        return
    counted = hasattr(config.dataset, "classes")
    remedy = f"take dataset.classes={len(names)}, or" if counted else "take"
    raise InputError(
        f"checkpoint={config.checkpoint}: predicts {len(names)} classes, but dataset={config.dataset.name} has "
        f"{count}; {remedy} data with the classes of its training"
    )


def run_evaluation(
    data: EvaluationData, predictors: Mapping[str, Predictor], device: torch.device, *, pictures: int, kit: TaskKit
) -> tuple[dict[str, Evaluation[Any]], dict[str, list[Case]]]:
    """Returns the metrics of all predictors and, to be drawn, their worst samples, both by name."""
    results, worst = {}, {}
    for name, predict in predictors.items():
        metrics = data.metrics()
        if kit.worst is not None:
            metrics = WithWorst(metrics, kit.worst.errors, pictures)
            worst[name] = metrics
        results[name] = evaluate(predict, data.batches, metrics, device=device)
    return results, {name: metrics.worst() for name, metrics in worst.items()}


def write_pictures(
    folder: Path, worst: Mapping[str, Sequence[Case]], names: Sequence[str], kit: WorstSamples | None
) -> dict[str, list[dict[str, Any]]]:
    """Draws the worst samples of each method as PNG files, in an existing folder; none without a kit.

    Returns:
        The sample and the error of each file, by method.
    """
    written: dict[str, list[dict[str, Any]]] = {}
    if kit is None:
        return written
    images = iter(kit.draw([case for cases in worst.values() for case in cases]))
    for method, cases in worst.items():
        for place, case in enumerate(cases, start=1):
            name = f"worst_{method}_{place:0{len(str(len(cases)))}}.png"
            write_png(folder / name, next(images))
            about = {"picture": name, "sample": names[case.index], kit.metric: case.error}
            written.setdefault(method, []).append(about)
    return written
