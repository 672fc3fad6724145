"""The task kit of segmentation."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from autodisp.datasets.class_maps import class_counts
from autodisp.datasets.samples import IGNORED, SegmentedImage
from autodisp.datasets.segmentation_files import Cityscapes, Folders, Voc2012
from autodisp.datasets.segmentation_transforms import CenterCrop, SegmentationAugmentation
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.shapes3d_classes import Shapes3DClasses
from autodisp.evaluation.segmentation_metrics import SegmentationMetrics
from autodisp.prediction import segmentation_program
from autodisp.prediction.image_models import open_classifier
from autodisp.prediction.outputs import CLASS_OUTPUTS
from autodisp.prediction.programs import build_writer, predict
from autodisp.prediction.segmentation_images import panel
from autodisp.tasks.kit import DatasetEntry, Interface, Prediction, Split, TaskKit, WorstSamples, augmented, cropped
from autodisp.tasks.sections import CroppedFilesSection
from autodisp.tasks.segmentation.sections import (
    FoldersConfig,
    SegmentationNetworkConfig,
    SegmentationTaskConfig,
    Shapes3DClassesConfig,
    VocConfig,
)
from autodisp.tasks.segmentation.task import SegmentationTask


def _shapes3d_classes(data: Shapes3DClassesConfig, *, seed: int, split: Split, strict: bool) -> Shapes3DClasses:
    return Shapes3DClasses(Shapes3D(**data.arguments(seed=seed, split=split, samples="views")))


def _folders(data: FoldersConfig, *, seed: int, split: Split, strict: bool) -> Folders:
    return Folders(data.root, classes=data.classes, exclude=data.exclude, strict=strict)


def _voc(data: VocConfig, *, seed: int, split: Split, strict: bool) -> Voc2012:
    names = data.train_list if split == "train" else "val"
    return Voc2012(data.root, names=names, masks=data.masks, exclude=data.exclude, strict=strict)


def _cityscapes(data: CroppedFilesSection, *, seed: int, split: Split, strict: bool) -> Cityscapes:
    names = "train" if split == "train" else "val"
    return Cityscapes(data.root, split=names, exclude=data.exclude, strict=strict)


DATASETS = {
    "shapes3d_classes": DatasetEntry(
        Shapes3DClassesConfig,
        _shapes3d_classes,
        SegmentedImage,
        splits=("train", "test"),
        generated=True,
        identity=("height", "width", "objects"),
        facts={"classes": 11},
    ),
    "voc": DatasetEntry(
        VocConfig,
        _voc,
        SegmentedImage,
        splits=("train", "test"),
        training_identity=("train_list", "masks"),
        facts={"classes": 21},
    ),
    "cityscapes": DatasetEntry(
        CroppedFilesSection, _cityscapes, SegmentedImage, splits=("train", "test"), facts={"classes": 19}
    ),
    "folders": DatasetEntry(FoldersConfig, _folders, SegmentedImage, identity=("classes",), facts={"classes": 2}),
}


def _adapt(settings: Mapping[str, Any], config: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**settings, "classes": facts["classes"]}


def _start(weights: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Replaces weights whose shape depends on the number of classes, if that differs, by newly initialised ones."""
    own = network.state_dict()
    return {
        name: own[name] if name in own and own[name].shape != tensor.shape else tensor
        for name, tensor in weights.items()
    }


def _metrics(config: Any, dataset: Any) -> SegmentationMetrics:
    return SegmentationMetrics([str(name) for name in dataset.classes])


def _most_frequent(config: Any, batches: Any, facts: Mapping[str, Any]) -> Any:
    """Returns a predictor of the most frequent class everywhere, as probabilities (B, classes, H, W)."""
    index = int(class_counts(batches).argmax())

    def predict(batch: SegmentedImage) -> Tensor:
        found = batch.image.new_zeros(len(batch.classes), facts["classes"], *batch.classes.shape[-2:])
        found[:, index] = 1
        return found

    return predict


def _errors(prediction: Tensor, batch: SegmentedImage) -> Tensor:
    """Computes the share of wrong pixels of each sample in percent, (B,); NaN without ground truth."""
    known = batch.classes != IGNORED
    wrong = (prediction.argmax(dim=1) != batch.classes) | prediction.isnan().any(dim=1)
    return 100.0 * (wrong & known).flatten(1).sum(1).double() / known.flatten(1).sum(1)


KIT = TaskKit(
    name=SegmentationTask.name,
    task=SegmentationTask,
    section=SegmentationTaskConfig,
    networks={"segmentation": SegmentationNetworkConfig},
    datasets=DATASETS,
    facts=lambda dataset: {"classes": len(dataset.classes)},
    augment=augmented(SegmentationAugmentation),
    fixed=cropped(CenterCrop),
    unstored=lambda task, network: {"class_weights": task.class_weights},
    adapt=_adapt,
    start=_start,
    metrics=_metrics,
    metric_place="miou",
    baselines={"constant": _most_frequent},
    worst=WorstSamples(
        "wrong",
        "{:.1f} % wrong",
        _errors,
        lambda cases: [panel(one.sample.image, one.sample.classes, one.prediction) for one in cases],
    ),
    open_model=open_classifier,
    inputs=lambda batch: (batch.image,),
    interface=Interface(
        ("images",),
        "logits",
        ("batch", None, "height", "width"),
        "",
        any_batch=True,
        result="(B, classes, H, W), before the softmax",
    ),
    level_weights=True,
    prediction=Prediction(
        "image",
        ("left=image.png",),
        CLASS_OUTPUTS,
        segmentation_program.find,
        partial(build_writer, CLASS_OUTPUTS),
        partial(predict, segmentation_program.files_of),
    ),
)
