"""Everything that the programs ask of disparity estimation."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from autodisp.config.checks import need
from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.kitti import Kitti
from autodisp.datasets.middlebury import Middlebury2006, Middlebury2014
from autodisp.datasets.own import Own
from autodisp.datasets.samples import StereoDataset, StereoSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.sintel import Sintel
from autodisp.datasets.stereo_transforms import CenterCrop, StereoAugmentation
from autodisp.errors import InputError, WrongSetting
from autodisp.networks.stack import StackedDisparityNetwork
from autodisp.tasks.disparity.sections import (
    DisparityNetworkConfig,
    DisparityTaskConfig,
    FlyingThings3DConfig,
    KittiConfig,
    Middlebury2006Config,
    Middlebury2014Config,
    OwnConfig,
    Shapes3DConfig,
    SintelConfig,
)
from autodisp.tasks.disparity.task import DisparityTask
from autodisp.tasks.kit import DatasetEntry, Interface, Split, TaskKit

SHAPES3D_TEST_SEED = 2**31 - 1
"""Of held-out shapes3d pairs, which are the same for every run; a run with that very seed would train on them."""
SHAPES3D_TEST_LENGTH = 200
LARGEST_SGBM = 2032
"""Pixels: OpenCV counts sixteenths of them in 16 bits."""


def _shapes3d(data: Shapes3DConfig, *, seed: int, split: Split, strict: bool) -> Shapes3D:
    if split == "test" and seed == SHAPES3D_TEST_SEED:
        raise WrongSetting(f"seed={seed}: is that of the held-out pairs of shapes3d; take another one")
    return Shapes3D(
        length=data.length if split == "train" else SHAPES3D_TEST_LENGTH,
        seed=seed if split == "train" else SHAPES3D_TEST_SEED,
        height=data.height,
        width=data.width,
        max_disparity=data.max_disparity,
        objects=(data.objects[0], data.objects[1]),
        nearest=data.nearest,
        ground=data.ground,
        materials=data.materials,
        camera=data.camera,
        textures=data.textures,
    )


def _shared(data: Any, strict: bool) -> dict[str, Any]:
    return {"exclude": data.exclude, "half_resolution": data.half_resolution, "strict": strict}


def _flyingthings3d(data: FlyingThings3DConfig, *, seed: int, split: Split, strict: bool) -> FlyingThings3D:
    return FlyingThings3D(
        data.root,
        split="TRAIN" if split == "train" else "TEST",
        render_pass=data.render_pass,  # type: ignore[arg-type]
        subsets=tuple(data.subsets),
        excluded=data.excluded,
        layout=data.layout,  # type: ignore[arg-type]
        **_shared(data, strict),
    )


def _sintel(data: SintelConfig, *, seed: int, split: Split, strict: bool) -> Sintel:
    return Sintel(data.root, render_pass=data.render_pass, **_shared(data, strict))  # type: ignore[arg-type]


def _kitti(data: KittiConfig, *, year: Any, seed: int, split: Split, strict: bool) -> Kitti:
    return Kitti(data.root, year=year, **_shared(data, strict))


def _middlebury2014(data: Middlebury2014Config, *, seed: int, split: Split, strict: bool) -> Middlebury2014:
    return Middlebury2014(data.root, **_shared(data, strict))


def _middlebury2006(data: Middlebury2006Config, *, seed: int, split: Split, strict: bool) -> Middlebury2006:
    return Middlebury2006(data.root, size=data.size, **_shared(data, strict))  # type: ignore[arg-type]


def _own(data: OwnConfig, *, seed: int, split: Split, strict: bool) -> Own:
    return Own(data.factory, data.root, exclude=data.exclude, half_resolution=data.half_resolution)


def _entry(section: type, build: Callable[..., Any], **more: Any) -> DatasetEntry:
    return DatasetEntry(section, build, StereoSample, **more)


DATASETS = {
    "shapes3d": _entry(Shapes3DConfig, _shapes3d, splits=("train", "test"), generated=True),
    "flyingthings3d": _entry(FlyingThings3DConfig, _flyingthings3d, splits=("train", "test")),
    "sintel": _entry(SintelConfig, _sintel),
    "kitti2012": _entry(KittiConfig, partial(_kitti, year=2012)),
    "kitti2015": _entry(KittiConfig, partial(_kitti, year=2015)),
    "middlebury2014": _entry(Middlebury2014Config, _middlebury2014),
    "middlebury2006": _entry(Middlebury2006Config, _middlebury2006),
    "own": _entry(OwnConfig, _own),
}


def _crop(data: Any) -> tuple[int, int] | None:
    return (data.crop[0], data.crop[1]) if data.crop else None


def _make_task(
    task: DisparityTaskConfig, network: DisparityNetworkConfig, data: Any, facts: Mapping[str, Any]
) -> DisparityTask:
    return DisparityTask(
        channels=network.channels,
        stem_scale=network.stem_scale,
        encoder_cells=network.encoder_cells,
        decoder_cells=network.decoder_cells,
        max_displacement=network.max_displacement,
        head=network.head,  # type: ignore[arg-type]
        max_disparity=data.max_disparity,
        aggregation=network.aggregation,
        groups=network.groups,
        refinement=network.refinement,
        siamese_cells=network.siamese_cells,
        stages=network.stages,
        frozen_stages=network.frozen_stages,
        to_full_resolution=network.to_full_resolution,
        volume_weight=1.0 if task.volume_weight is None else task.volume_weight,
        **facts,
    )


def _augment(data: Any, augmentation: Any, cutout: int, dataset: StereoDataset) -> StereoAugmentation:
    return StereoAugmentation(scale=augmentation.scale, crop=_crop(data))


def _prepare(task: DisparityTask, network: nn.Module, section: Any, network_section: Any) -> None:
    if isinstance(network, StackedDisparityNetwork):
        network.freeze(getattr(network_section, "frozen_stages", 0))
    if section.volume_weight is not None:
        task.volume_weight = section.volume_weight


def _adapt(settings: Mapping[str, Any], config: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    if settings.get("head") == "regression" and config.task.volume_weight:
        raise InputError(
            f"task.volume_weight={config.task.volume_weight}: weighs the volume of a matching head, but that of "
            f"init={config.init} has none: leave it null"
        )
    return settings


def _start(weights: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Where the network is a stack, the weights of a shorter one or of its first network, completed by its own."""
    if not isinstance(network, StackedDisparityNetwork):
        return weights
    if not any(name.startswith("stages.") for name in weights):
        weights = {f"stages.0.{name}": tensor for name, tensor in weights.items()}
    known = {name.split(".")[1] for name in weights}
    rest = {name: tensor for name, tensor in network.state_dict().items() if name.split(".")[1] not in known}
    return {**weights, **rest}


def _picture(batch: StereoSample, output: Any) -> Any:
    from autodisp.report.disparity_pictures import panel

    return panel(batch.left[0], batch.disparity[0], output.disparity[0].clamp(min=0.0), batch.valid[0])


def _metrics(config: Any, dataset: StereoDataset) -> Any:
    from autodisp.evaluation.stereo_metrics import StereoMetrics

    return StereoMetrics(has_occlusion=dataset.has_occlusion, edges=config.ranges)


def _constant(config: Any, batches: Any) -> Any:
    from autodisp.evaluation.baselines import BestConstant

    return BestConstant.of(batches)


def _sgbm(config: Any, batches: Any) -> Any:
    from autodisp.evaluation.baselines import SemiGlobalMatching

    return SemiGlobalMatching(max_disparity=config.dataset.max_disparity)


def _open_model(network: nn.Module, device: Any, about: Mapping[str, Any]) -> Any:
    from autodisp.prediction.inference import StereoMatcher

    return StereoMatcher(network, device=device)


def _check_sections(task: DisparityTaskConfig, network: Any) -> None:
    if network.head == "regression" and task.volume_weight is not None:
        raise InputError(
            f"task.volume_weight={task.volume_weight}: weighs the volume of network.head=matching, but the "
            "head is regression, which has none: leave it null, or take the other head"
        )


def _check_search(config: Any) -> None:
    frozen = config.network.frozen_stages
    need(frozen == 0, "network.frozen_stages", frozen, "0: a search has no trained stages to freeze")


def _check_evaluation(config: Any) -> None:
    if config.baseline == "sgbm":
        most = config.dataset.max_disparity
        need(most <= LARGEST_SGBM, "dataset.max_disparity", most, f"at most {LARGEST_SGBM} for baseline=sgbm")


def _notes_on_evaluation(config: Any, results: Mapping[str, Any]) -> list[str]:
    """A line where the ground truth lies beyond what baseline=sgbm looks for."""
    from autodisp.evaluation.baselines import sgbm_range

    if config.baseline != "sgbm":
        return []
    largest, found = results["sgbm"].figures.largest, sgbm_range(config.dataset.max_disparity)
    if largest < found:
        return []
    enough = sgbm_range(math.floor(largest) + 1)
    remedy = f"take dataset.max_disparity={enough}" if enough <= LARGEST_SGBM else f"it finds {LARGEST_SGBM} at most"
    return [
        f"the ground truth goes up to {largest:.1f} px, but baseline=sgbm finds disparities below {found} px "
        f"(dataset.max_disparity={config.dataset.max_disparity}): what is nearer counts as an error; {remedy}"
    ]


class _Disparity(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        disparity: Tensor = self.network(left, right).disparity
        return disparity


KIT = TaskKit(
    name=DisparityTask.name,
    task=DisparityTask,
    section=DisparityTaskConfig,
    networks={"disparity": DisparityNetworkConfig},
    datasets=DATASETS,
    make_task=_make_task,
    augment=_augment,
    fixed=lambda data: CenterCrop(crop=_crop(data)),
    prepare=_prepare,
    adapt=_adapt,
    start=_start,
    inherited=("support",),
    unsaid={"support": "normal"},
    picture=_picture,
    metrics=_metrics,
    metric_place="regions.all.pooled.epe",
    baselines={"sgbm": _sgbm, "constant": _constant},
    shows_worst=True,
    open_model=_open_model,
    inputs=lambda batch: (batch.left, batch.right),
    interface=Interface(
        ("left", "right"),
        "disparity",
        (1, 1, "height", "width"),
        "px",
        any_batch=False,
        plain=_Disparity,
        result="(1, 1, H, W), pixels",
    ),
    check_sections=_check_sections,
    check_search=_check_search,
    check_evaluation=_check_evaluation,
    notes_on_evaluation=_notes_on_evaluation,
    designed=True,
    level_weights=True,
    predicts=True,
)
