"""Custom stereo datasets: a class loaded from the user's file, with every sample checked."""

import hashlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.flaws import DisparityFlaws
from autodisp.datasets.layout import AnyPath, DifferentSizes
from autodisp.datasets.resolution import halve
from autodisp.datasets.samples import StereoDataset, StereoSample
from autodisp.errors import InputError, WrongSetting, in_one_line

_VIEW, _TRUTH, _MASK = ((3, torch.float32), (1, torch.float32), (1, torch.bool))
_FIELDS = dict(zip(StereoSample._fields, (_VIEW, _VIEW, _TRUTH, _MASK, _MASK, _MASK), strict=True))
_ROUNDING = 1e-3
"""Tolerance beyond 0..1 for resampled views."""


class Own:
    """The samples of a custom class with the members of `samples.StereoDataset`.

    Types, shapes and the range of the views must be those of `StereoSample`. Pixels with a negative or non-finite
    disparity become invalid, as in the other readers.

    Args:
        factory: `FILE.py:NAME` or `MODULE:NAME` of the class, or of a function that creates the dataset. The file is
            run.
        root: argument of the factory, as a Path; None calls it without arguments.
        exclude: list of names to leave out, see `exclusions`.
        half_resolution: if True, halves every sample, see `resolution.halve`.

    Raises:
        WrongSetting: the class does not exist, cannot be instantiated, or lacks a member.
    """

    def __init__(
        self,
        factory: str | None,
        root: AnyPath | None,
        *,
        exclude: AnyPath | None = None,
        half_resolution: bool = False,
    ) -> None:
        self._again = partial(Own, factory, root, exclude=exclude, half_resolution=half_resolution)
        self._origin = f"dataset.factory={factory}"
        if factory is None:
            raise WrongSetting(
                "dataset.factory is not set: it must be the class to read with, such as rig.py:Rig; docs/data.md lists "
                "the members of such a class"
            )
        if root is not None and not str(root).strip():
            raise WrongSetting(
                f"dataset.root={str(root)!r}: must be what {factory} is called with, or null for nothing"
            )
        where, _, name = factory.rpartition(":")
        self._file = os.path.abspath(os.path.expanduser(where))
        make = self._find(where, name)
        try:
            self._made: StereoDataset = make() if root is None else make(Path(os.path.expanduser(root)))
            self._require_members()
            names, groups = list(self._made.names), list(self._made.groups)
            length, self.has_occlusion = len(self._made), self._made.has_occlusion
        except (InputError, MemoryError):
            raise
        except (Exception, SystemExit) as error:  # user code may raise anything
            called = "called without a dataset.root" if root is None else f"called with dataset.root={root}"
            raise WrongSetting(f"{self._origin}: {called}, {self._words(error)}") from error
        self._require_names(length, names, groups)
        ignored = read_exclusions(exclude, set(names))
        self._kept = [index for index, name in enumerate(names) if name not in ignored]
        if not self._kept:
            raise WrongSetting(f"{self._origin}: has no sample, or none is left; is dataset.root={root} the right one?")
        self.names = [names[index] for index in self._kept]
        self.groups = [groups[index] for index in self._kept]
        self._half_resolution = half_resolution

    def __reduce__(self) -> tuple[Any, ...]:
        """Makes a spawned process load the file again, since its module has no name there."""
        return self._again, ()

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> StereoSample:
        """Reads one sample.

        Raises:
            InputError: reading failed, or the result is not a StereoSample.
        """
        sample = self._read(index)
        self._require_sample(index, sample)
        left, right, disparity, valid, occluded, out_of_frame = (plane.detach() for plane in sample)
        valid = valid & disparity.isfinite() & (disparity >= 0)
        if not self.has_occlusion:
            occluded = out_of_frame = torch.zeros_like(valid)
        sample = StereoSample(left, right, disparity.where(valid, 0.0), valid, occluded, out_of_frame)
        return halve(sample) if self._half_resolution else sample

    def flaws(self, index: int) -> DisparityFlaws:
        """Counts valid pixels with impossible disparities."""
        sample = self._read(index)
        return DisparityFlaws.of(sample.disparity[sample.valid])

    def _read(self, index: int) -> StereoSample:
        try:
            return self._made[self._kept[index]]
        except (InputError, MemoryError):
            raise
        except (Exception, SystemExit) as error:  # user code may raise anything
            raise InputError(f"{self._origin}: sample '{self.names[index]}' {self._words(error)}") from error

    def _find(self, where: str, name: str) -> Callable[..., Any]:
        """Imports the class or function named in the setting."""
        is_file = where.endswith(".py")
        if is_file and not os.path.isfile(self._file):
            raise WrongSetting(f"{self._origin}: there is no file {self._file}; write FILE.py:CLASS")
        try:
            module = run_file(self._file) if is_file else importlib.import_module(where)
        except MemoryError:
            raise
        except (Exception, SystemExit) as error:  # user code may raise anything
            absent = not is_file and isinstance(error, ModuleNotFoundError) and error.name == where.partition(".")[0]
            hint = "; for a file write FILE.py:CLASS" if absent else ""
            raise WrongSetting(f"{self._origin}: importing it {self._words(error)}{hint}") from error
        self._file = getattr(module, "__file__", None) or self._file
        make = getattr(module, name, None)
        if not callable(make):
            raise WrongSetting(f"{self._origin}: {where} has no class '{name}'; write FILE.py:CLASS")
        return make  # type: ignore[no-any-return]

    def _words(self, error: BaseException) -> str:
        """Describes the error with its line in the user's file."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if os.path.abspath(frame.filename) == self._file]
        place = f" at line {lines[-1]} of {self._file}" if lines else ""
        words = in_one_line(error)
        return f"raised {type(error).__name__}{': ' if words else ''}{words}{place}"

    def _require_members(self) -> None:
        lacks = [
            name for name in ("names", "groups", "has_occlusion", "__len__", "__getitem__")
            if name not in dir(self._made) and not hasattr(self._made, name)
        ]  # fmt: skip
        if lacks:
            raise WrongSetting(
                f"{self._origin}: has no {', no '.join(lacks)}; docs/data.md lists what such a class needs"
            )

    def _require_names(self, length: int, names: list[Any], groups: list[Any]) -> None:
        if not len(names) == len(groups) == length:
            raise WrongSetting(
                f"{self._origin}: has {length} samples, {len(names)} names and {len(groups)} groups; each sample needs "
                "one of either"
            )
        for kind, words in (("names", names), ("groups", groups)):
            for index, word in enumerate(words):
                if not isinstance(word, str):
                    raise WrongSetting(f"{self._origin}: {kind}[{index}] is {in_one_line(repr(word))}; it must be text")
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if first.setdefault(name, index) != index:
                both = f"names[{first[name]}] and names[{index}] are both {name!r}"
                raise WrongSetting(f"{self._origin}: {both}; each needs one of its own")
        if not isinstance(self.has_occlusion, bool | np.bool_):
            is_a = type(self.has_occlusion).__name__
            raise WrongSetting(f"{self._origin}: has_occlusion is a {is_a}; it must be True or False, or a property")
        self.has_occlusion = bool(self.has_occlusion)

    def _require_sample(self, index: int, sample: Any) -> None:
        here = f"{self._origin}: sample '{self.names[index]}'"
        if not isinstance(sample, StereoSample):
            kind_of = type(sample).__name__
            raise InputError(f"{here} is a {kind_of}; it must be a StereoSample of autodisp.datasets.samples")
        for field, (channels, kind) in _FIELDS.items():
            found = getattr(sample, field)
            if not _is_plane(found, channels, kind):
                is_a = type(found).__name__
                if isinstance(found, Tensor):
                    is_a = f"{tuple(found.shape)} {found.dtype} on {found.device}"
                raise InputError(
                    f"{here}: {field} is {is_a}; it must be a tensor ({channels}, H, W) of {kind} on the CPU"
                )
            if found.shape[1:] != sample.left.shape[1:]:
                sizes = f"{field} is {_size(found)} but left is {_size(sample.left)}"
                raise DifferentSizes(f"{here}: {sizes} (width x height); they must be of one size")
        if self._half_resolution and min(sample.left.shape[1:]) < 2:
            raise InputError(f"{here}: {_size(sample.left)} cannot be halved; set dataset.half_resolution=false")
        for field in ("left", "right"):
            low, high = (float(value) for value in torch.aminmax(getattr(sample, field).detach()))
            if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
                raise InputError(f"{here}: {field} goes from {low:g} to {high:g}; views must lie in 0..1")


def _is_plane(found: Any, channels: int, kind: torch.dtype) -> bool:
    is_tensor = isinstance(found, Tensor) and found.device.type == "cpu" and found.dtype == kind
    return is_tensor and found.ndim == 3 and found.shape[0] == channels and found.numel() > 0


def _size(plane: Tensor) -> str:
    return f"{plane.shape[2]}x{plane.shape[1]}"


def run_file(path: str) -> ModuleType:
    """Runs a file and returns its module; while running, it may import modules from its folder.

    Afterwards the current folder, where relative paths begin, and torch's gradient mode are those of before.
    """
    name = f"_own_dataset_{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    folder = os.path.dirname(path)
    added = [] if folder in sys.path else [folder]
    sys.path += added
    try:
        with chdir("."), torch.enable_grad():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        for place in added:
            sys.path.remove(place)
    return module
