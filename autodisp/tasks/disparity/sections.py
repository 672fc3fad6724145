"""Config sections of disparity estimation: task, datasets, network."""

import math
import os
from dataclasses import dataclass, field
from typing import Annotated, Literal

from autodisp.config.checks import Must, PathTo, at_least, at_most, checked_factory, need
from autodisp.tasks.sections import (
    LARGEST_SIDE,
    Channels,
    CroppedFilesSection,
    DenseNetworkSection,
    ScenesSection,
    TaskSection,
)

_SUBSETS = Must(
    "a list of A, B, C, each at most once",
    lambda letters: 0 < len(letters) == len(set(letters)) and set(letters) <= set("ABC"),
)
_SCALE = Must("above 0 and finite, or null for the error itself", lambda scale: 0 < scale < math.inf)
_NEAREST = Must("above 0 and at most 1", lambda share: 0 < share <= 1)
_CAMERA = Must("at least 0 and at most 4", lambda strength: 0 <= strength <= 4)
_SHARE = Must("a share, 0 to 1", lambda share: 0 <= share <= 1)
_EVEN = Must("even, as cells come in pairs; 6 is usual", lambda cells: cells % 2 == 0)
MaxDisparity = Annotated[int, at_least(4), at_most(LARGEST_SIDE)]


@dataclass(frozen=True)
class DisparityTaskConfig(TaskSection):
    """task=disparity."""

    name: str = "disparity"
    volume_weight: Annotated[float | None, at_least(0.0, null="1")] = None
    robust_scale: Annotated[float | None, _SCALE] = None
    loss: Literal["ground_truth", "photometric"] = "ground_truth"
    smoothness_weight: Annotated[float | None, at_least(0.0, null="0.01")] = None
    teacher_weight: Annotated[float | None, at_least(0.0, null="0.3")] = None

    def __post_init__(self) -> None:
        for key in ("smoothness_weight", "teacher_weight"):
            value = getattr(self, key)
            fits = value is None or self.loss == "photometric"
            need(fits, f"task.{key}", value, "null without task.loss=photometric")


@dataclass(frozen=True)
class Shapes3DConfig(ScenesSection):
    """dataset=shapes3d."""

    name: str = "shapes3d"
    height: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 192
    width: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 384
    max_disparity: MaxDisparity = 96
    store: Annotated[str | None, PathTo("a folder to keep the pairs in")] = None
    nearest: Annotated[float, _NEAREST] = 1.0
    ground: Annotated[float, _SHARE] = 0.0
    materials: Annotated[float, _SHARE] = 0.0
    camera: Annotated[float, _CAMERA] = 0.0
    textures: Annotated[str | None, PathTo("a folder of photographs")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        below = f"below dataset.width={self.width}"
        need(self.max_disparity < self.width, "dataset.max_disparity", self.max_disparity, below)


@dataclass(frozen=True)
class StereoFilesConfig(CroppedFilesSection):
    """dataset=kitti2012, kitti2015, middlebury2014; settings common to all stereo datasets read from files."""

    half_resolution: bool = False
    max_disparity: MaxDisparity = 192


@dataclass(frozen=True)
class FlyingThings3DConfig(StereoFilesConfig):
    """dataset=flyingthings3d."""

    name: str = "flyingthings3d"
    render_pass: Literal["cleanpass", "finalpass"] = "cleanpass"
    subsets: Annotated[list[str], _SUBSETS] = field(default_factory=lambda: ["A", "B", "C"])
    official_exclusions: Annotated[str | None, PathTo("the official list of frames to leave out, or null")] = None
    layout: Literal["auto", "full", "subset"] = "auto"


@dataclass(frozen=True)
class SintelConfig(StereoFilesConfig):
    """dataset=sintel."""

    name: str = "sintel"
    render_pass: Literal["clean", "final"] = "clean"


@dataclass(frozen=True)
class Middlebury2006Config(StereoFilesConfig):
    """dataset=middlebury2006; Middlebury 2005 has the same layout."""

    name: str = "middlebury2006"
    size: Literal["full", "half", "third"] = "half"


@dataclass(frozen=True)
class OwnConfig(StereoFilesConfig):
    """dataset=own."""

    name: str = "own"
    factory: str | None = None

    def __post_init__(self) -> None:
        what = "a file and a class in it, such as rig.py:Rig"
        object.__setattr__(self, "factory", checked_factory("dataset.factory", self.factory, what=what))
        if self.root is not None and self.root.strip():
            object.__setattr__(self, "root", os.path.abspath(os.path.expanduser(self.root)))


@dataclass(frozen=True)
class PairsConfig(StereoFilesConfig):
    """dataset=pairs."""

    name: str = "pairs"
    left: Annotated[str | None, PathTo("the left views")] = None
    right: Annotated[str | None, PathTo("the right views")] = None

    def __post_init__(self) -> None:
        one_folder = self.root is not None
        for key, other in (("left", self.right), ("right", self.left)):
            value = getattr(self, key)
            need(value is None or not one_folder, f"dataset.{key}", value, f"null with dataset.root={self.root}")
            need(value is not None or other is None, f"dataset.{key}", value, "given along with the other views")


@dataclass(frozen=True)
class DisparityNetworkConfig(DenseNetworkSection):
    """network=disparity."""

    name: str = "disparity"
    channels: Channels = 24
    stem_scale: Annotated[float, at_least(0.0), at_most(64)] = 2.0
    encoder_cells: Annotated[int, at_least(2), at_most(12), _EVEN] = 6
    max_displacement: Annotated[int, at_least(1), at_most(512)] = 40
    head: Literal["regression", "matching", "refined"] = "regression"
    aggregation: Annotated[int, at_least(0), at_most(256)] = 0
    groups: Annotated[int, at_least(0), at_most(64)] = 0
    refinement: Annotated[int, at_least(2), at_most(256)] = 16
    siamese_cells: Annotated[int, at_least(1), at_most(16)] = 1
    stages: Annotated[int, at_least(1), at_most(8)] = 1
    frozen_stages: Annotated[int, at_least(0)] = 0
    to_full_resolution: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        read = self.head == "refined" and self.aggregation > 0
        wanted = "0 without network.head=refined and network.aggregation, which read them"
        self._need(read or self.groups == 0, "groups", wanted)
        has_volume = self.head != "regression"
        self._need(
            has_volume or self.aggregation == 0, "aggregation", "0 for network.head=regression, which has no volume"
        )
        below = f"below network.stages={self.stages}: the last one is always trained; 0 freezes none"
        self._need(self.frozen_stages < self.stages, "frozen_stages", below)
        wanted = "false for a network without refinement stages (network.stages=1)"
        self._need(self.stages > 1 or not self.to_full_resolution, "to_full_resolution", wanted)
        most = self.encoder_cells // 2 + 1
        wanted = f"false for network.decoder_cells={self.decoder_cells}, which do not reach 1/4; take {most} of them"
        self._need(self.decoder_cells == most or not self.to_full_resolution, "to_full_resolution", wanted)
