"""``make crash-test``: searches killed at random moments and resumed end like the ones that were left alone.

    python -m tests.crashing [--kills 50] [--tasks disparity] [--policies none es ada] [--seed 0] [--out runs/crash]

Half of the kills come from outside after a random time, the others inside an act of the search: a state half written,
renamed, records half written, old states being deleted, in a roll-back or anywhere. A search that ends before it has
been killed often enough is compared and begun again.
"""

import argparse
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.crashing.searches import POLICIES, TASKS, Case, attempt, differences, warm_up
from tests.crashing.weapons import POINTS, UNNAMED_STATE, Weapon
from tests.made_data import write_cifar10


def main() -> int:
    """Gives the exit code: 0 where every search ended as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.crashing", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="of each search")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES), metavar="POLICY")
    parser.add_argument("--workers", type=int, default=0, help="processes a data stream")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("runs/crash"), help="for the runs; is emptied")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    write_cifar10(given.out / "images")
    warm_up()
    wrong = 0
    for task in given.tasks:
        for policy in given.policies:
            case = Case(task, policy, (given.out / "images").resolve(), given.workers)
            wrong += _put_to_the_test(case, given.out.resolve() / f"{task}_{policy}", given.kills, given.seed)
    _say(f"{wrong} searches ended otherwise" if wrong else "all ended bit for bit as the ones left alone")
    return 1 if wrong else 0


def _put_to_the_test(case: Case, place: Path, kills: int, seed: int) -> int:
    """How many of the killed searches ended otherwise than the one that was left alone."""
    began = time.monotonic()
    whole = place / "whole" / "run"
    whole.parent.mkdir(parents=True)
    if code := attempt(case, whole, None):
        raise SystemExit(f"{whole.parent / 'run.log'}: the search failed with {code} before anything was done to it")
    took = time.monotonic() - began
    draw = random.Random(f"{seed} {case.task} {case.policy}")
    killed, rounds, wrong, rolling, writing = 0, 0, 0, 0, 0
    while killed < kills:
        rounds += 1
        folder = place / f"killed_{rounds}" / "run"
        folder.parent.mkdir()
        while True:
            weapon = _weapon(draw, took, case.policy, first=not killed) if killed < kills else None
            code = attempt(case, folder, weapon)
            if code == -signal.SIGKILL and weapon is not None:
                killed += 1
                rolling += weapon.rolling_back
                writing += "state" in weapon.point
                _note(folder, weapon)
                continue
            break
        found = [f"exit code {code}"] if code else differences(whole, folder)
        if found:
            wrong += 1
            _say(f"{folder}: {'; '.join(found)}")
    _say(
        f"{case.task:14} {case.policy:4}  {killed} kills, {writing} of them about a state file, {rolling} in a "
        f"roll-back; {rounds} searches of {took:.1f} s, {wrong} ended otherwise; {time.monotonic() - began:.0f} s"
    )
    return wrong


def _weapon(draw: random.Random, took: float, policy: str, *, first: bool) -> Weapon:
    if policy == "ada" and first:  # whatever else chance brings
        return Weapon(point=UNNAMED_STATE, rolling_back=True)
    if draw.random() < 0.5:
        return Weapon(seconds=draw.uniform(0.0, took / 2))
    rolling = policy == "ada" and draw.random() < 0.4
    return Weapon(point=draw.choice(POINTS), turn=1 if rolling else draw.randint(1, 3), rolling_back=rolling)


def _note(folder: Path, weapon: Weapon) -> None:
    with (folder.parent / "kills.txt").open("a", encoding="utf-8") as file:
        file.write(f"{weapon}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
