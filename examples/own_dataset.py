"""A dataset of one's own: rectified pairs as PNG files, true disparities as PFM files.

    python examples/own_dataset.py FOLDER     # FOLDER/left/*.png, FOLDER/right/*.png, FOLDER/disparity/*.pfm
    autodisp-search dataset=own dataset.factory=examples/own_dataset.py:Rig dataset.root=FOLDER

The first prints the mean error of the network that ships. ``groups`` says which samples belong to one scene: a split
never puts one scene on both sides.
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
    """What every part of autodisp takes for a stereo dataset."""

    has_occlusion = False  # nothing is known of hidden pixels

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = sorted(path.stem for path in (root / "left").glob("*.png"))
        self.groups = self.names  # each pair is a scene of its own

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
    """Batches of the weight half and of the architecture half, as a search reads them; see own_task.py."""
    weights, alphas = deal(rig.groups, limit=None, seed=seed)
    return (
        Stream(Part(rig, weights), batch_size=batch_size, seed=2 * seed),
        Stream(Part(rig, alphas), batch_size=batch_size, seed=2 * seed + 1),
    )


def error_of_the_shipped_network(rig: Rig) -> float:
    """The end-point error over all pixels with a truth, in pixels."""
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
