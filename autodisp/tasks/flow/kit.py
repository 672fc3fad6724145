"""The task kit of optical flow."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from autodisp.datasets.flow_files import FlyingThings3DFlow, SintelFlow
from autodisp.datasets.flow_transforms import CenterCrop, FlowAugmentation
from autodisp.datasets.samples import FlowSample
from autodisp.datasets.shapes3d_flow import Shapes3DFlow
from autodisp.evaluation.pooled_metrics import PooledMetrics
from autodisp.prediction import flow_program
from autodisp.prediction.flow_images import panel
from autodisp.prediction.outputs import FLOW_OUTPUTS
from autodisp.prediction.programs import build_writer, predict
from autodisp.tasks.dense import mean_by_sample
from autodisp.tasks.flow.sections import (
    FlowNetworkConfig,
    FlowTaskConfig,
    FlyingThings3DFlowConfig,
    Shapes3DFlowConfig,
    SintelFlowConfig,
)
from autodisp.tasks.flow.task import FlowTask, best_constant, flow_sums
from autodisp.tasks.kit import DatasetEntry, Interface, Prediction, Split, TaskKit, WorstSamples, augmented, cropped


def _shapes3d_flow(data: Shapes3DFlowConfig, *, seed: int, split: Split, strict: bool) -> Shapes3DFlow:
    return Shapes3DFlow(max_flow=data.max_flow, **data.arguments(seed=seed, split=split, samples="scenes"))


def _flyingthings3d_flow(
    data: FlyingThings3DFlowConfig, *, seed: int, split: Split, strict: bool
) -> FlyingThings3DFlow:
    part = "TRAIN" if split == "train" else "TEST"
    return FlyingThings3DFlow(data.root, split=part, render_pass=data.render_pass, exclude=data.exclude, strict=strict)


def _sintel_flow(data: SintelFlowConfig, *, seed: int, split: Split, strict: bool) -> SintelFlow:
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


def _metrics(config: Any, dataset: Any) -> PooledMetrics:
    regions = {
        "matched": lambda batch: batch._replace(valid=batch.valid & ~batch.unmatched),
        "unmatched": lambda batch: batch._replace(valid=batch.valid & batch.unmatched),
    }
    return PooledMetrics(flow_sums, units={"epe": "px"}, regions=regions if dataset.has_occlusion else {})


def _constant(config: Any, batches: Any, facts: Any) -> Any:
    constant = best_constant(batches)
    return lambda batch: constant.to(batch.flow).expand_as(batch.flow)


def _errors(prediction: Tensor, batch: FlowSample) -> Tensor:
    """Computes the EPE of each sample, (B,) pixels; infinite if a pixel with ground truth has no prediction."""
    return mean_by_sample(torch.linalg.vector_norm(prediction - batch.flow, dim=1, keepdim=True), batch.valid)


KIT = TaskKit(
    name=FlowTask.name,
    task=FlowTask,
    section=FlowTaskConfig,
    networks={"flow": FlowNetworkConfig},
    datasets=DATASETS,
    augment=augmented(FlowAugmentation),
    zoom=True,
    fixed=cropped(CenterCrop),
    metrics=_metrics,
    metric_place="pooled.epe",
    baselines={"constant": _constant},
    worst=WorstSamples(
        "epe",
        "EPE {:.2f} px",
        _errors,
        lambda cases: [panel(one.sample.first, one.sample.flow, one.prediction, one.sample.valid) for one in cases],
    ),
    inputs=lambda batch: (batch.first, batch.second),
    interface=Interface(
        ("first", "second"),
        "flow",
        (1, 2, "height", "width"),
        "px",
        any_batch=False,
        result="(1, 2, H, W), pixels to the right and down",
    ),
    level_weights=True,
    prediction=Prediction(
        "pair",
        ("left=first.png", "right=second.png"),
        FLOW_OUTPUTS,
        flow_program.find,
        partial(build_writer, FLOW_OUTPUTS),
        partial(predict, flow_program.files_of),
    ),
)
