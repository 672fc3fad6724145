"""A whole check, from its config: what is found, and that a run without the excluded samples finds nothing more."""

import os
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest

from autodisp.assembly.checking import Check, CheckReport
from autodisp.assembly.data import notes_on_samples
from autodisp.assembly.evaluation import build_evaluation_data
from autodisp.assembly.search import build_data
from autodisp.assembly.train_data import build_train_data
from autodisp.cli.check import next_command
from autodisp.config import check as check_config
from autodisp.config import evaluate as evaluate_config
from autodisp.config import search as search_config
from autodisp.config import train as train_config
from autodisp.datasets import checking
from autodisp.datasets.checking import (
    BOTH_HALVES,
    BOTH_SPLITS,
    ENLARGED,
    LOST,
    MISMATCH,
    MISSING,
    NO_CLASS,
    NO_TRUTH,
    NON_FINITE,
    SIZES,
    SMALL,
    STRAY,
    TWINS,
    UNREADABLE,
)
from autodisp.datasets.flyingthings3d import write_frame
from autodisp.datasets.pfm import read_pfm, write_pfm
from autodisp.datasets.shapes3d import Shapes3D, write
from autodisp.errors import InputError, WrongSetting
from autodisp.tasks.disparity.kit import DATASETS
from tests.image_files import put
from tests.made_data import class_map, colours, put_mask, write_folders
from tests.programs import composed

HEIGHT, WIDTH = 48, 64
SEARCH = ("run.folder=unused", "search.batch_size=1")


def checked(*overrides: str) -> CheckReport:
    shown: list[tuple[int, int, int]] = []
    config = check_config.parse(composed("check", "out=unused", "run.workers=2", *overrides))
    report = Check(config).run(lambda *figures: shown.append(figures))
    assert [done for done, _, _ in shown] == list(range(1, len(shown) + 1))
    assert {total for _, total, _ in shown} <= {len(shown)}
    return report


def things(root: Path, *more: str) -> list[str]:
    """The overrides for made-up frames, which every program takes."""
    return ["dataset=flyingthings3d", f"dataset.root={root}", "dataset.half_resolution=false", "dataset.crop=[32,48]",
            *more]  # fmt: skip


def counts(report: CheckReport) -> dict[str, int]:
    return dict(Counter(problem.kind for problem in report.problems))


def saved(report: CheckReport, folder: Path) -> str:
    """The override that makes a program heed the list."""
    report.write_list(folder / "excluded.txt")
    return f"dataset.exclude={folder / 'excluded.txt'}"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered")
    write(Shapes3D(length=12, seed=0, height=HEIGHT, width=WIDTH, max_disparity=16), root, train=10)
    return root


@pytest.fixture
def frames(rendered: Path, tmp_path: Path) -> Path:
    """Ten scenes of TRAIN and two of TEST, one frame each, with masks."""
    return Path(shutil.copytree(rendered, tmp_path / "data"))


def part(root: Path, scene: int, top: str = "left", split: str = "TRAIN") -> Path:
    place = f"{split}/A/{scene:04d}"
    if top == "disparity":
        return root / "disparity" / place / "left/0006.pfm"
    return root / "frames_cleanpass" / place / top / "0006.png"


def name(scene: int, split: str = "TRAIN") -> str:
    return f"{split}/A/{scene:04d}/0006"


def change(path: Path, value: float, pixels: slice = slice(0, 5)) -> None:
    plane = read_pfm(path)
    plane.flat[pixels] = value
    write_pfm(path, plane)


def copy(root: Path, scene: int, other: int, split: str = "TRAIN") -> None:
    """Shows in another scene what one shows."""
    for top in ("left", "right", "disparity"):
        part(root, other, top, split).write_bytes(part(root, scene, top).read_bytes())


def swap(root: Path, scene: int, split: str = "TRAIN") -> None:
    """Takes the left view of a scene for the right one and the other way round."""
    left, right = part(root, scene, "left", split), part(root, scene, "right", split)
    pixels = left.read_bytes()
    left.write_bytes(right.read_bytes())
    right.write_bytes(pixels)


def halves_of(root: Path, *more: str) -> tuple[list[str], list[str]]:
    """Names of the samples in the two halves, from the search itself."""
    data: Any = build_data(search_config.parse(composed("search", *SEARCH, *things(root, *more))))
    return tuple([half.dataset.names[index] for index in half.indices] for half in (data.weight_half, data.alpha_half))


def test_nothing_is_wrong(frames: Path, tmp_path: Path) -> None:
    report = checked(*things(frames))
    assert (report.problems, report.notes, report.remarks, report.excluded) == ([], [], [], {})
    assert (report.samples, report.obstacle) == ({"train": 10, "test": 2}, "")
    assert len(halves_of(frames, saved(report, tmp_path))[0]) == 5


def test_pictures_of_several_sizes_need_a_crop(frames: Path, tmp_path: Path) -> None:
    [wide] = Shapes3D(length=1, seed=1, height=HEIGHT + 32, width=WIDTH + 32, max_disparity=16)
    write_frame(frames, split="TRAIN", subset="A", scene=3, frame=6, sample=wide)
    whole = [*things(frames)[:-1], "dataset.crop=null"]
    report = checked(*whole)
    assert (report.problems, report.crop) == ([], [32, 64])
    assert "dataset.crop=null needs search.batch_size=1 and training.batch_size=1" in report.remarks[0]
    following = next_command(report, tmp_path, whole)
    assert shlex.split(following)[-1] == "dataset.crop=[32,64]"
    search = ("search.batch_size=2", "run.folder=unused")
    says = r"dataset\.crop=null: .*0003/0006 is 80x96 .*; take dataset\.crop=\[HEIGHT,WIDTH\], or {}\.batch_size=1$"
    with pytest.raises(WrongSetting, match=says.format("search")):
        build_data(search_config.parse(composed("search", *search, *whole)))
    with pytest.raises(WrongSetting, match=says.format("training")):
        build_train_data(train_config.parse(composed("train", *whole)))
    build_data(search_config.parse(composed("search", *search, *shlex.split(following)[1:])))
    build_data(search_config.parse(composed("search", *SEARCH, *whole)))
    assert checked(*things(frames)).crop is None


def test_the_smallest_picture_counts_for_batch_normalisation(tmp_path: Path) -> None:
    for scene, width in enumerate((96, 96, 96, 64)):
        [sample] = Shapes3D(length=1, seed=scene, height=HEIGHT, width=width, max_disparity=16)
        write_frame(tmp_path, split="TRAIN", subset="A", scene=scene, frame=6, sample=sample)
    whole = [*things(tmp_path)[:-1], "dataset.crop=null", "network=disparity"]
    with pytest.raises(InputError, match=r"search.batch_size=1.* leaves batch normalisation one sample of 48x64"):
        build_data(search_config.parse(composed("search", *SEARCH, *whole)))
    (tmp_path / "list.txt").write_text(name(3))
    build_data(search_config.parse(composed("search", *SEARCH, *whole, f"dataset.exclude={tmp_path / 'list.txt'}")))


def test_everything_at_once(frames: Path, tmp_path: Path) -> None:
    part(frames, 0, "right").unlink()
    part(frames, 1, "disparity").write_bytes(part(frames, 1, "disparity").read_bytes()[:-7])
    change(part(frames, 2, "disparity"), np.nan)
    swap(frames, 3)
    change(part(frames, 4, "disparity"), np.inf, slice(None))
    iio.imwrite(part(frames, 5, "right"), np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))
    part(frames, 1, "disparity", "TEST").unlink()
    report = checked(*things(frames))
    assert counts(report) == {MISSING: 2, UNREADABLE: 1, MISMATCH: 1, NO_TRUTH: 1, SIZES: 1}
    assert [(note.kind, note.sample) for note in report.notes] == [(NON_FINITE, name(2)), (NON_FINITE, name(4))]
    left_out_scenes = (0, 1, 3, 4, 5)
    assert list(report.excluded) == [*(name(scene) for scene in left_out_scenes), name(1, "TEST")]
    assert report.samples == {"train": 10, "test": 2}
    files = {problem.sample: problem.file for problem in report.problems}
    assert files[name(0)].endswith("frames_cleanpass/TRAIN/A/0000/right/0006.png")
    assert files[name(1)] == str(part(frames, 1, "disparity"))
    assert files[name(5)] == str(part(frames, 5, "right"))

    left_out = saved(report, tmp_path)
    again = checked(*things(frames, left_out))
    assert (again.problems, again.samples) == ([], {"train": 5, "test": 1})
    assert list(again.excluded) == list(report.excluded), "a list made with a list replaces it"
    expected = {name(scene) for scene in range(10) if scene not in left_out_scenes}
    weights, architecture = halves_of(frames, left_out)
    assert {*weights, *architecture} == expected
    training: Any = build_train_data(
        train_config.parse(composed("train", "run.folder=unused", "training.batch_size=1", *things(frames, left_out)))
    )
    assert {training.train.dataset.names[index] for index in training.train.indices} == expected
    evaluation = build_evaluation_data(
        evaluate_config.parse(composed("evaluate", "out=unused", "baseline=sgbm", *things(frames, left_out)))
    )
    assert sum(len(batch.left) for batch in evaluation.batches) == 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_halves_are_those_of_the_search(frames: Path, tmp_path: Path, seed: int) -> None:
    weights, architecture = halves_of(frames, f"seed={seed}")
    number = {name(scene): scene for scene in range(10)}
    copy(frames, number[weights[0]], number[architecture[0]])
    copy(frames, number[weights[1]], number[weights[2]])
    report = checked(*things(frames, f"seed={seed}"))
    parted, together = {weights[0], architecture[0]}, {weights[1], weights[2]}
    assert [(problem.kind, problem.sample) for problem in report.problems] == [(BOTH_HALVES, max(parted))]
    assert [(note.kind, note.sample) for note in report.notes] == [(TWINS, max(together))]
    # However another seed divides the split, nothing is on both sides any more.
    assert set(report.excluded) == {max(parted), max(together)}
    again = checked(*things(frames, f"seed={seed + 1}", saved(report, tmp_path)))
    assert (again.problems, again.notes) == ([], [])


def test_twins_in_one_half_are_a_note(frames: Path) -> None:
    weights, _ = halves_of(frames)
    copy(frames, int(weights[0].split("/")[2]), int(weights[1].split("/")[2]))
    copy(frames, int(weights[2].split("/")[2]), 1, "TEST")
    report = checked(*things(frames))
    assert (report.problems, report.excluded, report.obstacle) == ([], {}, "")
    assert [(note.kind, note.sample) for note in report.notes] == [(TWINS, weights[1]), (BOTH_SPLITS, name(1, "TEST"))]
    assert report.notes[1].file == str(part(frames, 1, "left", "TEST"))


def test_the_limit_decides_who_is_in_a_half(frames: Path) -> None:
    limit = "dataset.limit=4"
    weights, architecture = halves_of(frames, limit)
    scenes = [int(sample.split("/")[2]) for sample in (weights[0], architecture[0])]
    absent = next(scene for scene in range(10) if name(scene) not in {*weights, *architecture})
    copy(frames, scenes[0], absent)
    assert [note.kind for note in checked(*things(frames, limit)).notes] == [TWINS]
    copy(frames, scenes[0], scenes[1])
    assert counts(checked(*things(frames, limit))) == {BOTH_HALVES: 1}


def test_small_pictures(frames: Path) -> None:
    report = checked(*things(frames, "dataset.crop=[72,64]"))
    assert (report.problems, report.excluded, report.obstacle) == ([], {}, ""), "runs enlarge them"
    assert [note.kind for note in report.notes] == [ENLARGED] * 12
    assert "is 64x48: a search or a training enlarges it 1.50 times, its disparities too" in report.notes[0].says
    whole = checked(*things(frames, "dataset.half_resolution=true", "dataset.crop=null"))
    assert counts(whole) == {SMALL: 12}
    assert whole.obstacle == "no sample of the train split would be left"
    assert whole.remarks == ["no sample of the test split would be left, so a training needs validation.fraction=0.1"]
    assert "at half resolution" in whole.problems[0].says


def test_a_run_says_what_the_check_says_of_small_pictures(frames: Path) -> None:
    config = train_config.parse(
        composed("train", "run.folder=unused", "training.batch_size=1", *things(frames, "dataset.crop=[72,64]"))
    )
    training = build_train_data(config)
    (note,) = notes_on_samples(config.dataset, DATASETS[config.dataset.name], training.train, enlarges=True)
    assert note == (
        "5 of 5 checked images are smaller than dataset.crop=[72, 64], such as 64x48 (width x height), and are "
        "enlarged up to 1.50 times, their disparities too; lower dataset.crop to keep their size"
    )
    assert notes_on_samples(config.dataset, DATASETS[config.dataset.name], training.train, enlarges=False) == []
    largest = max(float(training.train[index].disparity.max()) for index in range(10))
    seen = [training.transform(training.train[index], np.random.default_rng(0)) for index in range(10)]
    assert max(float(sample.disparity.max()) for sample in seen) > 1.2 * largest, "they are enlarged indeed"


def test_what_the_data_is_and_what_cannot_be_meant(frames: Path) -> None:
    train, test = checked(*things(frames)).data
    assert train.startswith("train: images of 64x48, disparities up to ")
    assert train.endswith(" px, ground truth on 100 % of the pixels")
    assert test.startswith("test: images of 64x48")
    change(part(frames, 3, "disparity"), 20.0)
    (low,) = checked(*things(frames), "dataset.max_disparity=16").remarks
    assert low == "train: dataset.max_disparity=16 is below 20.0 px, which a matching head then cannot express"
    assert checked(*things(frames), "dataset.max_disparity=20").remarks == []
    change(part(frames, 3, "disparity"), 65.0)  # of which five pixels are no reason to leave it out
    change(part(frames, 4, "disparity"), np.inf, slice(0, 48 * 32))
    report = checked(*things(frames))
    assert report.data[0] == "train: images of 64x48, disparities up to 65.0 px, ground truth on 95 % of the pixels"
    assert report.remarks == report.problems == []
    stray = [note for note in report.notes if note.kind == STRAY]
    assert [note.sample for note in stray] == [name(3)]
    assert stray[0].says == "0.16% of the disparities exceed the width of 64 px, up to 65 px"


def test_too_little_is_left(frames: Path) -> None:
    for scene in range(9):
        part(frames, scene, "disparity").unlink()
    report = checked(*things(frames))
    assert counts(report) == {MISSING: 9}
    assert report.obstacle == "only one group of samples would be left in the train split, which must be divided in two"
    assert [remark for remark in report.remarks if remark.startswith("a search cannot use")]


@pytest.mark.parametrize(("split", "left"), [("test", {"train": 10}), ("train", {"test": 2})])
def test_an_absent_split_is_a_remark(frames: Path, split: str, left: dict[str, int]) -> None:
    for top in ("frames_cleanpass", "disparity"):
        shutil.rmtree(frames / top / split.upper())
    report = checked(*things(frames))
    assert (report.samples, report.problems) == (left, [])
    assert report.remarks[0].startswith(f"no {split} split was checked: ")
    with pytest.raises(InputError, match="which it does not hold"):
        checked(*things(frames, f"split={split}"))


class Fatal(checking.Inspector):
    """An inspector that one picture kills, as a fault in a decoder does."""

    def __call__(self, index: int) -> checking.Inspection:
        if index == 3:
            os._exit(11)
        return super().__call__(index)


def test_a_file_that_kills_its_reader_is_a_row(frames: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autodisp.assembly.checking.Inspector", Fatal)
    report = checked(*things(frames, "split=train"))
    assert [(problem.kind, problem.sample) for problem in report.problems] == [(LOST, name(3))]
    assert "exit code 11" in report.problems[0].says


def cifar(root: Path, batches: Sequence[np.ndarray]) -> Path:
    """Records of (label, pixels), one file a batch, the last one the test split."""
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for number, records in enumerate(batches[:-1], start=1):
        (folder / f"data_batch_{number}.bin").write_bytes(records.tobytes())
    (folder / "test_batch.bin").write_bytes(batches[-1].tobytes())
    return root


def records() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [
        np.concatenate([draw.integers(0, 10, (8, 1)), draw.integers(0, 256, (8, 3072))], axis=1).astype(np.uint8)
        for _ in range(6)
    ]


def test_images(tmp_path: Path) -> None:
    batches = records()
    settings = ["dataset=cifar10", f"dataset.root={cifar(tmp_path / 'whole', batches)}"]
    whole = checked(*settings)
    assert (whole.problems, whole.notes, whole.samples) == ([], [], {"train": 40, "test": 8})
    task = ["task=classification", "search.batch_size=4", "run.folder=unused"]
    data: Any = build_data(search_config.parse(composed("search", *task, *settings)))
    one, two = data.weight_half.indices[0], data.alpha_half.indices[0]
    flat = np.concatenate(batches[:-1])
    flat[two, 1:] = flat[one, 1:]  # another label does not make it another picture
    batches = [*np.split(flat, 5), batches[-1]]
    batches[-1][6, 1:] = flat[39, 1:]
    settings[1] = f"dataset.root={cifar(tmp_path / 'twins', batches)}"
    report = checked(*settings)
    assert [(problem.kind, problem.sample) for problem in report.problems] == [
        (BOTH_HALVES, f"train/{max(one, two):05d}")
    ]
    assert [(note.kind, note.sample) for note in report.notes] == [(BOTH_SPLITS, "test/00006")]
    left_out = saved(report, tmp_path)
    assert checked(*settings, left_out).problems == []
    data = build_data(search_config.parse(composed("search", *task, *settings, left_out)))
    assert len(data.weight_half) + len(data.alpha_half) == 39


def test_segmented_images(tmp_path: Path) -> None:
    write_folders(tmp_path, tuple("abcdef"))
    put(tmp_path / "images/b.png", colours("a"))  # the image of a
    put_mask(tmp_path / "masks/c.png", np.full((6, 9), 255, np.uint8))
    put_mask(tmp_path / "masks/d.png", class_map("d", 5, (7, 9)))
    (tmp_path / "masks/e.png").write_bytes(b"\x89PNG")
    (tmp_path / "masks/f.png").unlink()
    report = checked("dataset=folders", f"dataset.root={tmp_path}")
    found = {problem.sample: (problem.kind, Path(problem.file).name) for problem in report.problems}
    twins = {name: place for name, place in found.items() if place[0] == BOTH_HALVES}
    assert {name: found[name] for name in "cdef"} == {
        "c": (NO_CLASS, "c.png"), "d": (SIZES, "d.png"), "e": (UNREADABLE, "e.png"), "f": (MISSING, "f.png")
    }  # fmt: skip
    assert set(twins) <= {"a", "b"}
    assert report.data == ["train: images of 9x6, 5 of 5 classes, ground truth on 65 % of the pixels"]
    [note] = [one for one in [*report.problems, *report.notes] if one.kind in (TWINS, BOTH_HALVES)]
    assert note.sample in "ab"


def test_classes_that_do_not_occur_are_a_remark(tmp_path: Path) -> None:
    report = checked("dataset=folders", f"dataset.root={write_folders(tmp_path)}", "dataset.classes=12")
    assert report.problems == []
    absent = ", ".join(f"class {index}" for index in range(5, 10))
    assert report.remarks == [f"train: no pixel of 7 of the 12 classes: {absent}, ..."]
    put(tmp_path / "images/a.png", colours("a", (8, 10)))
    put_mask(tmp_path / "masks/a.png", class_map("a", 5, (8, 10)))
    report = checked("dataset=folders", f"dataset.root={tmp_path}", "dataset.crop=null")
    assert report.crop == [32, 32]


def test_a_file_of_many_images_that_cannot_be_read(tmp_path: Path) -> None:
    settings = ["dataset=cifar10", f"dataset.root={cifar(tmp_path, records())}"]
    cut, absent = (tmp_path / f"cifar-10-batches-bin/data_batch_{number}.bin" for number in (2, 4))
    cut.write_bytes(cut.read_bytes()[:-1])
    absent.unlink()
    report = checked(*settings)
    assert [(problem.kind, problem.sample, problem.file) for problem in report.problems] == [
        (UNREADABLE, "", str(cut)),
        (UNREADABLE, "", str(absent)),
    ]
    assert report.samples == {"train": 0, "test": 8}, "the other split is looked at all the same"
    assert report.obstacle == "2 of the problems cannot be fixed by leaving samples out"
    with pytest.raises(InputError, match=r"dataset\.root is not set"):
        checked("dataset=cifar10")


def test_shapes3d_is_always_in_order() -> None:
    report = checked("dataset.length=6", "dataset.height=64", "dataset.width=96", "dataset.max_disparity=16")
    assert (report.samples, report.problems, report.notes) == ({"train": 6}, [], [])


def test_the_report_is_plain(frames: Path) -> None:
    part(frames, 0, "right").unlink()
    plain = checked(*things(frames)).to_json()
    assert plain["clean"] is False
    assert plain["counts"][MISSING] == 1
    assert sum(plain["counts"].values()) == 1
    assert plain["problems"][0]["sample"] == plain["excluded"][0] == name(0)
    assert plain["config"]["dataset"]["root"] == str(frames)
