"""The task kit of image classification."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from autodisp.datasets.cifar import CIFAR10, CIFAR100
from autodisp.datasets.image_transforms import ImageAugmentation
from autodisp.datasets.samples import LabelledImage
from autodisp.datasets.svhn import SVHN
from autodisp.evaluation.classification_metrics import ClassificationMetrics
from autodisp.prediction.image_models import open_classifier
from autodisp.tasks.classification.sections import ClassificationNetworkConfig, ClassificationTaskConfig, ImagesConfig
from autodisp.tasks.classification.task import ClassificationTask
from autodisp.tasks.kit import DatasetEntry, Interface, Split, TaskKit

HEADS = ("classifier.", "auxiliary.")
"""Name prefixes of the weights whose shapes depend on the number of classes."""
_GREY = (0.5, 0.5, 0.5)


def _opened(data: ImagesConfig, *, reader: Callable[..., Any], seed: int, split: Split, strict: bool) -> Any:
    return reader(data.root, split=split, exclude=data.exclude)


def _entry(reader: Callable[..., Any], classes: int) -> DatasetEntry:
    return DatasetEntry(
        ImagesConfig,
        partial(_opened, reader=reader),
        LabelledImage,
        splits=("train", "test"),
        in_few_files=True,
        size=(32, 32),
        facts={"classes": classes, "mean": _GREY, "std": _GREY},
    )


DATASETS = {"cifar10": _entry(CIFAR10, 10), "cifar100": _entry(CIFAR100, 100), "svhn": _entry(SVHN, 10)}


def _facts(dataset: Any) -> Mapping[str, Any]:
    return {"classes": len(dataset.classes), "mean": dataset.mean, "std": dataset.std}


def _augment(data: ImagesConfig, augmentation: Any, cutout: int, dataset: Any) -> ImageAugmentation:
    return ImageAugmentation(scale=augmentation.scale, cutout=cutout, flip=data.flip, fill=dataset.mean)


def _adapt(settings: Mapping[str, Any], config: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keeps the normalisation of the initial training, which is stored in buffers of the network."""
    return {**settings, "classes": facts["classes"], "auxiliary": config.task.auxiliary_weight > 0}


def _start(weights: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Drops the weights of the classifier if the classes differ, so that it is trained from scratch."""
    own = network.state_dict()
    other_classes = {
        name
        for name in own
        if name.startswith(HEADS) and (name not in weights or weights[name].shape != own[name].shape)
    }
    dropped = {name for name in weights if name.startswith(HEADS) and name not in own}
    start = {name: tensor for name, tensor in weights.items() if name not in other_classes | dropped}
    return start | {name: own[name] for name in other_classes}


def _metrics(config: Any, dataset: Any) -> ClassificationMetrics:
    return ClassificationMetrics([str(name) for name in dataset.classes])


KIT = TaskKit(
    name=ClassificationTask.name,
    task=ClassificationTask,
    section=ClassificationTaskConfig,
    networks={"classification": ClassificationNetworkConfig},
    datasets=DATASETS,
    facts=_facts,
    arguments=lambda task, data: {"auxiliary": task.auxiliary_weight > 0},
    augment=_augment,
    unstored=lambda task, network: {"auxiliary_weight": task.auxiliary_weight},
    adapt=_adapt,
    start=_start,
    metrics=_metrics,
    metric_place="accuracy.top1",
    open_model=open_classifier,
    inputs=lambda batch: (batch.image,),
    interface=Interface(
        ("images",), "logits", ("batch", None), "", any_batch=True, result="(B, classes), before the softmax"
    ),
    cutout=True,
    remedy="task.auxiliary_weight=0",
)
