"""The task kit of segmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from autodisp.datasets.class_maps import class_counts
from autodisp.datasets.samples import IGNORED, SegmentedImage
from autodisp.errors import WrongSetting
from autodisp.tasks.disparity.kit import SHAPES3D_TEST_LENGTH, SHAPES3D_TEST_SEED
from autodisp.tasks.kit import DatasetEntry, Interface, Prediction, Split, TaskKit, WorstSamples
from autodisp.tasks.segmentation.sections import (
    FoldersConfig,
    SegmentationFilesConfig,
    SegmentationNetworkConfig,
    SegmentationTaskConfig,
    Shapes3DClassesConfig,
    VocConfig,
)
from autodisp.tasks.segmentation.task import SegmentationTask


def _shapes3d_classes(data: Shapes3DClassesConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.shapes3d import Shapes3D
    from autodisp.datasets.shapes3d_classes import Shapes3DClasses

    if split == "test" and seed == SHAPES3D_TEST_SEED:
        raise WrongSetting(f"seed={seed}: is that of the held-out views of shapes3d_classes; take another one")
    pairs = Shapes3D(
        length=data.length if split == "train" else SHAPES3D_TEST_LENGTH,
        seed=seed if split == "train" else SHAPES3D_TEST_SEED,
        height=data.height,
        width=data.width,
        objects=(data.objects[0], data.objects[1]),
    )
    return Shapes3DClasses(pairs)


def _folders(data: FoldersConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.segmentation_files import Folders

    return Folders(data.root, classes=data.classes, exclude=data.exclude, strict=strict)


def _voc(data: VocConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.segmentation_files import Voc2012

    names = data.train_list if split == "train" else "val"
    return Voc2012(data.root, names=names, masks=data.masks, exclude=data.exclude, strict=strict)


def _cityscapes(data: SegmentationFilesConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.segmentation_files import Cityscapes

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
        SegmentationFilesConfig, _cityscapes, SegmentedImage, splits=("train", "test"), facts={"classes": 19}
    ),
    "folders": DatasetEntry(FoldersConfig, _folders, SegmentedImage, identity=("classes",), facts={"classes": 2}),
}


def _crop(data: Any) -> tuple[int, int] | None:
    return (data.crop[0], data.crop[1]) if data.crop else None


def _make_task(
    task: SegmentationTaskConfig, network: SegmentationNetworkConfig, data: Any, facts: Mapping[str, Any]
) -> SegmentationTask:
    return SegmentationTask(
        channels=network.channels,
        stem_scale=network.stem_scale,
        encoder_cells=network.encoder_cells,
        decoder_cells=network.decoder_cells,
        class_weights=task.class_weights,
        **facts,
    )


def _facts(dataset: Any) -> Mapping[str, Any]:
    return {"classes": len(dataset.classes)}


def _augment(data: Any, augmentation: Any, cutout: int, dataset: Any) -> Any:
    from autodisp.datasets.segmentation_transforms import SegmentationAugmentation

    return SegmentationAugmentation(scale=augmentation.scale, crop=_crop(data))


def _fixed(data: Any) -> Any:
    from autodisp.datasets.segmentation_transforms import CenterCrop

    return CenterCrop(crop=_crop(data))


def _adapt(settings: Mapping[str, Any], config: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**settings, "classes": facts["classes"]}


def _start(weights: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Replaces weights whose shape depends on the number of classes, if that differs, by newly initialised ones."""
    own = network.state_dict()
    return {
        name: own[name] if name in own and own[name].shape != tensor.shape else tensor
        for name, tensor in weights.items()
    }


def _metrics(config: Any, dataset: Any) -> Any:
    from autodisp.evaluation.segmentation_metrics import SegmentationMetrics

    return SegmentationMetrics([str(name) for name in dataset.classes])


def _most_frequent(config: Any, batches: Any, facts: Mapping[str, Any]) -> Any:
    from autodisp.evaluation.segmentation_metrics import MostFrequentClass

    return MostFrequentClass(int(class_counts(batches).argmax()), facts["classes"])


def _picture(batch: SegmentedImage, output: Any) -> Any:
    from autodisp.prediction.segmentation_images import panel

    return panel(batch.image[0], batch.classes[0], output.logits[0])


def _errors(prediction: Tensor, batch: SegmentedImage) -> Tensor:
    """Computes the share of wrong pixels of each sample in percent, (B,); NaN without ground truth."""
    known = batch.classes != IGNORED
    wrong = (prediction.argmax(dim=1) != batch.classes) | prediction.isnan().any(dim=1)
    return 100.0 * (wrong & known).flatten(1).sum(1).double() / known.flatten(1).sum(1)


def _draw(cases: Sequence[Any]) -> list[Any]:
    from autodisp.prediction.segmentation_images import panel

    return [panel(case.sample.image, case.sample.classes, case.prediction) for case in cases]


def _open_model(network: nn.Module, device: Any, about: Mapping[str, Any]) -> Any:
    from autodisp.prediction.segmenter import Segmenter

    return Segmenter(network, device=device, classes=about.get("classes"))


def _find(config: Any) -> Any:
    from autodisp.prediction import segmentation_program

    return segmentation_program.find(config)


def _writer(config: Any, images: Sequence[Any]) -> Any:
    from autodisp.prediction import segmentation_program

    return segmentation_program.build_writer(config, images)


def _predict(image: Any, model: Any, writer: Any) -> str:
    from autodisp.prediction import segmentation_program

    return segmentation_program.predict(image, model, writer)


class _Logits(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


KIT = TaskKit(
    name=SegmentationTask.name,
    task=SegmentationTask,
    section=SegmentationTaskConfig,
    networks={"segmentation": SegmentationNetworkConfig},
    datasets=DATASETS,
    make_task=_make_task,
    facts=_facts,
    augment=_augment,
    fixed=_fixed,
    unstored=lambda task, network: {"class_weights": task.class_weights},
    adapt=_adapt,
    start=_start,
    metrics=_metrics,
    metric_place="miou",
    picture=_picture,
    baselines={"constant": _most_frequent},
    worst=WorstSamples("wrong", "{:.1f} % wrong", _errors, _draw),
    open_model=_open_model,
    inputs=lambda batch: (batch.image,),
    interface=Interface(
        ("images",),
        "logits",
        ("batch", None, "height", "width"),
        "",
        any_batch=True,
        plain=_Logits,
        result="(B, classes, H, W), before the softmax",
    ),
    level_weights=True,
    prediction=Prediction("image", ("left=image.png",), ("colour", "index", "overlay"), _find, _writer, _predict),
)
