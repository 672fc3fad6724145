"""``make fuzz``: damaged files of every format, a table of what came of them, and each fault with its line.

python -m tests.fuzzing [--cases 100000] [--workers 2] [--formats pfm png] [--first 0] [--out runs/fuzz]
python -m tests.fuzzing --formats pfm --file runs/fuzz/pfm/17-a.pfm     reads one file again, here
"""

import argparse
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzzing.campaign import Tally, place_case, run
from tests.fuzzing.formats import FORMATS, counts


def main() -> int:
    """Gives the exit code: 0 where nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000, help="over all formats")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each format")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of computing that a case may take")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="for the failing files")
    parser.add_argument("--file", type=Path, help="read this one, of the one format, and show what comes of it")
    given = parser.parse_args()
    if given.file is not None:
        return _again(given.formats[0], given.file)
    started = time.monotonic()
    amounts = counts(given.cases, given.formats)
    with TemporaryDirectory() as folder:
        tallies = run(
            [FORMATS[name] for name in given.formats],
            lambda kind: range(given.first, given.first + amounts[kind.name]),
            Path(folder),
            workers=given.workers,
            seconds=given.seconds,
        )
    _table(tallies)
    faults = _keep(tallies, given.out)
    print(f"{sum(tally.cases for tally in tallies.values())} cases on {given.workers} processes in "
          f"{time.monotonic() - started:.0f} s, {faults} faults")  # fmt: skip
    return 1 if faults else 0


def _again(name: str, file: Path) -> int:
    with TemporaryDirectory() as folder:
        path = place_case(FORMATS[name], Path(folder), file.read_bytes())
        print(f"read: {FORMATS[name].read(path)!r}"[:500])
    return 0


def _table(tallies: dict[str, Tally]) -> None:
    print(f"{'format':18}{'cases':>8}{'read':>8}{'refused':>9}{'faults':>8}{'worst s':>9}")
    for name, tally in tallies.items():
        print(f"{name:18}{tally.cases:8}{tally.read:8}{tally.refused:9}{len(tally.faults):8}{tally.worst_seconds:9.2f}")


def _keep(tallies: dict[str, Tally], out: Path) -> int:
    """Writes every failing file, in place of those of an earlier run."""
    shutil.rmtree(out, ignore_errors=True)
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    for fault in faults:
        kind = FORMATS[fault.format]
        path = out / fault.format.replace(" ", "_") / f"{fault.number}-{Path(kind.place).name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.case(fault.number))
        print(f"{fault.format} {fault.number}: {fault.reason}")
        print(f"    {Path(sys.executable).name} -m tests.fuzzing --formats '{fault.format}' --file '{path}'")
    return len(faults)


if __name__ == "__main__":
    sys.exit(main())
