"""The config sections of classification: task, datasets, network."""

from dataclasses import dataclass

from autodisp.config.checks import check_files, need_at_least, need_at_most


@dataclass(frozen=True)
class ClassificationTaskConfig:
    """task=classification."""

    name: str = "classification"
    auxiliary_weight: float = 0.0

    def __post_init__(self) -> None:
        need_at_least("task", self, auxiliary_weight=0.0)


@dataclass(frozen=True)
class ImagesConfig:
    """dataset=cifar10, cifar100, svhn."""

    name: str = "cifar10"
    root: str | None = None
    exclude: str | None = None
    flip: bool = True
    limit: int | None = None

    def __post_init__(self) -> None:
        check_files(self)


@dataclass(frozen=True)
class ClassificationNetworkConfig:
    """network=classification."""

    name: str = "classification"
    channels: int = 16
    layers: int = 8

    def __post_init__(self) -> None:
        need_at_least("network", self, channels=1, layers=3)
        need_at_most("network", self, channels=1024, layers=200)
