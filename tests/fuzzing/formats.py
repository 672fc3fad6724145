"""Every format for which the project has a reader of its own: good files, where a case lies, and what reads it."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from autodisp import model_file
from autodisp.cells import genotype as genotypes
from autodisp.cells.spaces import SearchSpace
from autodisp.checkpoints import Checkpoints
from autodisp.datasets.cifar import CIFAR10, CIFAR100
from autodisp.datasets.disparity_png import read_disparity_png
from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.images import read_classes
from autodisp.datasets.pfm import read_pfm
from autodisp.records import read_json_lines
from tests.fuzzing import seeds, wrapping
from tests.fuzzing.mutation import mutate
from tests.fuzzing.wrapping import Inside


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    name: str
    place: str
    """Path of a case below its folder."""
    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[Path], Any]
    share: float
    """Of all cases; the slower a reader, the fewer."""
    inside: Inside | None = None

    @functools.cached_property
    def good(self) -> Sequence[bytes]:
        """The seeds, made once, the same in every process."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.seeds()

    def case(self, number: int) -> bytes:
        """The file with that number, always the same."""
        draw = random.Random(f"{self.name} {number}")
        data = draw.choice(self.good)
        if self.inside is not None and draw.random() < 0.5:
            return self.inside(draw, data, lambda part: mutate(draw, part, self.good))
        return mutate(draw, data, self.good)


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("pfm", "a.pfm", seeds.pfm, read_pfm, 8),
        Format("disparity png", "a.png", seeds.disparity_png, read_disparity_png, 6, inside=wrapping.in_png),
        Format("class map", "a.png", seeds.class_map, read_classes, 6, inside=wrapping.in_png),
        Format("cifar-10 binary", "cifar-10-batches-bin/test_batch.bin", lambda: [seeds.cifar_records((10,))],
               lambda path: CIFAR10(path.parents[1], split="test"), 3),
        Format("cifar-100 binary", "cifar-100-binary/test.bin", lambda: [seeds.cifar_records((20, 100))],
               lambda path: CIFAR100(path.parents[1], split="test"), 3),
        Format("genotype json", "genotype.json", seeds.genotype_json, genotypes.load, 6, inside=wrapping.in_json),
        Format("genotype text", "genotype.txt", seeds.genotype_text, genotypes.load, 6),
        Format("search space", "space.json", seeds.space, SearchSpace.load, 6, inside=wrapping.in_json),
        Format("checkpoint", "epoch_0003.pt", seeds.checkpoint, lambda path: Checkpoints(path.parent).load(3), 6,
               inside=wrapping.in_zip),
        Format("model", "a.safetensors", seeds.model, model_file.load_network, 4, inside=wrapping.in_safetensors),
        Format("metrics", "metrics.jsonl", seeds.metrics, read_json_lines, 5, inside=wrapping.in_json_lines),
        Format("exclusions", "list.txt", seeds.exclusions, lambda path: read_exclusions(path, ["a/0001", "a/0002"]), 2),
    )
}  # fmt: skip


def counts(cases: int, names: Sequence[str]) -> dict[str, int]:
    """How many cases each of these formats has of so many in all, at least one."""
    whole = sum(FORMATS[name].share for name in names)
    found = {name: max(1, int(cases * FORMATS[name].share / whole)) for name in names}
    found[names[0]] = max(1, found[names[0]] + cases - sum(found.values()))
    return found
