"""A custom dataset: rectified pairs as PNG files, ground-truth disparities as PFM files.

    python examples/own_dataset.py FOLDER     # FOLDER/left/*.png, FOLDER/right/*.png, FOLDER/disparity/*.pfm
    autodisp-search dataset=own dataset.factory=examples/own_dataset.py:Rig dataset.root=FOLDER

The first command prints the mean error of the shipped network. ``groups`` assigns samples to scenes: a split never
separates samples of one scene.
"""

import sys
from pathlib import Path
from typing import Any

import torch

import autodisp
from autodisp.datasets.images import read_rgb
from autodisp.datasets.pfm import read_pfm
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.splits import Part, deal
from autodisp.datasets.streams import Stream


class Rig:
    """A stereo dataset with the members that autodisp requires."""

    has_occlusion = False  # there are no occlusion masks

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(path.stem for path in (root / "left").glob("*.png"))
        self.groups = self.names  # each pair is a separate scene

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> StereoSample:
        name = self.names[index]
        left, right = (read_rgb(self.root / side / f"{name}.png") for side in ("left", "right"))
        truth = torch.from_numpy(read_pfm(self.root / "disparity" / f"{name}.pfm"))[None]
        valid = truth.isfinite() & (truth > 0)
        unknown = torch.zeros_like(valid)
        return StereoSample(left, right, truth.where(valid, 0.0), valid, unknown, unknown)


def halves(rig: Rig, *, batch_size: int, seed: int = 0) -> tuple[Stream[StereoSample], Stream[StereoSample]]:
    """Returns batches of the weight split and of the architecture split, as read by a search; see own_task.py."""
    weights, alphas = deal(rig.groups, limit=None, seed=seed)
    return (
        Stream(Part(rig, weights), batch_size=batch_size, seed=2 * seed),
        Stream(Part(rig, alphas), batch_size=batch_size, seed=2 * seed + 1),
    )


def error_of_the_shipped_network(rig: Rig) -> float:
    """Computes the end-point error over all pixels with ground truth, in pixels."""
    model: Any = autodisp.load()
    total, count = 0.0, 0
    for sample in (rig[index] for index in range(len(rig))):
        error = (model(sample.left, sample.right)[0] - sample.disparity).abs()[sample.valid]
        total, count = total + float(error.sum(dtype=torch.float64)), count + error.numel()
    return total / count if count else float("nan")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    print(f"{error_of_the_shipped_network(Rig(Path(sys.argv[1]))):.2f} px")
