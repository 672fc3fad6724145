"""Fixtures that tests of several modules use."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings

from autodisp.cli import entry
from autodisp.errors import InputError, RunFault

settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")


def pytest_collection_finish() -> None:
    """Leave what was imported to no further garbage collection, which would walk a million objects each time."""
    gc.freeze()


@pytest.fixture(autouse=True)
def messages_of_one_line(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which a message for the user has several lines, also where the test expects the error."""
    messages: list[str] = []

    def heard(error: Exception, *words: object) -> None:
        Exception.__init__(error, *words)
        messages.append(str(error))

    for kind in (InputError, RunFault):
        monkeypatch.setattr(kind, "__init__", heard)
    yield
    assert [message for message in messages if "\n" in message] == []


@pytest.fixture
def empty_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the files of a page's figures empty, since drawing them takes most of the time; test_page draws them."""
    monkeypatch.setattr("autodisp.report.page.settle", lambda figure: None)
    monkeypatch.setattr("autodisp.report.page.save", lambda figure, path: path.touch())


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Call a program in this process, in the test's folder, and return its exit code."""
    monkeypatch.setattr("autodisp.cli.program.keep_freed_memory", lambda: None)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")  # the programs set it, which the next test shall not see

    def call(program: str, *words: str) -> int:
        GlobalHydra.instance().clear()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"autodisp-{program}", *words])
        try:
            getattr(entry, program)()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


@pytest.fixture
def genuine() -> Callable[[str], Path]:
    """Return the place of genuine data beside the checkout; skip the test where it is absent."""

    def genuine(name: str) -> Path:
        path = Path(os.environ.get("AUTODISP_SHARED", Path(__file__).parents[2] / "shared")) / "data" / name
        if not path.exists():
            pytest.skip(f"{path} is absent: set AUTODISP_SHARED to the folder that holds data/{name}")
        return path

    return genuine
