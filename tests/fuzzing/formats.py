"""Every format that the project reads: good files, where a case lies, and what reads it."""

import functools
import hashlib
import io
import random
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from autodisp import model_file
from autodisp.cells import genotype as genotypes
from autodisp.cells.spaces import SearchSpace
from autodisp.checkpoints import Checkpoints
from autodisp.cli.program import WRONG_INPUT, run_program
from autodisp.config import evaluate, export, predict, search, train
from autodisp.datasets.cifar import CIFAR10, CIFAR100
from autodisp.datasets.disparity_png import read_disparity_png
from autodisp.datasets.exclusions import read_exclusions
from autodisp.datasets.images import read_mask, read_rgb, read_rgb8
from autodisp.datasets.pfm import read_pfm
from autodisp.datasets.svhn import SVHN
from autodisp.errors import InputError
from autodisp.prediction.exported import open_exported
from autodisp.records import read_json_lines
from tests.fuzzing import seeds, wrapping
from tests.fuzzing.mutation import mutate
from tests.fuzzing.wrapping import Inside

PARSERS = {module.__name__.rpartition(".")[2]: module.parse for module in (search, train, evaluate, predict, export)}


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
    beside: Callable[[Path], None] = lambda folder: None
    """Puts the files into a case's folder that have to lie beside it."""
    named: bool = True
    """Whether a refusal has to name the file."""

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


def _picture(path: Path) -> None:
    read_rgb(path)
    read_mask(path)


def _cifar_binary(folder: Path) -> None:
    place = folder / "cifar-10-batches-bin"
    place.mkdir(parents=True, exist_ok=True)
    (place / "test_batch.bin").write_bytes(seeds.cifar_records((10,)))


_PICKLES = {name: seeds.cifar_pickle(seed) for seed, name in enumerate(("data_batch_1", "data_batch_2", "test_batch"))}
_NAMES = seeds.pickle.dumps({"label_names": [f"class {n}" for n in range(10)]}, protocol=2)


def _cifar_pickles(folder: Path) -> None:
    place = folder / "cifar-10-batches-py"
    place.mkdir(parents=True, exist_ok=True)
    for name, content in {**_PICKLES, "batches.meta": _NAMES}.items():
        (place / name).write_bytes(content)


def _read_cifar_pickles(path: Path) -> None:
    """With the seeds taken for the official files."""
    digests = [[name, hashlib.md5(content).hexdigest()] for name, content in _PICKLES.items()]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": hashlib.md5(_NAMES).hexdigest()}
    known = {"train_list": digests[:2], "test_list": digests[2:], "meta": meta}
    with mock.patch.multiple(torchvision.datasets.CIFAR10, **known):
        CIFAR10(path.parent.parent, split="test")


def _read_settings(path: Path) -> None:
    """The first word is the program."""
    program, *given = path.read_text(encoding="utf-8", errors="surrogateescape").split(" ")
    _compose(program if program in PARSERS else "search", given)


def _read_yaml(path: Path) -> None:
    _compose("search", [f"hydra.searchpath=[file://{path.parent.parent}]", "experiment=mine"])


def _compose(program: str, overrides: list[str]) -> None:
    """As the programs do it, up to the exit.

    Raises:
        InputError: what the program says before it leaves with the exit code of a wrong input.
    """

    def parse() -> None:
        GlobalHydra.instance().clear()
        with initialize_config_module(f"autodisp.configs.{program}", version_base="1.3"):
            PARSERS[program](compose(program, overrides=overrides))

    name = f"autodisp-{program}"
    command_line = mock.patch.object(sys, "argv", [name, *overrides])
    memory = mock.patch("autodisp.cli.program.keep_freed_memory")  # for the whole of a process
    with command_line, memory, redirect_stderr(io.StringIO()) as said:
        try:
            run_program(parse)
        except SystemExit as error:
            if error.code != WRONG_INPUT:
                raise
            raise InputError(said.getvalue().removeprefix(f"{name}: ").removesuffix("\n")) from error


FORMATS: dict[str, Format] = {
    entry.name: entry
    for entry in (
        Format("pfm", "a.pfm", seeds.pfm, read_pfm, 8),
        Format("png", "a.png", seeds.png, _picture, 12, inside=wrapping.in_png),
        Format("disparity png", "a.png", seeds.disparity_png, read_disparity_png, 6, inside=wrapping.in_png),
        Format("sintel png", "a.png", seeds.sintel_png, read_rgb8, 5, inside=wrapping.in_png),
        Format("ppm", "a.ppm", seeds.ppm, _picture, 5),
        Format("jpeg", "a.jpg", seeds.jpeg, _picture, 6),
        Format("tiff", "a.tiff", seeds.tiff, _picture, 6),
        Format("webp", "a.webp", seeds.webp, _picture, 5),
        Format("bmp", "a.bmp", seeds.bmp, _picture, 3),
        Format("cifar-10 binary", "cifar-10-batches-bin/test_batch.bin", lambda: [seeds.cifar_records((10,))],
               lambda path: CIFAR10(path.parents[1], split="test"), 3),
        Format("cifar-100 binary", "cifar-100-binary/test.bin", lambda: [seeds.cifar_records((20, 100))],
               lambda path: CIFAR100(path.parents[1], split="test"), 3),
        Format("cifar names", "cifar-10-batches-bin/batches.meta.txt", seeds.cifar_names,
               lambda path: CIFAR10(path.parents[1], split="test"), 2, beside=_cifar_binary),
        Format("cifar pickle", "cifar-10-batches-py/test_batch", lambda: [_PICKLES["test_batch"]],
               _read_cifar_pickles, 3, beside=_cifar_pickles),
        Format("svhn mat", "test_32x32.mat", seeds.mat, lambda path: SVHN(path.parent, split="test"), 8,
               inside=wrapping.in_mat),
        Format("genotype json", "genotype.json", seeds.genotype_json, genotypes.load, 6, inside=wrapping.in_json),
        Format("genotype text", "genotype.txt", seeds.genotype_text, genotypes.load, 6),
        Format("search space", "space.json", seeds.space, SearchSpace.load, 6, inside=wrapping.in_json),
        Format("checkpoint", "epoch_0003.pt", seeds.checkpoint, lambda path: Checkpoints(path.parent).load(3), 6,
               inside=wrapping.in_zip),
        Format("model", "a.safetensors", seeds.model, model_file.load_network, 4, inside=wrapping.in_safetensors),
        Format("onnx", "a.onnx", seeds.onnx, functools.partial(open_exported, device=torch.device("cpu")), 4),
        Format("pt2", "a.pt2", seeds.pt2, functools.partial(open_exported, device=torch.device("cpu")), 2,
               inside=wrapping.in_zip),
        Format("metrics", "metrics.jsonl", seeds.metrics, read_json_lines, 5, inside=wrapping.in_json_lines),
        Format("exclusions", "list.txt", seeds.exclusions, lambda path: read_exclusions(path, ["a/0001", "a/0002"]), 2),
        Format("overrides", "overrides.txt", seeds.overrides, _read_settings, 2, named=False),
        Format("yaml", "experiment/mine.yaml", seeds.yaml, _read_yaml, 1.5, named=False),
    )
}  # fmt: skip


def counts(cases: int, names: Sequence[str]) -> dict[str, int]:
    """How many cases each of these formats has of so many in all, at least one."""
    whole = sum(FORMATS[name].share for name in names)
    found = {name: max(1, int(cases * FORMATS[name].share / whole)) for name in names}
    found[names[0]] = max(1, found[names[0]] + cases - sum(found.values()))
    return found
