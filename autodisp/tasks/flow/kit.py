"""The task kit of optical flow."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from autodisp.datasets.samples import FlowSample
from autodisp.errors import WrongSetting
from autodisp.tasks.disparity.kit import SHAPES3D_TEST_LENGTH, SHAPES3D_TEST_SEED
from autodisp.tasks.flow.sections import (
    FlowNetworkConfig,
    FlowTaskConfig,
    FlyingThings3DFlowConfig,
    Shapes3DFlowConfig,
    SintelFlowConfig,
)
from autodisp.tasks.flow.task import FlowTask, best_constant, flow_sums
from autodisp.tasks.kit import DatasetEntry, Interface, Prediction, Split, TaskKit, WorstSamples


def _shapes3d_flow(data: Shapes3DFlowConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.shapes3d_flow import Shapes3DFlow

    if split == "test" and seed == SHAPES3D_TEST_SEED:
        raise WrongSetting(f"seed={seed}: is that of the held-out scenes of shapes3d_flow; take another one")
    return Shapes3DFlow(
        length=data.length if split == "train" else SHAPES3D_TEST_LENGTH,
        seed=seed if split == "train" else SHAPES3D_TEST_SEED,
        height=data.height,
        width=data.width,
        max_flow=data.max_flow,
        objects=(data.objects[0], data.objects[1]),
    )


def _flyingthings3d_flow(data: FlyingThings3DFlowConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.flow_files import FlyingThings3DFlow

    part = "TRAIN" if split == "train" else "TEST"
    return FlyingThings3DFlow(data.root, split=part, render_pass=data.render_pass, exclude=data.exclude, strict=strict)


def _sintel_flow(data: SintelFlowConfig, *, seed: int, split: Split, strict: bool) -> Any:
    from autodisp.datasets.flow_files import SintelFlow

    return SintelFlow(data.root, render_pass=data.render_pass, exclude=data.exclude, strict=strict)


DATASETS = {
    "shapes3d_flow": DatasetEntry(
        Shapes3DFlowConfig, _shapes3d_flow, FlowSample, splits=("train", "test"), generated=True,
        identity=("objects", "max_flow"), training_identity=("height", "width"),
    ),
    "flyingthings3d_flow": DatasetEntry(
        FlyingThings3DFlowConfig, _flyingthings3d_flow, FlowSample, splits=("train", "test"), identity=("render_pass",)
    ),
    "sintel_flow": DatasetEntry(SintelFlowConfig, _sintel_flow, FlowSample, identity=("render_pass",)),
}  # fmt: skip


def _crop(data: Any) -> tuple[int, int] | None:
    return (data.crop[0], data.crop[1]) if data.crop else None


def _make_task(task: FlowTaskConfig, network: FlowNetworkConfig, data: Any, facts: Mapping[str, Any]) -> FlowTask:
    names = ("channels", "stem_scale", "encoder_cells", "decoder_cells", "max_displacement")
    return FlowTask(**{name: getattr(network, name) for name in names}, **facts)


def _augment(data: Any, augmentation: Any, cutout: int, dataset: Any) -> Any:
    from autodisp.datasets.flow_transforms import FlowAugmentation

    return FlowAugmentation(scale=augmentation.scale, crop=_crop(data))


def _fixed(data: Any) -> Any:
    from autodisp.datasets.flow_transforms import CenterCrop

    return CenterCrop(crop=_crop(data))


def _metrics(config: Any, dataset: Any) -> Any:
    from autodisp.evaluation.pooled_metrics import PooledMetrics

    regions = {
        "matched": lambda batch: batch._replace(valid=batch.valid & ~batch.unmatched),
        "unmatched": lambda batch: batch._replace(valid=batch.valid & batch.unmatched),
    }
    return PooledMetrics(flow_sums, units={"epe": "px"}, regions=regions if dataset.has_occlusion else {})


def _constant(config: Any, batches: Any, facts: Mapping[str, Any]) -> Any:
    constant = best_constant(batches)
    return lambda batch: constant.to(batch.flow).expand_as(batch.flow)


def _errors(prediction: Tensor, batch: FlowSample) -> Tensor:
    """Computes the EPE of each sample, (B,) pixels; infinite if a pixel with ground truth has no prediction."""
    error = torch.linalg.vector_norm(prediction - batch.flow, dim=1, keepdim=True).nan_to_num(torch.inf, torch.inf)
    return torch.where(batch.valid, error, 0.0).flatten(1).sum(1) / batch.valid.flatten(1).sum(1)


def _picture(batch: FlowSample, output: Any) -> Any:
    from autodisp.prediction.flow_images import panel

    return panel(batch.first[0], batch.flow[0], output.flow[0], batch.valid[0])


def _draw(cases: Sequence[Any]) -> list[Any]:
    from autodisp.prediction.flow_images import panel

    return [panel(case.sample.first, case.sample.flow, case.prediction, case.sample.valid) for case in cases]


def _open_model(network: nn.Module, device: Any, about: Mapping[str, Any]) -> Any:
    from autodisp.prediction.flow_program import FlowEstimator

    return FlowEstimator(network, device=device)


def _find(config: Any) -> Any:
    from autodisp.prediction import flow_program

    return flow_program.find(config)


def _writer(config: Any, pairs: Sequence[Any]) -> Any:
    from autodisp.prediction import flow_program

    return flow_program.build_writer(config, pairs)


def _predict(pair: Any, model: Any, writer: Any) -> str:
    from autodisp.prediction import flow_program

    return flow_program.predict(pair, model, writer)


class _Flow(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        flow: Tensor = self.network(first, second).flow
        return flow


KIT = TaskKit(
    name=FlowTask.name,
    task=FlowTask,
    section=FlowTaskConfig,
    networks={"flow": FlowNetworkConfig},
    datasets=DATASETS,
    make_task=_make_task,
    augment=_augment,
    fixed=_fixed,
    metrics=_metrics,
    metric_place="pooled.epe",
    picture=_picture,
    baselines={"constant": _constant},
    worst=WorstSamples("epe", "EPE {:.2f} px", _errors, _draw),
    open_model=_open_model,
    inputs=lambda batch: (batch.first, batch.second),
    interface=Interface(
        ("first", "second"),
        "flow",
        (1, 2, "height", "width"),
        "px",
        any_batch=False,
        plain=_Flow,
        result="(1, 2, H, W), pixels to the right and down",
    ),
    level_weights=True,
    prediction=Prediction(
        "pair", ("left=first.png", "right=second.png"), ("flo", "png16", "colour"), _find, _writer, _predict
    ),
)
