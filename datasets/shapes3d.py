"""Procedural stereo pairs in the manner of FlyingThings3D (Mayer et al. 2016), made on the fly.

Textured objects at several depths, slanted and curved, thin structures, untextured parts, sub-pixel disparities,
slightly different exposure, noise and sharpness of the two views; exact dense left disparity, occlusion and
out-of-frame masks. Departs from it in that objects are layers with a relief, not meshes, and light is painted on.

    python -m autodisp.datasets.shapes3d --out DIR --train 20 --test 5 --height 256 --width 512 --seed 0

writes pairs in the layout of FlyingThings3D; `autodisp.datasets.flyingthings3d` reads them back equal.
"""

import argparse
import hashlib
import json
import math
import operator
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from autodisp.commands import command
from autodisp.datasets.flyingthings3d import write_frame
from autodisp.datasets.noise import gaussian_noise
from autodisp.datasets.samples import SegmentedImage, StereoSample
from autodisp.datasets.shapes3d_camera import graded, photographed, to_bytes
from autodisp.datasets.shapes3d_rendering import Layer, render
from autodisp.datasets.shapes3d_scene import draw_scene
from autodisp.datasets.shapes3d_textures import draw_pattern_bank, read_photographs
from autodisp.errors import InputError

_SMALLEST_SIDE = 16
_VERSION = 1
"""Version of the generator, part of the key of stored samples: increased when the same settings give others."""
_SCENES_PER_SUBSET = 10_000
"""Scene folders of the official layout have four digits."""


def default_max_disparity(width: int) -> float:
    """Returns a quarter of the width, at most 192, as in the published frames and networks."""
    return min(width / 4, 192.0)


class Shapes3D:
    """The procedural stereo set; the same (seed, index) gives the same bits in any order and process.

    Every sample is a scene of its own; images lie on the 8-bit grid (k / 255), the disparity is valid everywhere.

    Args:
        length: number of samples; a longer set begins with the same ones.
        seed: >= 0; sets of different seeds share neither scenes nor textures.
        height, width: size of the images, pixels, at least 16.
        max_disparity: no disparity exceeds it, pixels; 2 .. width. None: `default_max_disparity`.
        objects: least and largest number of surfaces before the background.
        photometric: strength of the differences between the views other than geometry; 0 for none.
        nearest: the largest disparity of a scene is drawn log-uniformly from this share of ``max_disparity`` to all
            of it; 1 for the same in every scene.
        ground: share of scenes with a ground plane below a far, often plain background.
        materials: share of surfaces that are plain or glossy beyond those that always are.
        camera: strength of the differences between real cameras, see `photographed`; above 0 they replace
            ``photometric``.
        textures: a folder of photographs that most surfaces take their colours from; None for patterns alone.

    Raises:
        InputError: a value out of its range.
    """

    def __init__(
        self,
        *,
        length: int,
        seed: int,
        height: int,
        width: int,
        max_disparity: float | None = None,
        objects: tuple[int, int] = (8, 21),
        photometric: float = 1.0,
        nearest: float = 1.0,
        ground: float = 0.0,
        materials: float = 0.0,
        camera: float = 0.0,
        textures: str | None = None,
    ) -> None:
        if max_disparity is None:
            max_disparity = default_max_disparity(width)
        self.seed, self.height, self.width = seed, height, width
        self.max_disparity = float(max_disparity)
        self.objects, self.photometric = objects, photometric
        self.nearest, self.ground, self.materials, self.camera = nearest, ground, materials, camera
        self.textures = textures
        self._check(length, max_disparity)
        self.names: Sequence[str] = [f"shapes3d/{index:06d}" for index in range(length)]
        self.groups: Sequence[str] = self.names
        self.has_occlusion = True
        # Large enough that a large surface seldom repeats a texel, small enough to be fast at 96x192.
        self._bank_side = int(np.clip(2 ** round(math.log2(max(height, width) / 2)), 64, 512))

    def _check(self, length: int, max_disparity: float) -> None:
        for name, side in (("height", self.height), ("width", self.width)):
            if side < _SMALLEST_SIDE:
                raise InputError(
                    f"shapes3d: {name} is {side}, it must be at least {_SMALLEST_SIDE} pixels; 256x512 is usual"
                )
        if length < 1:
            raise InputError(f"shapes3d: length is {length}, it must be at least 1 sample")
        if self.seed < 0:
            raise InputError(f"shapes3d: seed is {self.seed}, it must not be negative")
        if not 2 <= max_disparity <= self.width:
            raise InputError(
                f"shapes3d: max_disparity is {max_disparity} pixels, it must be in 2 .. width ({self.width}); "
                f"leave it out for {default_max_disparity(self.width):g}"
            )
        if not 0 <= self.objects[0] <= self.objects[1] <= 200:
            counts = tuple(self.objects)
            raise InputError(f"shapes3d: objects is {counts}, it must be two numbers 0 <= least <= largest <= 200")
        if not 0 < self.nearest <= 1:
            raise InputError(
                f"shapes3d: nearest is {self.nearest}, it must be above 0 and at most 1 (1: the same range in all)"
            )
        if not 0 <= self.photometric <= 4:
            strength = f"photometric is {self.photometric}"
            raise InputError(f"shapes3d: {strength}, it must be in 0 .. 4 (0: none, 1: the default)")
        for name, share in (("ground", self.ground), ("materials", self.materials)):
            if not 0 <= share <= 1:
                raise InputError(f"shapes3d: {name} is {share}, it must be a share in 0 .. 1 (0: none)")
        if not 0 <= self.camera <= 4:
            raise InputError(f"shapes3d: camera is {self.camera}, it must be in 0 .. 4 (0: none, 1: usual cameras)")

    @property
    def key(self) -> str:
        """A short hash of everything that a sample depends on."""
        names = "seed height width max_disparity objects photometric nearest ground materials camera textures"
        settings = {name: getattr(self, name) for name in names.split()}
        return hashlib.sha256(json.dumps([_VERSION, settings]).encode()).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> StereoSample:
        """Draws one pair; see `scene` for its errors."""
        return self._draw(index)[0]

    def segmented(self, index: int) -> SegmentedImage:
        """Draws the left view of a pair with the kind of shape at each pixel, an index of `shapes3d_shapes.CLASSES`.

        The class is that of the surface whose disparity the pair has there: exact, with the same outline.
        """
        pair, kinds = self._draw(index)
        return SegmentedImage(pair.left, torch.from_numpy(kinds))

    def _draw(self, index: int) -> tuple[StereoSample, NDArray[np.uint8]]:
        """Draws one pair and the class map of its left view."""
        layers, rng = self.scene(index)
        scene = render(layers, self.height, self.width)
        left, right = self.exposed(rng, scene.left, scene.right)
        pair = StereoSample(
            left=left,
            right=right,
            disparity=torch.from_numpy(scene.disparity)[None],
            valid=torch.ones(1, self.height, self.width, dtype=torch.bool),
            occluded=torch.from_numpy(scene.occluded)[None],
            out_of_frame=torch.from_numpy(scene.out_of_frame)[None],
        )
        return pair, scene.kinds

    def scene(self, index: int) -> tuple[list[Layer], np.random.Generator]:
        """Draws the layers of one scene, see `draw_scene`; returns them and the source of its further random numbers.

        Raises:
            IndexError: not in 0 .. length - 1.
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"shapes3d has {len(self)} samples, there is no number {index}")
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        layers = draw_scene(
            rng,
            self._bank,
            height=self.height,
            width=self.width,
            max_disparity=self._reach(rng),
            objects=self.objects,
            ground=self.ground,
            materials=self.materials,
            photographs=self._photographs,
        )
        return layers, rng

    def exposed(
        self, rng: np.random.Generator, left: NDArray[np.float32], right: NDArray[np.float32]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns two rendered views in 0..255 as two cameras record them, (3, H, W) float32, every value k / 255."""
        if self.camera > 0:
            first, second = map(_tensor, photographed(rng, (left, right), self.camera))
            return first, second
        contrast = float(cv2.meanStdDev(left)[1].mean())
        # In proportion to the contrast, or the differences would dominate a scene of low contrast.
        difference = self.photometric * float(rng.random()) * min(contrast / 40, 1.0)
        return _expose(rng, left, difference), _expose(rng, right, difference)

    def _reach(self, rng: np.random.Generator) -> float:
        """The largest disparity of one scene."""
        if self.nearest == 1:
            return self.max_disparity
        return max(2.0, float(self.max_disparity * self.nearest ** rng.random()))

    @cached_property
    def _bank(self) -> NDArray[np.uint8]:
        """Draws the bank of patterns at the first sample, since it takes a second."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(1,))
        return draw_pattern_bank(np.random.default_rng(sequence), side=self._bank_side, copies=5)

    @cached_property
    def _photographs(self) -> Sequence[NDArray[np.uint8]]:
        """Reads the photographs at the first sample."""
        return [] if self.textures is None else read_photographs(Path(self.textures).expanduser())

    def __getstate__(self) -> dict[str, object]:
        # A spawned worker redraws the bank faster than it would receive it.
        return {name: value for name, value in vars(self).items() if name not in ("_bank", "_photographs")}


def _expose(rng: np.random.Generator, view: NDArray[np.float32], strength: float) -> torch.Tensor:
    """Records a rendered view in 0..255 as a camera does: (3, H, W) float32, every value k / 255."""
    if strength > 0:
        if rng.random() < 0.25:
            view = np.asarray(cv2.GaussianBlur(view, (0, 0), 0.1 + 0.3 * strength), np.float32)
        gain = 1 + strength * (rng.uniform(-0.01, 0.01) + rng.uniform(-0.003, 0.003, 3))
        view = graded(view, gain, math.exp(strength * rng.uniform(-0.015, 0.015)), strength * rng.uniform(-0.7, 0.7))
        view += gaussian_noise(rng, (*view.shape[:2], 3), strength * rng.uniform(0, 1.5))
    return _tensor(to_bytes(view))


def _tensor(view: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(view).permute(2, 0, 1).contiguous().float().div_(255)


def write(data: Shapes3D, root: Path, *, train: int) -> None:
    """Writes the first ``train`` samples as TRAIN and the others as TEST, every sample a scene of its own.

    Raises:
        InputError: the folder exists and is not empty, or one split exceeds what four-digit scene names hold.
    """
    most = max(train, len(data) - train)
    if most > 3 * _SCENES_PER_SUBSET:
        raise InputError(f"shapes3d: {most} samples in one split, the layout holds 30000; write several folders")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: exists and is not an empty folder; name another one or empty it first")
    for index in range(len(data)):
        split, scene = ("TRAIN", index) if index < train else ("TEST", index - train)
        subset = "ABC"[scene // _SCENES_PER_SUBSET]
        write_frame(root, split=split, subset=subset, scene=scene % _SCENES_PER_SUBSET, frame=6, sample=data[index])


def main(arguments: Sequence[str] | None = None) -> int:
    """The program behind ``python -m autodisp.datasets.shapes3d``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m autodisp.datasets.shapes3d",
        description="Writes procedural stereo pairs in the layout of FlyingThings3D.",
    )
    parser.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--train", type=int, default=20, help="pairs in TRAIN (%(default)s)")
    parser.add_argument("--test", type=int, default=5, help="pairs in TEST (%(default)s)")
    parser.add_argument("--height", type=int, default=256, help="pixels (%(default)s)")
    parser.add_argument("--width", type=int, default=512, help="pixels (%(default)s)")
    parser.add_argument("--max-disparity", type=float, help="pixels (a quarter of the width, at most 192)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args(arguments)
    try:
        if min(options.train, options.test) < 0 or options.train + options.test == 0:
            raise InputError(f"shapes3d: train {options.train}, test {options.test}: neither negative, nor both 0")
        data = Shapes3D(
            length=options.train + options.test,
            seed=options.seed,
            height=options.height,
            width=options.width,
            max_disparity=options.max_disparity,
        )
        write(data, options.out, train=options.train)
    except (InputError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(
        f"{options.train} TRAIN and {options.test} TEST pairs of {options.height}x{options.width} in {options.out}\n"
        f"{command('autodisp-search', 'task=disparity', 'dataset=flyingthings3d', ('dataset.root', options.out))}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
