"""Growth of memory, open files and run folder over a search of thousands of tiny epochs.

    python -m benchmarks.soak [--epochs 2000] [--out runs/soak]

The program is observed from outside, on Linux. Growth is that of the medians from the third to the last quarter of the
epochs.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

TINY = (
    "task=classification", "dataset=cifar10", "space=s4", "network=classification_tiny", "network.channels=2",
    "search.batch_size=2", "search.steps_per_epoch=1", "search.validation_batches=1", "curvature.every=1",
    "curvature.tolerance=0.3", "regularization=es", "regularization.factor=1e30", "optimizer=sgd", "run.threads=1",
)  # fmt: skip
LOOK_EVERY = 2.0
"""Seconds."""


@dataclass(frozen=True)
class Look:
    """An observation of the program."""

    epoch: int
    memory: float
    """Resident, MiB, without the workers."""
    files: int
    """Open, workers' pipes among them."""
    folder: float
    """MiB."""
    checkpoints: float
    """MiB."""


def look(process: int, folder: Path) -> Look | None:
    """Observes a process and its run folder; returns None once the process has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
    except (OSError, IndexError):
        return None
    if not pages:  # it has ended
        return None
    epochs = sum(b'"epoch"' in line for line in _lines(folder / "metrics.jsonl"))
    return Look(epochs, pages * 4096 / 2**20, files, _size(folder), _size(folder / "checkpoints"))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def _size(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # a state that has just been renamed or deleted
            continue
    return total / 2**20


def growth(values: list[float]) -> float:
    """Returns the growth from the third quarter to the last, in percent."""
    quarter = len(values) // 4
    third, last = (statistics.median(part) for part in (values[2 * quarter : 3 * quarter], values[3 * quarter :]))
    return 100 * (last / third - 1)


def main() -> int:
    """Runs the program; returns exit code 1 if memory or files grow."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=2000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10_small"), help="CIFAR-10's files")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"), help="is emptied")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    folder = given.out / "run"
    words = [*TINY, f"search.epochs={given.epochs}", f"dataset.root={given.data}", f"run.folder={folder}"]
    program = "import sys; from autodisp.cli.entry import search; sys.argv[0] = 'autodisp-search'; sys.exit(search())"
    seen = []
    began = time.monotonic()
    with (given.out / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", program, *words], stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(LOOK_EVERY)
            if (now := look(process.pid, folder)) is not None and now.epoch:
                seen.append(now)
    (given.out / "soak.json").write_text(json.dumps([asdict(moment) for moment in seen]) + "\n")
    if process.returncode or len(seen) < 8:
        sys.stderr.write(f"the search ended with {process.returncode} after {len(seen)} looks: {given.out}/log.txt\n")
        return 1
    for place in (0, len(seen) // 4, len(seen) // 2, 3 * len(seen) // 4, len(seen) - 1):
        at = seen[place]
        sys.stdout.write(
            f"epoch {at.epoch:5}: {at.memory:7.1f} MiB resident, {at.files} open files, "
            f"folder {at.folder:.1f} MiB, of which states {at.checkpoints:.2f} MiB\n"
        )
    memory, files = growth([at.memory for at in seen]), growth([at.files for at in seen])
    sys.stdout.write(
        f"over the last half: memory {memory:+.2f} %, open files {files:+.2f} %; {time.monotonic() - began:.0f} s\n"
    )
    return 0 if memory < 1 and files <= 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
