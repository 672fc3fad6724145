"""Config sections of optical flow: task, datasets, network."""

from dataclasses import dataclass
from typing import Annotated, Literal

from autodisp.config.checks import Must, at_least, at_most, need
from autodisp.tasks.sections import LARGEST_SIDE, CroppedFilesSection, DenseNetworkSection, ScenesSection, TaskSection

_EVEN = Must("even, as cells come in pairs; 4 is usual", lambda cells: cells % 2 == 0)


@dataclass(frozen=True)
class FlowTaskConfig(TaskSection):
    """task=flow."""

    name: str = "flow"


@dataclass(frozen=True)
class Shapes3DFlowConfig(ScenesSection):
    """dataset=shapes3d_flow."""

    name: str = "shapes3d_flow"
    max_flow: Annotated[int, at_least(1), at_most(LARGEST_SIDE)] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.max_flow < self.width, "dataset.max_flow", self.max_flow, f"below dataset.width={self.width}")


@dataclass(frozen=True)
class FlyingThings3DFlowConfig(CroppedFilesSection):
    """dataset=flyingthings3d_flow."""

    name: str = "flyingthings3d_flow"
    render_pass: Literal["cleanpass", "finalpass"] = "cleanpass"


@dataclass(frozen=True)
class SintelFlowConfig(CroppedFilesSection):
    """dataset=sintel_flow."""

    name: str = "sintel_flow"
    render_pass: Literal["clean", "final"] = "clean"


@dataclass(frozen=True)
class FlowNetworkConfig(DenseNetworkSection):
    """network=flow."""

    name: str = "flow"
    encoder_cells: Annotated[int, at_least(2), at_most(12), _EVEN] = 4
    max_displacement: Annotated[int, at_least(1), at_most(32)] = 4
