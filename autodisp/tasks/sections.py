"""Config sections of tasks, datasets, networks and baselines: the settings that the programs read for any task."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from autodisp.config.checks import Must, PathTo, at_least, at_most, need
from autodisp.errors import WrongSetting

BLOCK_SIZES = (1, 3, 5, 7)
"""Sides of the blocks of baseline=sgbm, pixels."""
LARGEST_PENALTY = 3.0
"""OpenCV accumulates costs in 16 bits: block size 11 with penalty 8 silently gave wrong disparities."""
_BLOCK = Must(f"one of {', '.join(map(str, BLOCK_SIZES))}", lambda side: side in BLOCK_SIZES)
_PENALTY = Must(f"above 0 and at most {LARGEST_PENALTY:g}", lambda penalty: 0 < penalty <= LARGEST_PENALTY)
Channels = Annotated[int, at_least(1), at_most(1024)]
LARGEST_SIDE = 8192
"""Largest side of an image, pixels."""
MOST_OBJECTS = 200
_OBJECTS = Must(
    f"[least, largest], 0 <= least <= largest <= {MOST_OBJECTS}",
    lambda counts: len(counts) == 2 and 0 <= counts[0] <= counts[1] <= MOST_OBJECTS,
)
_CROP = Must("[height, width], each at least 32, or null", lambda crop: len(crop) == 2 and min(crop) >= 32)
Crop = Annotated[list[int] | None, _CROP]
SCENES_TEST_SEED = 2**31 - 1
"""Seed of the held-out scenes, the same for every run; a run with this seed would train on them."""
SCENES_TEST_LENGTH = 200


@dataclass(frozen=True)
class TaskSection:
    """task=...; ``name`` is that of its kit, or ``own``."""

    name: str


@dataclass(frozen=True)
class NetworkSection:
    """network=...; ``name`` is that of the section in its kit."""

    name: str
    channels: Channels = 8

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings that are arguments of the task: all but the name and those of the normalisation."""
        others = ("name", "batch_norm", "norm_first")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in others}


@dataclass(frozen=True)
class DenseNetworkSection(NetworkSection):
    """Settings common to the networks that are an encoder and a decoder of cells."""

    channels: Channels = 16
    stem_scale: Annotated[float, at_least(0.0), at_most(64)] = 1.0
    encoder_cells: int = 4
    decoder_cells: Annotated[int, at_least(1)] = 3
    batch_norm: bool = True
    norm_first: bool = False

    def __post_init__(self) -> None:
        most = self.encoder_cells // 2 + 1
        self._need(self.decoder_cells <= most, "decoder_cells", f"at most {most}, the last of which is at 1/4")
        whole = int(self.stem_scale * self.channels) >= 1
        self._need(whole, "stem_scale", f"at least 1 / channels; {type(self).stem_scale:g} is usual")

    def _need(self, fits: bool, key: str, wanted: str) -> None:
        need(fits, f"network.{key}", getattr(self, key), wanted)


@dataclass(frozen=True)
class DatasetSection:
    """dataset=...; ``name`` is that of the entry in its kit, ``limit`` the number of samples to use, None for all."""

    name: str
    limit: Annotated[int | None, at_least(1, null="all")] = None


@dataclass(frozen=True)
class FilesSection(DatasetSection):
    """Settings common to all datasets that are read from files."""

    root: Annotated[str | None, PathTo("the folder of the data")] = None
    exclude: Annotated[str | None, PathTo("a list of samples to leave out, or null")] = None


@dataclass(frozen=True)
class CroppedFilesSection(FilesSection):
    """Settings common to all datasets that are read from files and may be cropped."""

    crop: Crop = None


@dataclass(frozen=True)
class ScenesSection(DatasetSection):
    """Settings common to all datasets of generated scenes."""

    length: Annotated[int, at_least(1), at_most(1_000_000)] = 400
    height: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 96
    width: Annotated[int, at_least(16), at_most(LARGEST_SIDE)] = 192
    crop: Crop = None
    cache: bool = True
    objects: Annotated[list[int], _OBJECTS] = field(default_factory=lambda: [8, 21])

    def __post_init__(self) -> None:
        fits = self.crop is None or (self.crop[0] <= self.height and self.crop[1] <= self.width)
        need(fits, "dataset.crop", self.crop, f"no larger than the images, {self.height}x{self.width}")

    def arguments(self, *, seed: int, split: Literal["train", "test"], samples: str) -> dict[str, Any]:
        """Returns the arguments of the dataset; for the test split those of the held-out scenes.

        Raises:
            WrongSetting: the seed of the run is that of the held-out scenes.
        """
        if split == "test" and seed == SCENES_TEST_SEED:
            raise WrongSetting(f"seed={seed}: is that of the held-out {samples} of {self.name}; take another one")
        return {
            "length": self.length if split == "train" else SCENES_TEST_LENGTH,
            "seed": seed if split == "train" else SCENES_TEST_SEED,
            "height": self.height,
            "width": self.width,
            "objects": tuple(self.objects),
        }


@dataclass(frozen=True)
class SgbmConfig:
    """Settings of baseline=sgbm, see ``autodisp.prediction.semi_global_matching.SemiGlobalMatching``."""

    mode: Literal["hh", "sgbm", "3way"] = "hh"
    block_size: Annotated[int, _BLOCK] = 5
    penalty: Annotated[float, _PENALTY] = 3.0
