"""Config sections of classification: task, datasets, network."""

from dataclasses import dataclass
from typing import Annotated

from autodisp.config.checks import at_least, at_most
from autodisp.tasks.sections import Channels, FilesSection, NetworkSection, TaskSection


@dataclass(frozen=True)
class ClassificationTaskConfig(TaskSection):
    """task=classification."""

    name: str = "classification"
    auxiliary_weight: Annotated[float, at_least(0.0)] = 0.0


@dataclass(frozen=True)
class ImagesConfig(FilesSection):
    """dataset=cifar10, cifar100, svhn."""

    flip: bool = True


@dataclass(frozen=True)
class ClassificationNetworkConfig(NetworkSection):
    """network=classification."""

    name: str = "classification"
    channels: Channels = 16
    layers: Annotated[int, at_least(3), at_most(200)] = 8
