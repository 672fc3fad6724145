"""Config sections of segmentation: task, datasets, network."""

from dataclasses import dataclass
from typing import Annotated

from autodisp.config.checks import Must, at_least, at_most
from autodisp.tasks.sections import CroppedFilesSection, DenseNetworkSection, ScenesSection, TaskSection

_ODD = Must("odd, as cells start and end with a reduction; 5 is usual", lambda cells: cells % 2 == 1)


@dataclass(frozen=True)
class SegmentationTaskConfig(TaskSection):
    """task=segmentation."""

    name: str = "segmentation"
    class_weights: bool = True


@dataclass(frozen=True)
class Shapes3DClassesConfig(ScenesSection):
    """dataset=shapes3d_classes."""

    name: str = "shapes3d_classes"


@dataclass(frozen=True)
class FoldersConfig(CroppedFilesSection):
    """dataset=folders."""

    name: str = "folders"
    classes: Annotated[int | None, at_least(2, null="the largest class of the masks, plus 1"), at_most(255)] = None


@dataclass(frozen=True)
class VocConfig(CroppedFilesSection):
    """dataset=voc."""

    name: str = "voc"
    train_list: str = "train"
    masks: str = "SegmentationClass"


@dataclass(frozen=True)
class SegmentationNetworkConfig(DenseNetworkSection):
    """network=segmentation."""

    name: str = "segmentation"
    encoder_cells: Annotated[int, at_least(1), at_most(13), _ODD] = 5
