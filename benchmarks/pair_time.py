"""Times a stereo pair of 960x540: OpenCV's SGBM, the shipped network, its corrections, and several scales, in turns.

    python -m benchmarks.pair_time --threads 1

Medians and least values in milliseconds: processor time with one thread, time of the clock with more.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import torch

import autodisp
from autodisp.cli.malloc import keep_freed_memory
from autodisp.datasets.samples import StereoSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.prediction.corrections import FusionMatcher, ResidualMatcher
from autodisp.prediction.scales import MultiScaleMatcher
from autodisp.prediction.semi_global_matching import SemiGlobalMatching


def main() -> None:
    """Prints a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(chosen.threads)
    cv2.setNumThreads(chosen.threads)
    sample = Shapes3D(length=1, seed=0, height=540, width=960, max_disparity=128)[0]
    batch = StereoSample(*(part.unsqueeze(0) for part in sample))
    left, right = ((255 * view).byte().permute(1, 2, 0).numpy() for view in (sample.left, sample.right))
    network = autodisp.load()

    def in_bfloat16() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return network(left, right)

    scaled, more_scales = MultiScaleMatcher(network, [1, 1.5]), MultiScaleMatcher(network, [1, 1.5, 2])
    residual, fusion, fusion_of_scaled = ResidualMatcher(network), FusionMatcher(network), FusionMatcher(scaled)
    methods: dict[str, Callable[[], object]] = {
        "SGBM, eight paths": lambda: SemiGlobalMatching(mode="hh")(batch),
        "SGBM, three paths": lambda: SemiGlobalMatching(mode="3way")(batch),
        "network": lambda: network(left, right),
        "network, bfloat16": in_bfloat16,
        "residual": lambda: residual(left, right),
        "fusion": lambda: fusion(left, right),
        "scales 1, 1.5": lambda: scaled(left, right),
        "fusion of these": lambda: fusion_of_scaled(left, right),
        "scales 1, 1.5, 2": lambda: more_scales(left, right),
    }
    clock = time.process_time if chosen.threads == 1 else time.perf_counter
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for round_ in range(chosen.rounds + 1):  # the first one warms up
        for name, method in methods.items():
            start = clock()
            method()
            if round_:
                taken[name].append(1000 * (clock() - start))
    for name, times in taken.items():
        print(f"{name:18} {statistics.median(times):4.0f} ({min(times):.0f}) ms")


if __name__ == "__main__":
    main()
