"""An evaluation from its typed config."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch
from torch import Tensor

from autodisp.assembly.data import kept, need_truth, notes_on_samples
from autodisp.config.checks import naming
from autodisp.config.evaluate import EvaluateConfig
from autodisp.datasets.splits import Part, subset
from autodisp.datasets.streams import fixed_batches
from autodisp.errors import InputError
from autodisp.evaluation.runner import Evaluation, Metrics, evaluate
from autodisp.evaluation.worst import Case, WithWorst
from autodisp.prediction.disparity_images import panel, usual_error
from autodisp.prediction.models import open_model
from autodisp.tasks.kit import Split

SHAPES3D_TRAIN_SEED = 0
Predictor = Callable[[Any], Tensor]


@dataclass(frozen=True)
class EvaluationData:
    """What is evaluated on."""

    split: Split
    batches: Iterable[Any]
    names: Sequence[str]
    """Of the samples, in their order."""
    metrics: Callable[[], Metrics[Any]]
    notes: Callable[[], list[str]] = list
    """Lines on the data, from a look at a few samples."""


def build_evaluation_data(config: EvaluateConfig) -> EvaluationData:
    """Reads the split.

    Raises:
        InputError: the data is missing or damaged, or has no such split.
    """
    data, kit = config.dataset, config.kit
    entry = kit.datasets[data.name]
    if config.split == "test" and "test" not in entry.splits:
        raise InputError(
            f"split=test: dataset={data.name} has a truth for its training pictures only; take split=train"
        )
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
    )


def build_predictors(config: EvaluateConfig, data: EvaluationData, device: torch.device) -> dict[str, Predictor]:
    """What is evaluated, by the name it has in the table.

    Raises:
        InputError: the model cannot be used, or is of another task than the dataset.
    """
    found: dict[str, Predictor] = {}
    kit = config.kit
    if config.baseline is not None:
        found[config.baseline] = kit.baselines[config.baseline](config, data.batches)
    if config.checkpoint is not None:
        with naming("checkpoint", config.checkpoint, choices=["shipped"]):
            task, model = open_model(config.checkpoint, device=device)
        if task != kit.name:
            raise InputError(
                f"checkpoint={config.checkpoint}: is of another task than dataset={config.dataset.name}; take a "
                "dataset of its own task"
            )
        found["network"] = lambda batch: model(*kit.inputs(batch))
    return found


def run_evaluation(
    data: EvaluationData, predictors: Mapping[str, Predictor], device: torch.device, *, pictures: int = 0
) -> tuple[dict[str, Evaluation[Any]], dict[str, list[Case]]]:
    """The figures of everything that is evaluated and as many of its worst samples, by name."""
    results, worst = {}, {}
    for name, predict in predictors.items():
        metrics: WithWorst[Any] = WithWorst(data.metrics(), pictures)
        results[name] = evaluate(predict, data.batches, metrics, device=device)
        worst[name] = metrics.worst()
    return results, worst


def write_pictures(
    folder: Path, worst: Mapping[str, Sequence[Case]], names: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Writes view, truth, result and error of samples as PNG files, the errors of all of them on one scale.

    Args:
        folder: exists.
        worst: by the name of the method, the worst first.
        names: of all samples.

    Returns:
        By method, which sample each file shows, and its EPE.
    """
    told: dict[str, list[dict[str, Any]]] = {}
    shown = [case for cases in worst.values() for case in cases]
    largest = max((usual_error(case.prediction, case.truth, case.valid) for case in shown), default=None)
    for method, cases in worst.items():
        for place, case in enumerate(cases, start=1):
            name = f"worst_{method}_{place:0{len(str(len(cases)))}}.png"
            picture = panel(case.left, case.truth, case.prediction, case.valid, largest_error=largest)
            iio.imwrite(folder / name, picture, plugin="pillow", extension=".png")
            told.setdefault(method, []).append({"picture": name, "sample": names[case.index], "epe": case.epe})
    return told
