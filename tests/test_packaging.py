"""The wheel and the sdist hold the tree; the wheel, installed alone, searches."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.package

ROOT = Path(__file__).parent.parent


def run(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def expected() -> set[str]:
    """The tree with its symlinks followed; autodisp/cells and its like are the top-level folders themselves."""
    kept = (".py", ".yaml", ".json", ".typed", ".safetensors", ".html", ".css", ".js", ".cpp")
    found = os.walk(ROOT / "autodisp", followlinks=True)
    files = (Path(folder, name) for folder, _, names in found for name in names)
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix in kept}


def test_no_two_names_differ_by_case_alone() -> None:
    names = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    paths = {parent.as_posix() for name in names for parent in (Path(name), *Path(name).parents)}
    assert sorted(paths) == sorted({path.casefold(): path for path in paths}.values())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both distributions, made from what git would clone plus what is not committed yet."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).stdout.split("\0")
    for name in filter(None, listed):
        origin, target = ROOT / name, source / name
        if origin.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.readlink(origin))
        elif origin.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(origin.read_bytes())
    # The environment's own setuptools: unit tests need no network.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source), cwd=out)
    return out


def test_the_wheel_is_the_tree(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected()


def test_the_sdist_builds_the_same(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert expected() <= names
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names


def test_the_wheel_searches_three_steps(built: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site),
        str(next(built.glob("*.whl"))), cwd=tmp_path,
    )  # fmt: skip
    program = "import autodisp, autodisp.cli.entry as entry; print(autodisp.__file__); entry.search()"
    overrides = [
        "experiment=smoke", "search.epochs=1", "search.steps_per_epoch=3", "search.batch_size=1", "dataset.length=8",
        "dataset.height=64", "dataset.width=64", "dataset.max_disparity=16", "optimizer.alphas.order=first",
        "run.folder=found",
    ]  # fmt: skip
    done = run(sys.executable, "-c", program, *overrides, cwd=tmp_path, PYTHONPATH=str(site), OMP_NUM_THREADS="1")
    assert done.stdout.startswith(str(site))
    assert (tmp_path / "found" / "genotype.json").is_file()
    assert "found normal cell" in done.stdout
