"""Config sections of optical flow: task, datasets, network."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from autodisp.config.checks import Must, at_least, at_most, need
from autodisp.tasks.disparity.sections import LARGEST_SIDE, MOST_OBJECTS, Crop
from autodisp.tasks.sections import Channels, DatasetSection, FilesSection, NetworkSection, TaskSection

_EVEN = Must("even, as cells come in pairs; 4 is usual", lambda cells: cells % 2 == 0)
_OBJECTS = Must(
    f"[least, largest], 0 <= least <= largest <= {MOST_OBJECTS}",
    lambda counts: len(counts) == 2 and 0 <= counts[0] <= counts[1] <= MOST_OBJECTS,
)


@dataclass(frozen=True)
class FlowTaskConfig(TaskSection):
    """task=flow."""

    name: str = "flow"


@dataclass(frozen=True)
class Shapes3DFlowConfig(DatasetSection):
    """dataset=shapes3d_flow."""

    name: str = "shapes3d_flow"
    length: Annotated[int, at_least(1), at_most(1_000_000)] = 400
    height: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 96
    width: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 192
    max_flow: Annotated[int, at_least(1), at_most(LARGEST_SIDE)] = 16
    crop: Crop = None
    cache: bool = True
    objects: Annotated[list[int], _OBJECTS] = field(default_factory=lambda: [8, 21])

    def __post_init__(self) -> None:
        need(self.max_flow < self.width, "dataset.max_flow", self.max_flow, f"below dataset.width={self.width}")
        need(
            self.crop is None or (self.crop[0] <= self.height and self.crop[1] <= self.width),
            "dataset.crop",
            self.crop,
            f"no larger than the images, {self.height}x{self.width}",
        )


@dataclass(frozen=True)
class FlyingThings3DFlowConfig(FilesSection):
    """dataset=flyingthings3d_flow."""

    name: str = "flyingthings3d_flow"
    render_pass: Literal["cleanpass", "finalpass"] = "cleanpass"
    crop: Crop = None


@dataclass(frozen=True)
class SintelFlowConfig(FilesSection):
    """dataset=sintel_flow."""

    name: str = "sintel_flow"
    render_pass: Literal["clean", "final"] = "clean"
    crop: Crop = None


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
