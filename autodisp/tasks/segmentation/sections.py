"""Config sections of segmentation: task, datasets, network."""

from dataclasses import dataclass, field
from typing import Annotated

from autodisp.config.checks import Must, at_least, at_most, need
from autodisp.tasks.disparity.sections import LARGEST_SIDE, MOST_OBJECTS, Crop
from autodisp.tasks.sections import Channels, DatasetSection, FilesSection, NetworkSection, TaskSection

_ODD = Must("odd, as cells start and end with a reduction; 5 is usual", lambda cells: cells % 2 == 1)
_OBJECTS = Must(
    f"[least, largest], 0 <= least <= largest <= {MOST_OBJECTS}",
    lambda counts: len(counts) == 2 and 0 <= counts[0] <= counts[1] <= MOST_OBJECTS,
)


@dataclass(frozen=True)
class SegmentationTaskConfig(TaskSection):
    """task=segmentation."""

    name: str = "segmentation"
    class_weights: bool = True


@dataclass(frozen=True)
class Shapes3DClassesConfig(DatasetSection):
    """dataset=shapes3d_classes."""

    name: str = "shapes3d_classes"
    length: Annotated[int, at_least(1), at_most(1_000_000)] = 400
    height: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 96
    width: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 192
    crop: Crop = None
    cache: bool = True
    objects: Annotated[list[int], _OBJECTS] = field(default_factory=lambda: [8, 21])

    def __post_init__(self) -> None:
        need(
            self.crop is None or (self.crop[0] <= self.height and self.crop[1] <= self.width),
            "dataset.crop",
            self.crop,
            f"no larger than the images, {self.height}x{self.width}",
        )


@dataclass(frozen=True)
class SegmentationFilesConfig(FilesSection):
    """dataset=cityscapes; settings common to all segmentation datasets read from files."""

    crop: Crop = None


@dataclass(frozen=True)
class FoldersConfig(SegmentationFilesConfig):
    """dataset=folders."""

    name: str = "folders"
    classes: Annotated[int | None, at_least(2, null="the largest class of the masks, plus 1"), at_most(255)] = None


@dataclass(frozen=True)
class VocConfig(SegmentationFilesConfig):
    """dataset=voc."""

    name: str = "voc"
    train_list: str = "train"
    masks: str = "SegmentationClass"


@dataclass(frozen=True)
class SegmentationNetworkConfig(NetworkSection):
    """network=segmentation."""

    name: str = "segmentation"
    channels: Channels = 16
    stem_scale: Annotated[float, at_least(0.0), at_most(64)] = 1.0
    encoder_cells: Annotated[int, at_least(1), at_most(13), _ODD] = 5
    decoder_cells: Annotated[int, at_least(1)] = 3
    batch_norm: bool = True
    norm_first: bool = False

    def __post_init__(self) -> None:
        most = (self.encoder_cells + 1) // 2
        need(
            self.decoder_cells <= most,
            "network.decoder_cells",
            self.decoder_cells,
            f"at most {most}, the last of which is at 1/4",
        )
        whole = int(self.stem_scale * self.channels) >= 1
        need(whole, "network.stem_scale", self.stem_scale, "at least 1 / channels; 1 is usual")
