"""The lock of a run folder, between processes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autodisp.errors import InputError
from autodisp.run_lock import LOCK, at_work, locked

_OWNER = """
import sys, time
from pathlib import Path
from autodisp.run_lock import locked
with locked(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the folder."""
    with subprocess.Popen([sys.executable, "-c", _OWNER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        yield process
        process.kill()


def test_one_process_a_folder(tmp_path: Path, other: subprocess.Popen[bytes]) -> None:
    with pytest.raises(InputError, match=rf"in use by process {other.pid} on \S+; wait"), locked(tmp_path):
        pass
    assert at_work(tmp_path)
    other.kill()
    other.wait()
    assert at_work(tmp_path) is False
    with locked(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()


def test_asking_takes_no_lock_away(tmp_path: Path) -> None:
    ask = [sys.executable, "-c", _OWNER, str(tmp_path)]
    with locked(tmp_path):
        assert at_work(tmp_path)
        assert b"in use by process" in subprocess.run(ask, capture_output=True, check=False).stderr
    assert at_work(tmp_path) is False


@pytest.mark.parametrize("text", [None, "", "process 7 on another-machine\n", "process on\n"])
def test_what_cannot_be_known(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / LOCK).write_text(text)
    assert at_work(tmp_path) is None


def test_a_lock_that_leads_elsewhere(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / LOCK).symlink_to(tmp_path / "pipe")
    assert at_work(tmp_path) is None
