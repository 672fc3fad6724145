"""An evaluation from its typed config."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import torch
from torch import Tensor

from autodisp.assembly.data import (
    TEST_SPLITS,
    Split,
    build_image_dataset,
    build_stereo_dataset,
    kept,
    need_truth,
    notes_on_samples,
)
from autodisp.config.checks import naming
from autodisp.config.evaluate import LARGEST_SGBM, EvaluateConfig
from autodisp.config.sections import TASK_DATASETS
from autodisp.datasets.samples import LabelledImage, StereoSample
from autodisp.datasets.splits import Part, subset
from autodisp.datasets.stereo_transforms import CenterCrop
from autodisp.datasets.streams import fixed_batches
from autodisp.errors import InputError
from autodisp.evaluation.baselines import BestConstant, SemiGlobalMatching, sgbm_range
from autodisp.evaluation.classification_metrics import ClassificationMetrics
from autodisp.evaluation.runner import Evaluation, evaluate
from autodisp.evaluation.stereo_metrics import StereoFigures, StereoMetrics
from autodisp.evaluation.worst import Case, WithWorst
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.models import load
from autodisp.report.disparity_pictures import panel, usual_error

SHAPES3D_TRAIN_SEED = 0
Predictor = Callable[[Any], Tensor]


@dataclass(frozen=True)
class EvaluationData:
    """What is evaluated on."""

    split: Split
    batches: Iterable[Any]
    names: Sequence[str]
    """Of the samples, in their order."""
    metrics: Callable[[], StereoMetrics | ClassificationMetrics]
    notes: Callable[[], list[str]] = list
    """Lines on the data, from a look at a few samples."""


def build_evaluation_data(config: EvaluateConfig) -> EvaluationData:
    """Reads the split.

    Raises:
        InputError: the data is missing or damaged, or has no such split.
    """
    data = config.dataset
    if data.name in TASK_DATASETS["classification"]:
        split: Split = "train" if config.split == "train" else "test"
        images = build_image_dataset(data, split=split)
        part: Part[Any] = Part(images, subset(len(images), limit=data.limit, seed=0))
        classes = [str(name) for name in images.classes]
        names = [images.names[index] for index in part.indices]
        batches = fixed_batches(part, config.batch_size)
        return EvaluationData(split, batches, names, lambda: ClassificationMetrics(classes))
    if config.split == "test" and data.name not in TEST_SPLITS:
        raise InputError(
            f"split=test: dataset={data.name} has a truth for its training pictures only; take split=train"
        )
    split = "test" if data.name in TEST_SPLITS and config.split != "train" else "train"
    dataset = build_stereo_dataset(data, seed=SHAPES3D_TRAIN_SEED, split=split)
    crop = (data.crop[0], data.crop[1]) if data.crop else None
    chosen = subset(len(dataset), limit=data.limit, seed=0)
    part = Part(kept(data, dataset), chosen, CenterCrop(crop=crop))
    need_truth(data, part)
    return EvaluationData(
        split,
        fixed_batches(part, config.batch_size),
        [dataset.names[index] for index in chosen],
        lambda: StereoMetrics(has_occlusion=dataset.has_occlusion, edges=config.ranges),
        lambda: notes_on_samples(data, Part(dataset, chosen), enlarges=False),
    )


def build_predictors(config: EvaluateConfig, data: EvaluationData, device: torch.device) -> dict[str, Predictor]:
    """What is evaluated, by the name it has in the table.

    Raises:
        InputError: the model cannot be used, or is of another task than the dataset.
    """
    found: dict[str, Predictor] = {}
    task = next(task for task, names in TASK_DATASETS.items() if config.dataset.name in names)
    if config.baseline is not None:
        found[config.baseline] = _baseline(config, data)
    if config.checkpoint is not None:
        with naming("checkpoint", config.checkpoint, choices=["shipped"]):
            model = load(config.checkpoint, device=device)
        if isinstance(model, StereoMatcher) != (task == "disparity"):
            raise InputError(
                f"checkpoint={config.checkpoint}: is of another task than dataset={config.dataset.name}; take a "
                "dataset of its own task"
            )
        found["network"] = _of_model(model)
    return found


def _baseline(config: EvaluateConfig, data: EvaluationData) -> Predictor:
    if config.baseline == "constant":
        return BestConstant.of(data.batches)
    return SemiGlobalMatching(max_disparity=config.dataset.max_disparity)


def _of_model(model: Any) -> Predictor:
    """Only the network is to be timed, so nothing of the matcher's checks is done again."""

    def disparity(batch: StereoSample) -> Tensor:
        found: Tensor = model(batch.left, batch.right)
        return found

    def scores(batch: LabelledImage) -> Tensor:
        found: Tensor = model(batch.image)
        return found

    return disparity if isinstance(model, StereoMatcher) else scores


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


def notes_on_range(config: EvaluateConfig, results: Mapping[str, Evaluation[Any]]) -> list[str]:
    """A line where the ground truth lies beyond what baseline=sgbm looks for."""
    if config.baseline != "sgbm":
        return []
    figures: StereoFigures = results["sgbm"].figures
    found = sgbm_range(config.dataset.max_disparity)
    if figures.largest < found:
        return []
    enough = sgbm_range(math.floor(figures.largest) + 1)
    remedy = f"take dataset.max_disparity={enough}" if enough <= LARGEST_SGBM else f"it finds {LARGEST_SGBM} at most"
    return [
        f"the ground truth goes up to {figures.largest:.1f} px, but baseline=sgbm finds disparities below {found} px "
        f"(dataset.max_disparity={config.dataset.max_disparity}): what is nearer counts as an error; {remedy}"
    ]


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
