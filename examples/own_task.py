"""A custom task for all programs: a kit in a file.

The task is monocular disparity estimation from the left view. The programs take it as follows:

    autodisp-search task=own task.factory=own_task.py:KIT space=s2
    autodisp-train task=own task.factory=own_task.py:KIT genotype=runs/MY_SEARCH/genotype.json
    autodisp-evaluate task=own task.factory=own_task.py:KIT checkpoint=runs/MY_TRAINING/best.safetensors
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.cell import CellFactory
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.stereo_transforms import StereoAugmentation
from autodisp.evaluation.pooled_metrics import PooledMetrics
from autodisp.tasks.base import Figure, StoredTask, Sums, sum_of
from autodisp.tasks.disparity.kit import DATASETS
from autodisp.tasks.kit import Interface, TaskKit, augmented
from autodisp.tasks.own import OwnNetworkConfig, OwnTaskConfig


class GuessNetwork(nn.Module):
    """Stem, a normal and a reduction cell, and a prediction at a quarter of the resolution, upsampled."""

    def __init__(self, cells: CellFactory, *, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, padding=1)
        self.normal = cells.encoder_cell(
            "normal", inputs=(channels, channels), channels=channels, after_reduction=False
        )
        wide = self.normal.outputs
        self.reduce = cells.encoder_cell("reduce", inputs=(channels, wide), channels=channels, after_reduction=False)
        self.head = nn.Conv2d(self.reduce.outputs, 1, 1)

    def forward(self, left: Tensor, weights: Mapping[str, Tensor] | None = None) -> Tensor:
        x = self.stem(left - 0.5)
        x = self.head(self.reduce((x, self.normal((x, x), weights)), weights))
        return functional.interpolate(x, left.shape[-2:], mode="bilinear", align_corners=False)


@dataclass(kw_only=True, eq=False)
class Monocular(StoredTask):
    """Disparity of the left view without the right one; its fields are settings of the network."""

    channels: int = 4

    name = "monocular"
    kinds = ("normal", "reduce")  # kinds of cell
    figure = Figure("mae", "min", "px")  # metric for the selection

    def build_network(self, cells: CellFactory) -> nn.Module:
        return GuessNetwork(cells, channels=self.channels)  # a supernet or a discretised network, depending on cells

    def coarsest(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 4), -(-width // 4)

    def inputs(self, batch: StereoSample) -> tuple[Tensor, ...]:
        return (batch.left,)

    def loss(self, output: Tensor, batch: StereoSample) -> Tensor:
        error = functional.smooth_l1_loss(output, batch.disparity, reduction="none")
        return (error * batch.valid).sum() / batch.valid.sum().clamp(min=1)

    def measure(self, output: Tensor, batch: StereoSample) -> Sums:
        return {"mae": sum_of((output.detach() - batch.disparity).abs(), among=batch.valid)}

    def constant(self, batches: Iterable[StereoSample]) -> float:
        truth = torch.cat([batch.disparity[batch.valid] for batch in batches])
        return float((truth - truth.median()).abs().mean())


KIT = TaskKit(
    name=Monocular.name,
    task=Monocular,
    section=OwnTaskConfig,  # settings of task=own
    networks={"own": OwnNetworkConfig},  # settings of network=own: channels, an argument of the task
    datasets=DATASETS,  # all stereo datasets: shapes3d, flyingthings3d, ..., own
    augment=augmented(StereoAugmentation),
    metrics=lambda config, samples: PooledMetrics(Monocular().measure, units={"mae": "px"}),
    metric_place="pooled.mae",  # path in evaluation.json
    inputs=lambda batch: (batch.left,),
    interface=Interface(  # inputs and output of the exported network
        inputs=("left",),
        output="disparity",
        output_shape=("batch", 1, "height", "width"),
        unit="px",
        any_batch=True,
        result="(B, 1, H, W), pixels",
    ),
)
