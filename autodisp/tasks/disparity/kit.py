"""The task kit of disparity estimation."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autodisp.config.checks import need, shown
from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.kitti import Kitti
from autodisp.datasets.middlebury import Middlebury2006, Middlebury2014
from autodisp.datasets.own import Own
from autodisp.datasets.samples import StereoDataset, StereoSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.sintel import Sintel
from autodisp.datasets.stereo_transforms import CenterCrop, StereoAugmentation
from autodisp.datasets.unlabelled import UnlabelledPairs
from autodisp.errors import InputError, WrongSetting
from autodisp.evaluation.baselines import best_constant
from autodisp.evaluation.stereo_metrics import StereoMetrics
from autodisp.networks.confidence import WithConfidence, has_volume
from autodisp.networks.stack import StackedDisparityNetwork
from autodisp.prediction import stereo_program
from autodisp.prediction.corrections import FusionMatcher, ResidualMatcher
from autodisp.prediction.disparity_images import panel, usual_error
from autodisp.prediction.inference import StereoMatcher
from autodisp.prediction.outputs import OUTPUTS
from autodisp.prediction.pairs import find_pairs
from autodisp.prediction.scales import MultiScaleMatcher
from autodisp.prediction.semi_global_matching import LARGEST, SemiGlobalMatching, sgbm_range
from autodisp.tasks.base import Figure, SelfTaughtTask
from autodisp.tasks.dense import mean_by_sample
from autodisp.tasks.disparity.sections import (
    DisparityNetworkConfig,
    DisparityTaskConfig,
    FlyingThings3DConfig,
    Middlebury2006Config,
    OwnConfig,
    PairsConfig,
    Shapes3DConfig,
    SintelConfig,
    StereoFilesConfig,
)
from autodisp.tasks.disparity.task import DisparityTask
from autodisp.tasks.kit import DatasetEntry, Interface, Prediction, Split, TaskKit, WorstSamples, augmented, cropped


def _shapes3d(data: Shapes3DConfig, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    return Shapes3D(
        max_disparity=data.max_disparity,
        nearest=data.nearest,
        ground=data.ground,
        materials=data.materials,
        camera=data.camera,
        textures=data.textures,
        **data.arguments(seed=seed, split=split, samples="pairs"),
    )


def _shared(data: StereoFilesConfig, strict: bool) -> dict[str, Any]:
    return {"exclude": data.exclude, "half_resolution": data.half_resolution, "strict": strict}


def _flyingthings3d(data: FlyingThings3DConfig, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    return FlyingThings3D(
        data.root,
        split="TRAIN" if split == "train" else "TEST",
        render_pass=data.render_pass,
        subsets=tuple(data.subsets),
        excluded=data.official_exclusions,
        layout=data.layout,
        **_shared(data, strict),
    )


def _sintel(data: SintelConfig, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    return Sintel(data.root, render_pass=data.render_pass, **_shared(data, strict))


def _kitti(data: StereoFilesConfig, *, year: Any, seed: int, split: Split, strict: bool) -> StereoDataset:
    return Kitti(data.root, year=year, **_shared(data, strict))


def _middlebury2014(data: StereoFilesConfig, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    return Middlebury2014(data.root, **_shared(data, strict))


def _middlebury2006(data: Middlebury2006Config, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    return Middlebury2006(data.root, size=data.size, **_shared(data, strict))


def _pairs(data: PairsConfig, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    place = data.root if data.left is None else data.left
    if place is None:
        raise WrongSetting(
            "dataset.root is not set: it must be a folder with both views of each pair; or give dataset.left and "
            "dataset.right, two folders or quoted patterns"
        )
    try:
        found = find_pairs(place, data.right)
    except InputError as error:
        raise WrongSetting(f"dataset={data.name}: {error}") from None
    pairs = {pair.name: (pair.left, pair.right) for pair in found.pairs}
    place = os.path.commonpath([left.parent for left, _ in pairs.values()])
    return UnlabelledPairs(pairs, place=Path(place), problems=found.problems, **_shared(data, strict))


def _own(data: OwnConfig, *, seed: int, split: Split, strict: bool) -> StereoDataset:
    return Own(data.factory, data.root, exclude=data.exclude, half_resolution=data.half_resolution)


def _entry(
    section: type,
    build: Callable[..., Any],
    *identity: str,
    training: Sequence[str] = (),
    splits: tuple[Split, ...] = ("train",),
    generated: bool = False,
    ground_truth: bool = True,
) -> DatasetEntry:
    return DatasetEntry(
        section,
        build,
        StereoSample,
        splits=splits,
        generated=generated,
        ground_truth=ground_truth,
        identity=identity if generated else ("half_resolution", *identity),
        training_identity=(*training, "max_disparity"),
    )


DATASETS = {
    "shapes3d": _entry(
        Shapes3DConfig, _shapes3d, "objects", "nearest", "ground", "materials", "camera", "textures",
        training=("height", "width"), splits=("train", "test"), generated=True,
    ),
    "flyingthings3d": _entry(
        FlyingThings3DConfig, _flyingthings3d, "render_pass", "layout", training=("subsets", "official_exclusions"),
        splits=("train", "test"),
    ),
    "sintel": _entry(SintelConfig, _sintel, "render_pass"),
    "kitti2012": _entry(StereoFilesConfig, partial(_kitti, year=2012)),
    "kitti2015": _entry(StereoFilesConfig, partial(_kitti, year=2015)),
    "middlebury2014": _entry(StereoFilesConfig, _middlebury2014),
    "middlebury2006": _entry(Middlebury2006Config, _middlebury2006, "size"),
    "pairs": _entry(PairsConfig, _pairs, "left", "right", training=("crop",), ground_truth=False),
    "own": _entry(OwnConfig, _own, "max_disparity", training=("crop",)),
}  # fmt: skip


def _unstored(task: DisparityTaskConfig, network: Any) -> Mapping[str, Any]:
    weight = {} if task.volume_weight is None else {"volume_weight": task.volume_weight}
    frozen = getattr(network, "frozen_stages", 0)
    return {"frozen_stages": frozen, "robust_scale": task.robust_scale, **weight}


def _adapt(settings: Mapping[str, Any], config: Any, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    if settings.get("head") == "regression" and config.task.volume_weight:
        raise InputError(
            f"task.volume_weight={config.task.volume_weight}: weighs the volume of a matching head, but that of "
            f"init={config.init} has none: leave it null"
        )
    return settings


def _start(weights: Mapping[str, Tensor], network: nn.Module) -> Mapping[str, Tensor]:
    """Completes the weights of a shorter stack, or of a single network, with newly initialised ones."""
    if not isinstance(network, StackedDisparityNetwork):
        return weights
    if not any(name.startswith("stages.") for name in weights):
        weights = {f"stages.0.{name}": tensor for name, tensor in weights.items()}
    known = {name.split(".")[1] for name in weights}
    rest = {name: tensor for name, tensor in network.state_dict().items() if name.split(".")[1] not in known}
    return {**weights, **rest}


def _errors(prediction: Tensor, batch: StereoSample) -> Tensor:
    """Computes the EPE of each sample, (B,) pixels; infinite if a pixel with ground truth has no finite prediction."""
    return mean_by_sample((prediction[:, :1] - batch.disparity).abs(), batch.valid)


def _draw(cases: Sequence[Any]) -> list[Any]:
    samples = [(case.sample, case.prediction[:1].clamp(min=0.0)) for case in cases]
    largest = max((usual_error(found, sample.disparity, sample.valid) for sample, found in samples), default=None)
    return [
        panel(sample.left, sample.disparity, found, sample.valid, largest_error=largest) for sample, found in samples
    ]


def _metrics(config: Any, dataset: StereoDataset) -> Any:
    return StereoMetrics(has_occlusion=dataset.has_occlusion, edges=config.ranges, densities=config.densities)


def _predictor(config: Any, model: Any) -> Callable[[Any], Tensor]:
    matched = model.with_confidence if config.densities else model
    return lambda batch: matched(batch.left, batch.right)


def _constant(config: Any, batches: Any, facts: Mapping[str, Any]) -> Any:
    constant = best_constant(batches)
    return lambda batch: torch.full_like(batch.disparity, constant)


def _sgbm(config: Any, batches: Any, facts: Mapping[str, Any]) -> Any:
    chosen = config.sgbm
    return SemiGlobalMatching(
        max_disparity=config.dataset.max_disparity,
        mode=chosen.mode,
        block_size=chosen.block_size,
        penalty=chosen.penalty,
    ).with_confidence


def _check_prediction(config: Any, model: Any) -> None:
    for key, wanted in (("unknown", config.unknown is not None), ("outputs", "confidence" in (config.outputs or ()))):
        remedy = (
            f"null without a confidence, which checkpoint={shown(config.checkpoint)} lacks; take a model whose "
            "last stage has network.head=matching or refined, exported with confidence=true"
        )
        need(model.has_confidence or not wanted, key, getattr(config, key), remedy)


def _check_sections(task: DisparityTaskConfig, network: Any) -> None:
    if network.head == "regression" and task.volume_weight is not None:
        raise InputError(
            f"task.volume_weight={task.volume_weight}: weighs the volume of network.head=matching, but the "
            "head is regression, which has none: leave it null, or take the other head"
        )


def _self_taught(section: DisparityTaskConfig) -> Callable[[Any], SelfTaughtTask] | None:
    if section.loss == "ground_truth":
        return None
    from autodisp.tasks.disparity.photometric import PhotometricDisparity

    weights = {"smoothness_weight": section.smoothness_weight, "teacher_weight": section.teacher_weight}
    given = {name: weight for name, weight in weights.items() if weight is not None}
    return lambda task: PhotometricDisparity(**{**vars(task), **given})


def _figure(section: Mapping[str, Any]) -> Figure:
    if section.get("loss") != "photometric":
        return DisparityTask.figure
    from autodisp.tasks.disparity.photometric import PhotometricDisparity

    return PhotometricDisparity.figure


def _check_search(config: Any) -> None:
    loss = config.task.loss
    need(loss == "ground_truth", "task.loss", loss, "ground_truth in a search; photometric is for autodisp-train")
    frozen = config.network.frozen_stages
    need(frozen == 0, "network.frozen_stages", frozen, "0: a search has no trained stages to freeze")


def _check_training(config: Any) -> None:
    frozen = getattr(config.network, "frozen_stages", 0)
    if frozen > 0 and config.init is None:
        raise InputError(
            f"network.frozen_stages={frozen}: freezes stages that were trained before: give "
            "the model that contains them as init=best.safetensors"
        )


def _check_evaluation(config: Any) -> None:
    if config.baseline == "sgbm":
        most = config.dataset.max_disparity
        need(most <= LARGEST, "dataset.max_disparity", most, f"at most {LARGEST} for baseline=sgbm")


def _notes_on_evaluation(config: Any, results: Mapping[str, Any], model: Any) -> list[str]:
    """Compares the errors at the density of baseline=sgbm, and warns if the ground truth exceeds a range of search."""
    notes = [] if model is None else _beyond_volume(config, results["network"].figures.largest, model.max_disparity)
    if config.baseline == "sgbm":
        notes += [*_at_equal_density(results), *_beyond_range(config, results)]
    return notes


def _beyond_volume(config: Any, largest: float, found: float) -> list[str]:
    if largest <= found:
        return []
    return [
        f"the ground truth goes up to {largest:.1f} px, but the matching volume of checkpoint="
        f"{shown(config.checkpoint)} ends at {found:g} px with scales={shown(config.scales)}: nearer surfaces count as "
        "errors; add a smaller factor, or take a network trained with a larger dataset.max_disparity"
    ]


def _at_equal_density(results: Mapping[str, Any]) -> list[str]:
    network = results["network"].figures if "network" in results else None
    known, everywhere = (results["sgbm"].figures.regions[name] for name in ("known", "all"))
    if network is None or network.by_confidence is None or not known.pixels:
        return []
    share = known.pixels / everywhere.pixels
    words = [
        f"{method} EPE {pooled['epe']:.2f} px, bad-1 {pooled['bad1']:.2f} %, D1 {pooled['d1']:.2f} %"
        for method, pooled in (("sgbm", known.pooled), ("network", network.confident(share).pooled))
    ]
    return [f"at the density of sgbm without filled holes, {share:.1%}: {', '.join(words)}"]


def _beyond_range(config: Any, results: Mapping[str, Any]) -> list[str]:
    largest, found = results["sgbm"].figures.largest, sgbm_range(config.dataset.max_disparity)
    if largest < found:
        return []
    enough = sgbm_range(math.floor(largest) + 1)
    remedy = f"take dataset.max_disparity={enough}" if enough <= LARGEST else f"it finds {LARGEST} at most"
    return [
        f"the ground truth goes up to {largest:.1f} px, but baseline=sgbm finds disparities below {found} px "
        f"(dataset.max_disparity={config.dataset.max_disparity}): nearer surfaces count as errors; {remedy}"
    ]


KIT = TaskKit(
    name=DisparityTask.name,
    task=DisparityTask,
    section=DisparityTaskConfig,
    networks={"disparity": DisparityNetworkConfig},
    datasets=DATASETS,
    augment=augmented(StereoAugmentation),
    zoom=True,
    fixed=cropped(CenterCrop),
    arguments=lambda task, data: {"max_disparity": data.max_disparity},
    unstored=_unstored,
    adapt=_adapt,
    start=_start,
    self_taught=_self_taught,
    figure=_figure,
    inherited=("support",),
    missing={"support": "normal"},
    metrics=_metrics,
    metric_settings=("ranges", "densities"),
    metric_place="regions.all.pooled.epe",
    baselines={"sgbm": _sgbm, "constant": _constant},
    worst=WorstSamples("epe", "EPE {:.2f} px", _errors, _draw),
    open_model=lambda network, device, about: StereoMatcher(network, device=device),
    inputs=lambda batch: (batch.left, batch.right),
    scaled=MultiScaleMatcher,
    corrections={"residual": ResidualMatcher, "fusion": FusionMatcher},
    predictor=_predictor,
    interface=Interface(
        ("left", "right"),
        "disparity",
        (1, 1, "height", "width"),
        "px",
        any_batch=False,
        result="(1, 1, H, W), pixels",
        confident=lambda network: WithConfidence(network) if has_volume(network) else None,
    ),
    check_sections=_check_sections,
    check_search=_check_search,
    check_training=_check_training,
    check_evaluation=_check_evaluation,
    notes_on_evaluation=_notes_on_evaluation,
    designed=True,
    level_weights=True,
    prediction=Prediction(
        "pair",
        ("left=left.png", "right=right.png"),
        OUTPUTS,
        stereo_program.find,
        stereo_program.build_writer,
        stereo_program.predict,
        _check_prediction,
    ),
)
