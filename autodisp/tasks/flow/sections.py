"""Config sections of optical flow: task, datasets, network."""

from dataclasses import dataclass
from typing import Annotated, Literal

from autodisp.config.checks import Must, at_least, at_most, need
from autodisp.tasks.disparity.sections import LARGEST_SIDE
from autodisp.tasks.sections import Channels, NetworkSection, TaskSection
from autodisp.tasks.segmentation.sections import SegmentationFilesConfig, Shapes3DClassesConfig

_EVEN = Must("even, as cells come in pairs; 4 is usual", lambda cells: cells % 2 == 0)


@dataclass(frozen=True)
class FlowTaskConfig(TaskSection):
    """task=flow."""

    name: str = "flow"


@dataclass(frozen=True)
class Shapes3DFlowConfig(Shapes3DClassesConfig):
    """dataset=shapes3d_flow."""

    name: str = "shapes3d_flow"
    max_flow: Annotated[int, at_least(1), at_most(LARGEST_SIDE)] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        need(self.max_flow < self.width, "dataset.max_flow", self.max_flow, f"below dataset.width={self.width}")


@dataclass(frozen=True)
class FlyingThings3DFlowConfig(SegmentationFilesConfig):
    """dataset=flyingthings3d_flow."""

    name: str = "flyingthings3d_flow"
    render_pass: Literal["cleanpass", "finalpass"] = "cleanpass"


@dataclass(frozen=True)
class SintelFlowConfig(SegmentationFilesConfig):
    """dataset=sintel_flow."""

    name: str = "sintel_flow"
    render_pass: Literal["clean", "final"] = "clean"


@dataclass(frozen=True)
class FlowNetworkConfig(NetworkSection):
    """network=flow."""

    name: str = "flow"
    channels: Channels = 16
    stem_scale: Annotated[float, at_least(0.0), at_most(64)] = 1.0
    encoder_cells: Annotated[int, at_least(2), at_most(12), _EVEN] = 4
    decoder_cells: Annotated[int, at_least(1)] = 3
    max_displacement: Annotated[int, at_least(1), at_most(32)] = 4
    batch_norm: bool = True
    norm_first: bool = False

    def __post_init__(self) -> None:
        most = self.encoder_cells // 2 + 1
        need(
            self.decoder_cells <= most,
            "network.decoder_cells",
            self.decoder_cells,
            f"at most {most}, the last of which is at 1/4",
        )
        whole = int(self.stem_scale * self.channels) >= 1
        need(whole, "network.stem_scale", self.stem_scale, "at least 1 / channels; 1 is usual")
