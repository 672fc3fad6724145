"""The ratio of `prediction.sanity` for correct pairs, and for pairs that are darkened, shifted or swapped.

python -m benchmarks.swapped_views [FLYINGTHINGS3D_ROOT]
"""

import sys

import torch

import autodisp
from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.prediction.sanity import moved_over_unmoved


def main(roots: list[str]) -> None:
    """Prints a row per pair: the share of the difference between the views that the predicted disparities leave."""
    shapes = Shapes3D(length=6, seed=9, height=256, width=512, max_disparity=96)
    pairs: dict[str, StereoSample] = {f"shapes3d {index}": shapes[index] for index in range(len(shapes))}
    for data in (FlyingThings3D(root, split=split) for root in roots for split in ("TRAIN", "TEST")):
        pairs |= {name: data[index] for index, name in enumerate(data.names)}
    model = autodisp.load()
    print("| pair | right | one view 30 % darker | rows shifted by 3 | swapped |\n| --- | --- | --- | --- | --- |")
    for name, sample in pairs.items():
        left, right = sample.left, sample.right
        kinds = ((left, right), (left, 0.7 * right), (left, right.roll(3, 1)), (right, left))
        ratios = [moved_over_unmoved(a, b, model(a, b)[0]) for a, b in kinds]
        print(f"| {name} | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
