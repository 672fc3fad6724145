"""Runs the README's commands, one after another, in a folder of their own: ``make readme-test``.

Run in earnest, on small made data and with few steps (what is put in place of what stands in SHRUNK and STAND_INS):
searches, trainings, checks, reports, predictions, exports and evaluations of shapes3d, FlyingThings3D and CIFAR-10
(made data in the official layouts). Composed only, with ``--cfg job``: those of ELSEWHERE, datasets that are not made
here; their readers have tests of their own. Not run: the README's ``make`` lines, which begin with an installation and
take minutes; what ``make demo`` calls is composed. The examples run in tests/test_examples.py.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from autodisp.datasets.shapes3d import Shapes3D, write
from tests.readme.commands import of_readme, swept

ELSEWHERE = ("sintel", "svhn", "kitti2015", "voc")
SEARCH = ("search.epochs=1", "search.steps_per_epoch=2", "search.batch_size=1", "search.validation_batches=1")
TRAINING = (
    "training.steps=2", "training.batch_size=2", "validation.every=1", "validation.samples=1",
    "optimizer.warmup_steps=1",
)  # fmt: skip
STEREO = ("network=disparity_tiny",)
IMAGES = ("network=classification_tiny",)
OWN_TASK = ("network.channels=2",)
RUN = ("run.workers=0", "run.threads=1")
STAND_INS = {
    "runs/MY_SEARCH": ["autodisp-search", "experiment=smoke", "dataset.length=8", "dataset.crop=[64,128]", *SEARCH],
    "runs/MY_TRAINING": ["autodisp-train", "dataset.length=4", "dataset.crop=[64,128]", *TRAINING, *STEREO, *RUN],
}
"""What makes the runs that the README calls by these names."""


def make_data(root: Path) -> None:
    """FlyingThings3D and CIFAR-10 in their layouts, a pair and two folders of pairs."""
    data = Shapes3D(length=8, seed=0, height=128, width=256, max_disparity=48)
    write(data, root / "data" / "flyingthings3d", train=6)
    frames = root / "data" / "flyingthings3d" / "frames_cleanpass" / "TRAIN" / "A"
    for index in range(4):
        for side in ("left", "right"):
            (root / "rig" / side).mkdir(parents=True, exist_ok=True)
            shutil.copy(frames / f"{index:04d}" / side / "0006.png", root / "rig" / side / f"{index}.png")
    for side in ("left", "right"):
        shutil.copy(root / "rig" / side / "0.png", root / f"{side}.png")
    make_own(frames, root)
    cifar = root / "data" / "cifar10" / "cifar-10-batches-bin"
    cifar.mkdir(parents=True)
    draw = np.random.default_rng(0)
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        records = draw.integers(0, 256, (8, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        (cifar / f"{name}.bin").write_bytes(records.tobytes())
    (cifar / "batches.meta.txt").write_text("\n".join(f"class{number}" for number in range(10)) + "\n")


def make_own(frames: Path, root: Path) -> None:
    """The examples that README's commands name, where README has them, and what the reader reads."""
    (root / "examples").mkdir()
    for name in ("own_dataset.py", "own_task.py"):
        shutil.copy(Path(__file__).parents[2] / "examples" / name, root / "examples")
    truth = root / "data" / "flyingthings3d" / "disparity" / "TRAIN" / "A"
    for kind, tree, suffix in (("left", frames, "png"), ("right", frames, "png"), ("disparity", truth, "pfm")):
        (root / "data" / "own" / kind).mkdir(parents=True)
        side = "right" if kind == "right" else "left"
        for scene in sorted(path.name for path in frames.iterdir()):
            shutil.copy(tree / scene / side / f"0006.{suffix}", root / "data" / "own" / kind / f"{scene}.{suffix}")


def dataset_of(words: list[str]) -> str:
    """The dataset that a command line is about."""
    named = [word.removeprefix("dataset=") for word in words if word.startswith("dataset=")]
    images = {"task=classification", "experiment=robustdarts"} & set(words)
    return named[0] if named else "cifar10" if images else "shapes3d"


def shrunk(words: list[str]) -> list[str]:
    """The same command with the made data, and with settings that keep it short."""
    dataset = dataset_of(words)
    words = [word.replace("=PATH", f"=data/{dataset}").replace("=MY_PAIRS", "=rig") for word in words]
    if "-m" in words:  # a sweep over two values is one
        words = [_two(word) for word in words]
    network = OWN_TASK if "task=own" in words else IMAGES if dataset == "cifar10" else STEREO
    if any(word.startswith("init=") for word in words):
        network = ()  # that of the model
    more: list[str] = []
    if words[0] == "autodisp-search" and "experiment=smoke" not in words:
        more = [*SEARCH, *network]
    if words[0] == "autodisp-train":
        more = [*TRAINING, *network]
    if dataset == "shapes3d" and more:
        more += ["dataset.length=8", "dataset.crop=[64,128]"]
    if words[0] == "autodisp-check":
        more = ["out=runs/MY_CHECK", "dataset.crop=null"]
    if words[0] == "autodisp-report":
        more = ["animation=false"]
    if words[0] == "autodisp-study" and dataset == "cifar10":
        more = ["study.datasets=[cifar10]"]
    more += RUN if words[0] in ("autodisp-search", "autodisp-train") else ()
    return words if any(word.startswith("resume=") or word == "--help" for word in words) else [*words, *more]


def _two(word: str) -> str:
    if "=" not in word or len(values := swept(word)) < 2:
        return word
    return f"{values[0]},{values[1].partition('=')[2]}"


def run(words: list[str], folder: Path) -> bool:
    """Whether the command ended well; says so."""
    program = str(Path(sys.executable).parent / words[0])
    began = time.monotonic()
    done = subprocess.run(
        [program, *words[1:]], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    print(f"{'done' if done.returncode == 0 else 'FAILED'} {time.monotonic() - began:4.0f} s  {shlex.join(words)}")
    if done.returncode != 0:
        print(done.stdout[-1000:], done.stderr[-2000:], sep="\n")
    return done.returncode == 0


def main() -> int:
    """0 if all commands ended well."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_data(folder)
        fine = [run([*words, f"run.folder={name}"], folder) for name, words in STAND_INS.items()]
        fine.append(run(["autodisp-search", "experiment=demo", "--cfg", "job"], folder))
        fine.append(run(["autodisp-search", "-sc", "install=bash"], folder))
        for words in of_readme():
            if words[0] == "make":
                continue
            elsewhere = dataset_of(words) in ELSEWHERE
            fine.append(run([*words, "--cfg", "job"] if elsewhere else shrunk(words), folder))
    print(f"{sum(fine)} of {len(fine)} commands ended well")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main())
