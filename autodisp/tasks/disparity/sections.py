"""The config sections of disparity estimation: task, datasets, network."""

import os
from dataclasses import dataclass, field
from typing import Any

from autodisp.config.checks import (
    check_files,
    checked_factory,
    need,
    need_at_least,
    need_at_most,
    need_choice,
    need_path,
)

MOST_OBJECTS = 200
LARGEST_SIDE = 8192
"""Of a picture, pixels."""


@dataclass(frozen=True)
class DisparityTaskConfig:
    """task=disparity."""

    name: str = "disparity"
    volume_weight: float | None = None

    def __post_init__(self) -> None:
        if self.volume_weight is not None:
            need_at_least("task", self, volume_weight=0.0)


@dataclass(frozen=True)
class Shapes3DConfig:
    """dataset=shapes3d."""

    name: str = "shapes3d"
    length: int = 400
    height: int = 192
    width: int = 384
    max_disparity: int = 96
    crop: list[int] | None = None
    limit: int | None = None
    cache: bool = True
    store: str | None = None
    objects: list[int] = field(default_factory=lambda: [8, 21])
    nearest: float = 1.0
    ground: float = 0.0
    materials: float = 0.0
    camera: float = 0.0
    textures: str | None = None

    def __post_init__(self) -> None:
        need_path("dataset.store", self.store, what="a folder to keep the pairs in, or null")
        need_path("dataset.textures", self.textures, what="a folder of photographs, or null")
        counts = len(self.objects) == 2 and 0 <= self.objects[0] <= self.objects[1] <= MOST_OBJECTS
        wanted = f"[least, largest], 0 <= least <= largest <= {MOST_OBJECTS}"
        need(counts, "dataset.objects", self.objects, wanted)
        need(0 < self.nearest <= 1, "dataset.nearest", self.nearest, "above 0 and at most 1")
        for name in ("ground", "materials"):
            need(0 <= getattr(self, name) <= 1, f"dataset.{name}", getattr(self, name), "a share, 0 to 1")
        need(0 <= self.camera <= 4, "dataset.camera", self.camera, "at least 0 and at most 4")
        need_at_least("dataset", self, length=1, height=16, width=16)
        need_at_most("dataset", self, length=1_000_000, height=LARGEST_SIDE, width=LARGEST_SIDE)
        below = f"below dataset.width={self.width}"
        need(self.max_disparity < self.width, "dataset.max_disparity", self.max_disparity, below)
        _check_stereo(self)
        need(
            self.crop is None or (self.crop[0] <= self.height and self.crop[1] <= self.width),
            "dataset.crop",
            self.crop,
            f"no larger than the pictures, {self.height}x{self.width}",
        )


@dataclass(frozen=True)
class FlyingThings3DConfig:
    """dataset=flyingthings3d."""

    name: str = "flyingthings3d"
    root: str | None = None
    render_pass: str = "cleanpass"
    subsets: list[str] = field(default_factory=lambda: ["A", "B", "C"])
    excluded: str | None = None
    layout: str = "auto"
    exclude: str | None = None
    half_resolution: bool = False
    max_disparity: int = 192
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        need_choice("dataset.render_pass", self.render_pass, ("cleanpass", "finalpass"))
        need_choice("dataset.layout", self.layout, ("auto", "full", "subset"))
        for subset in self.subsets:
            need_choice("dataset.subsets", subset, ("A", "B", "C"))
        once = 0 < len(self.subsets) == len(set(self.subsets))
        need(once, "dataset.subsets", self.subsets, "a list of A, B, C, each at most once")
        need_path("dataset.excluded", self.excluded, what="the official list of frames to leave out, or null")
        _check_stereo(self)


@dataclass(frozen=True)
class SintelConfig:
    """dataset=sintel."""

    name: str = "sintel"
    root: str | None = None
    render_pass: str = "clean"
    exclude: str | None = None
    half_resolution: bool = False
    max_disparity: int = 192
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        need_choice("dataset.render_pass", self.render_pass, ("clean", "final"))
        _check_stereo(self)


@dataclass(frozen=True)
class KittiConfig:
    """dataset=kitti2012, kitti2015."""

    name: str = "kitti2015"
    root: str | None = None
    exclude: str | None = None
    half_resolution: bool = False
    max_disparity: int = 192
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        _check_stereo(self)


@dataclass(frozen=True)
class Middlebury2014Config:
    """dataset=middlebury2014."""

    name: str = "middlebury2014"
    root: str | None = None
    exclude: str | None = None
    half_resolution: bool = False
    max_disparity: int = 256
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        _check_stereo(self)


@dataclass(frozen=True)
class Middlebury2006Config:
    """dataset=middlebury2006, which 2005 looks like."""

    name: str = "middlebury2006"
    root: str | None = None
    size: str = "half"
    exclude: str | None = None
    half_resolution: bool = False
    max_disparity: int = 128
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        need_choice("dataset.size", self.size, ("full", "half", "third"))
        _check_stereo(self)


@dataclass(frozen=True)
class OwnConfig:
    """dataset=own."""

    name: str = "own"
    factory: str | None = None
    root: str | None = None
    exclude: str | None = None
    half_resolution: bool = False
    max_disparity: int = 192
    crop: list[int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        what = "a file and a class in it, such as rig.py:Rig"
        object.__setattr__(self, "factory", checked_factory("dataset.factory", self.factory, what=what))
        _check_stereo(self)
        if self.root is not None and self.root.strip():
            object.__setattr__(self, "root", os.path.abspath(os.path.expanduser(self.root)))


def _check_stereo(config: Any) -> None:
    need_at_least("dataset", config, max_disparity=4)
    need_at_most("dataset", config, max_disparity=LARGEST_SIDE)
    crop = config.crop
    need(
        crop is None or (len(crop) == 2 and min(crop) >= 32),
        "dataset.crop",
        crop,
        "[height, width], each at least 32, or null",
    )
    check_files(config)


@dataclass(frozen=True)
class DisparityNetworkConfig:
    """network=disparity."""

    name: str = "disparity"
    channels: int = 24
    stem_scale: float = 2.0
    encoder_cells: int = 6
    decoder_cells: int = 3
    max_displacement: int = 40
    head: str = "regression"
    batch_norm: bool = True
    norm_first: bool = False
    aggregation: int = 0
    groups: int = 0
    refinement: int = 16
    siamese_cells: int = 1
    stages: int = 1
    frozen_stages: int = 0
    to_full_resolution: bool = False

    def __post_init__(self) -> None:
        need_at_least("network", self, channels=1, stem_scale=0.0, encoder_cells=2, decoder_cells=1, max_displacement=1)
        need_at_most("network", self, channels=1024, stem_scale=64, encoder_cells=12, max_displacement=512)
        even = "even, as cells come in pairs; 6 is usual"
        need(self.encoder_cells % 2 == 0, "network.encoder_cells", self.encoder_cells, even)
        most = self.encoder_cells // 2 + 1
        need(
            self.decoder_cells <= most,
            "network.decoder_cells",
            self.decoder_cells,
            f"at most {most}, the last of which is at 1/4",
        )
        need_choice("network.head", self.head, ("regression", "matching", "refined"))
        need_at_least("network", self, stages=1, frozen_stages=0, aggregation=0, groups=0, refinement=2)
        need_at_least("network", self, siamese_cells=1)
        need_at_most("network", self, stages=8, aggregation=256, groups=64, refinement=256, siamese_cells=16)
        need(
            self.groups == 0 or (self.head == "refined" and self.aggregation > 0),
            "network.groups",
            self.groups,
            "0 without network.head=refined and network.aggregation, which read them",
        )
        need(
            self.head != "regression" or self.aggregation == 0,
            "network.aggregation",
            self.aggregation,
            "0 for network.head=regression, which has no volume",
        )
        need(
            self.frozen_stages < self.stages,
            "network.frozen_stages",
            self.frozen_stages,
            f"below network.stages={self.stages}: the last one is always trained; 0 freezes none",
        )
        need(
            self.stages > 1 or not self.to_full_resolution,
            "network.to_full_resolution",
            self.to_full_resolution,
            "false for a network without refinement stages (network.stages=1)",
        )
        need(
            self.decoder_cells == most or not self.to_full_resolution,
            "network.to_full_resolution",
            self.to_full_resolution,
            f"false for network.decoder_cells={self.decoder_cells}, which do not reach 1/4; take {most} of them",
        )
        whole = int(self.stem_scale * self.channels) >= 1
        need(whole, "network.stem_scale", self.stem_scale, "at least 1 / channels; 2 is usual")
