"""Whole searches through the program's own function, on every dataset in its official format."""

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

import autodisp
from autodisp.assembly.train_data import build_train_data
from autodisp.assembly.training import build_genotype
from autodisp.cells.genotype import load
from autodisp.cells.spaces import SPACES
from autodisp.cli.search import search
from autodisp.config.train import parse as parse_train
from autodisp.datasets import shapes3d
from autodisp.datasets.images import write_png
from autodisp.records import read_json_lines
from tests.made_data import write_cifar10, write_cifar100, write_cityscapes, write_folders, write_svhn, write_voc
from tests.programs import composed

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 48, 64
QUICK = ["curvature.tolerance=0.3"]
SMALL = "space=tiny81_disparity"
SEGMENTED = ["task=segmentation", SMALL, "dataset.crop=[32,48]", "optimizer.alphas.order=first", *QUICK]
STEREO = ["dataset.half_resolution=false", "dataset.crop=[32,48]", "dataset.max_disparity=16", *QUICK]


def run(folder: Path, *overrides: str) -> Path:
    few = ("experiment=smoke", "search.steps_per_epoch=1")
    return search(composed("search", f"run.folder={folder}", *few, *overrides))


def shapes(length: int, seed: int = 0) -> shapes3d.Shapes3D:
    return shapes3d.Shapes3D(length=length, seed=seed, height=HEIGHT, width=WIDTH, max_disparity=16)


def write_flyingthings3d(root: Path) -> None:
    shapes3d.write(shapes(6), root, train=5)


def write_sintel(root: Path) -> None:
    for index in range(6):
        sample = shapes(6)[index]
        code = (sample.disparity[0].numpy().astype(np.float64) * 16384).round().astype(np.int64)
        # d = R * 4 + G / 64 + B / 16384
        planes = np.stack([code // 65536, code // 256 % 256, code % 256]).astype(np.float32) / 255
        parts = {
            "clean_left": sample.left,
            "clean_right": sample.right,
            "disparities": torch.from_numpy(planes),
            "occlusions": sample.occluded.float(),
            "outofframe": sample.out_of_frame.float(),
        }
        for part, picture in parts.items():
            path = root / "training" / part / f"alley_{index // 2}" / f"frame_{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, picture)


@pytest.mark.parametrize(
    ("dataset", "write", "overrides"),
    [
        ("flyingthings3d", write_flyingthings3d, STEREO),
        (
            "sintel",
            write_sintel,
            [*STEREO, SMALL, "network.head=regression", "optimizer.alphas.order=first"],
        ),
        ("cifar10", write_cifar10, ["task=classification", "space=s2", "optimizer.alphas.order=finite_difference"]),
        ("cifar100", write_cifar100, ["task=classification", "space=s3", "search.drop_path=0.2", *QUICK]),
        ("folders", partial(write_folders, stems="abcdef", size=(HEIGHT, WIDTH)), SEGMENTED),
        ("voc", partial(write_voc, size=(HEIGHT, WIDTH)), [*SEGMENTED, "search.batch_size=1"]),
        ("cityscapes", partial(write_cityscapes, size=(HEIGHT, WIDTH)), SEGMENTED),
        ("svhn", write_svhn, ["task=classification", "space=tiny81", "curvature.method=hessian", "regularization=ada"]),
    ],
)
def test_every_dataset_ends_in_a_genotype(
    tmp_path: Path,
    dataset: str,
    write: Callable[[Path], object],
    overrides: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(tmp_path / "data")
    folder = run(tmp_path / "run", f"dataset={dataset}", f"dataset.root={tmp_path / 'data'}", *overrides)
    genotype = load(folder / "genotype.json")
    assert genotype.provenance["dataset"] == dataset
    for kind in genotype.kinds:
        assert (folder / f"cell_{kind}.svg").read_text().startswith("<?xml")
        assert (folder / f"cell_{kind}.png").stat().st_size > 1000
    assert (folder / "curves.png").is_file()
    assert (folder / "config.yaml").is_file()
    assert sorted(path.name for path in (folder / "genotypes").iterdir()) == ["epoch_0000.json", "epoch_0001.json"]
    assert list((folder / "checkpoints").glob("epoch_*.pt"))
    assert list((folder / "tensorboard").glob("events.*"))
    start, *records = read_json_lines(folder / "metrics.jsonl")
    assert start["event"] == "start"
    figure = genotype.provenance["figure"]["name"]
    for record in records:
        for key in ("train/loss", f"train/{figure}", f"valid/{figure}", f"valid_discrete/{figure}", "eigenvalue",
                    "discretisation_drop", "weight_decay", "alphas", "genotype"):  # fmt: skip
            assert key in record
        for name in ("train/loss", "valid/loss", "eigenvalue"):
            assert np.isfinite(record[name])
    assert "found normal cell" in capsys.readouterr().out


def test_the_next_command_trains_what_was_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_svhn(tmp_path / "my data")
    run(tmp_path / "run", "task=classification", "dataset=svhn", f"dataset.root={tmp_path / 'my data'}", "space=tiny81")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("next:"))
    program, *overrides = shlex.split(line.removeprefix("next:"))
    assert program == "autodisp-train"
    config = parse_train(composed("train", "run.folder=unused", "training.batch_size=4", *overrides))
    genotype, space = build_genotype(config)
    assert genotype == load(tmp_path / "run" / "genotype.json")
    assert space == SPACES["tiny81"]
    assert len(build_train_data(config).train) == 36, "nine tenths of 40 images"


def test_segmentation_through_all_programs(
    tmp_path: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_folders(tmp_path / "data", "abcdefghijkl", (HEIGHT, WIDTH))
    data = ["dataset=folders", "dataset.root=data", "dataset.crop=[32,48]"]
    model = "checkpoint=training/best.safetensors"

    def output(program: str, *words: str) -> str:
        assert call(program, *words) == 0
        return capsys.readouterr().out

    assert "train: images of 64x48, 5 of 5 classes" in output("check", *data, "out=check", "run.workers=1")
    output("search", "experiment=smoke", "search.steps_per_epoch=1", *SEGMENTED, *data[:2], "run.folder=search")
    output("train", "task=segmentation", "network=segmentation_tiny", "genotype=search/genotype.json", *data,
           "optimizer.warmup_steps=1", "training.steps=2", "training.batch_size=2", "validation.every=2",
           "run.workers=0", "run.threads=1", "run.folder=training")  # fmt: skip
    table = output("evaluate", model, "baseline=constant", "pictures=1", *data[:2], "out=evaluation")
    assert "network: worst on " in table
    results = json.loads((tmp_path / "evaluation/evaluation.json").read_text())["methods"]
    constant, network = (results[name]["figures"] for name in ("constant", "network"))
    assert constant["miou"] == pytest.approx(sum(constant["iou"].values()) / 5)
    assert network["pixels"] == constant["pixels"] == sum(map(sum, network["confusion"]))
    assert "64x48, class " in output("predict", model, "left=data/images", "out=predicted")
    index = iio.imread(tmp_path / "predicted/a-index.png")
    pixels = torch.from_numpy(iio.imread(tmp_path / "data/images/a.png")).permute(2, 0, 1)
    assert np.array_equal(index, autodisp.load(tmp_path / "training/best.safetensors")(pixels)[0].argmax(0))
    assert "best.pt2: " in output("export", model, "format=pt2", "out=exported")
    output("export", "run=search", "out=drawn")
    assert load(tmp_path / "drawn/genotype.json") == load(tmp_path / "search/genotype.json")
    for name in ("search", "training"):
        output("report", f"run={name}", f"out=pages/{name}", "animation=false")
        assert "miou" in (tmp_path / "pages" / name / "index.html").read_text()
    output("report", "runs=[search,training]", "out=pages/both")
    assert "miou" in (tmp_path / "pages/both/index.html").read_text()
