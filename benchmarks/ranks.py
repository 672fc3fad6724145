"""Scaling of a search over the processes of torchrun on one machine, one thread each.

    python -m benchmarks.ranks [--ranks 1 2] [--repeats 3] [--batch 4] [OVERRIDE ...]

Prints the median time of an epoch, without the first of each run and without curvature, and the speed-up in samples per
second over the first number of processes: with the same batch for all processes together (strong scaling) and with the
same batch for each process (weak scaling). Runs alternate. The overrides replace the default ones, a search of the
demo's network without measurements.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from autodisp.run_files import METRICS

SEARCH = (
    "experiment=demo",
    "search.epochs=2",
    "search.steps_per_epoch=20",
    "search.warmup_epochs=0",
)
MOST = ("search.validation_batches=2", "curvature.every=10", "run.threads=1", "run.device=cpu")
PROGRAM = "from autodisp.cli.entry import search; import sys; sys.argv[0] = 'autodisp-search'; search()"


def epochs(ranks: int, overrides: list[str]) -> list[float]:
    """Returns the seconds of each epoch after the first, curvature left out."""
    with tempfile.TemporaryDirectory() as parent:
        folder, script = Path(parent) / "run", Path(parent) / "search.py"
        script.write_text(PROGRAM, encoding="utf-8")
        launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
        command = [*launch, str(script), *overrides, f"run.folder={folder}", "-q"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        records = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
    rows = [record for record in records if "event" not in record]
    return [row["seconds"] - row.get("seconds_curvature", 0.0) for row in rows[1:]]


def main() -> None:
    """Prints a row per number of processes and size of batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4, help="size of the batch of the first number of processes")
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_args()
    overrides = [*(args.overrides or SEARCH), *MOST]
    first = args.ranks[0]
    cases = dict.fromkeys((ranks, batch) for ranks in args.ranks for batch in (args.batch, args.batch * ranks // first))
    seconds: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    for _ in range(args.repeats):
        for (ranks, batch), values in seconds.items():
            values += epochs(ranks, [*overrides, f"search.batch_size={batch}"])
    base = statistics.median(seconds[first, args.batch]) / args.batch
    print("| processes | batch | epoch, s (lowest, highest) | speed-up |\n| --- | --- | --- | --- |")
    for (ranks, batch), values in seconds.items():
        median = statistics.median(values)
        row = f"{median:.1f} ({min(values):.1f}, {max(values):.1f}) | {base * batch / median:.2f}"
        print(f"| {ranks} | {batch} | {row} |")


if __name__ == "__main__":
    main()
