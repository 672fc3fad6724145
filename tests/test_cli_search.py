"""What a search does when something comes in between: signals, full disks, damaged files, other processes."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autodisp.cells.architecture import Architecture, entropy
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.cli.search import _grows, notes_on_result, other_arithmetic, resume, search
from autodisp.config.search import parse
from autodisp.datasets import shapes3d
from autodisp.errors import InputError, RunFault
from autodisp.observers.search_folder import SearchFolder
from autodisp.search.loop import Search
from autodisp.tasks.base import Figure
from tests.made_data import write_cifar10
from tests.programs import composed, contents, differences, files_up_to, untimed

SMALL = (
    "experiment=smoke", "task=classification", "dataset=cifar10", "space=tiny81", "network=classification_tiny",
    "curvature.tolerance=0.3", "search.drop_path=0.2", "search.steps_per_epoch=2",
)  # fmt: skip
STEREO = (
    "experiment=smoke", "network=disparity_tiny", "dataset=flyingthings3d", "dataset.crop=[32,32]",
    "dataset.max_disparity=16", "curvature.tolerance=0.3", "optimizer.alphas.order=first",
    "optimizer.alphas.first_order_epochs=0", "search.steps_per_epoch=4", "search.epochs=1", "run.workers=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write_cifar10(root)
    return root


@pytest.fixture(autouse=True)
def where_they_are(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_IMAGES", str(images))


@pytest.fixture(autouse=True, scope="module")
def without_pictures() -> Iterator[None]:
    """Those of each epoch take longer than its steps; tests.crashing kills searches that draw them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchFolder, "_show", lambda *_: None)
        yield


def run(folder: Path, *overrides: str) -> Path:
    root = f"dataset.root={os.environ['TEST_IMAGES']}"
    made = search(composed("search", f"run.folder={folder}", *SMALL, root, *overrides))
    assert made is not None
    return made


def go_on(folder: Path, *overrides: str) -> Path:
    said = [f"resume={folder}", *overrides]
    torch.manual_seed(4321)  # a resumed search depends on nothing that it finds
    return resume(composed("search", "run.folder=unused", *said), said)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A search that nothing came in between of; the tests leave it as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_IMAGES", str(images))
        return run(tmp_path_factory.mktemp("whole") / "run")


def assert_same_end(first: Path, second: Path) -> None:
    assert untimed(first) == untimed(second)
    assert (first / "genotype.json").read_bytes() == (second / "genotype.json").read_bytes()
    assert differences(*(Checkpoints(folder / "checkpoints").newest(pytest.fail) for folder in (first, second))) == []


@contextmanager
def before_step(number: int, act: Callable[[], None]) -> Iterator[None]:
    """Does something before that step of the run, once."""
    original = Search.step

    def step(self: Search) -> None:
        if self.progress.steps == number:
            act()
        original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Search, "step", step)
        yield


def states(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


# --- signals ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "step", "left"),
    [
        (signal.SIGINT, 0, ["epoch_0000_at_000001.pt"]),
        (signal.SIGTERM, 2, ["epoch_0000.pt", "epoch_0001_at_000001.pt"]),
        (signal.SIGUSR1, 1, ["epoch_0000.pt"]),
    ],
)
def test_a_signal_saves_and_stops(
    tmp_path: Path, whole: Path, number: int, step: int, left: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """In the middle of an epoch, and at its last step, when the epoch is brought to its end."""
    folder, before = tmp_path / "run", signal.getsignal(number)
    with before_step(step, lambda: signal.raise_signal(number)), pytest.raises(SystemExit) as stopped:
        run(folder)
    assert stopped.value.code == 128 + number
    said = capfd.readouterr().err
    assert "stopping after this step, with the state saved" in said
    assert f"stopped; resume with: {os.path.basename(sys.argv[0])} resume={folder}" in said
    assert states(folder) == left
    assert signal.getsignal(number) == before
    go_on(folder)
    assert_same_end(whole, folder)


def test_a_second_signal_stops_at_once() -> None:
    script = (
        "import signal, time\nfrom autodisp.cli.signals import StopSignals\n"
        "with StopSignals() as stop:\n"
        "    signal.raise_signal(signal.SIGTERM)\n    assert stop() and stop.exit_code == 143\n"
        "    signal.raise_signal(signal.SIGINT)\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.count("once more to stop at once") == 1


# --- going on ---


def test_a_run_is_not_begun_over_another(whole: Path) -> None:
    with pytest.raises(
        InputError, match=r"contains a run already.*resume it by `.* resume=.*`, or take another folder"
    ):
        run(whole)


def test_a_finished_search_is_left_as_it_is(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    names = ("metrics.jsonl", "genotype.json", "config.yaml", "checkpoints/epoch_0001.pt")
    before = {name: (folder / name).read_bytes() for name in names}
    go_on(folder)
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert "resumed at epoch 2, step 0; all of its epochs are done" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_newest_state_costs_an_epoch(tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    newest = folder / "checkpoints" / "epoch_0001.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    go_on(folder)
    said = capsys.readouterr().out
    assert f"{newest}: cannot be read as a checkpoint" in said
    assert "resumed at epoch 1, step 0" in said
    assert_same_end(whole, folder)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["search.epochs=9"], "search.epochs=9 (the run has 2): the learning rate falls over all epochs"),
        (["seed=1", "network.channels=3"], "network.channels=3 (the run has 4); seed=1 (the run has 0)"),
        (["experiment=smoke"], "dataset.name=shapes3d (the run has cifar10)"),
        (["regularization=ada"], "regularization.name=ada (the run has none)"),
        (["run.folder=elsewhere"], "run.folder=elsewhere"),
        (["plan=true"], "plan=True (the run has False)"),
    ],
)
def test_a_resumed_search_keeps_its_config(whole: Path, said: list[str], says: str) -> None:
    before = contents(whole)
    words = [f"resume={whole}", *said]
    elsewhere = [] if "run.folder=elsewhere" in said else ["run.folder=unused"]
    with pytest.raises(InputError, match=f"{re.escape(says)}.*A run keeps its config"):
        resume(composed("search", *elsewhere, *words), words)
    assert contents(whole) == before


def test_a_search_whose_states_were_deleted_keeps_its_results(tmp_path: Path, whole: Path) -> None:
    """Starting again would overwrite them."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    before = contents(folder)
    with pytest.raises(InputError, match=r"has results, but no state in checkpoints/ to resume from: put the states"):
        go_on(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("change", ["fewer images", "another space"])
def test_a_search_is_not_resumed_on_other_data_or_another_space(tmp_path: Path, change: str) -> None:
    """Its two splits would be dealt anew: images that trained the weights would validate."""
    root, space = tmp_path / "images", tmp_path / "space.json"
    write_cifar10(root)
    written = {**SPACES["tiny81"].to_json(), "name": "mine"}
    space.write_text(json.dumps(written))
    words = [f"dataset.root={root}", f"space.file={space}", "search.epochs=1", "search.steps_per_epoch=1"]
    folder = run(tmp_path / "run", *words)
    go_on(folder)  # with the same files
    if change == "another space":
        space.write_text(json.dumps(written).replace("max_pool_3x3", "avg_pool_3x3"))
        says = "its space.file has other cells than when the run began"
    else:
        batch = root / "cifar-10-batches-bin" / "data_batch_2.bin"
        batch.write_bytes(batch.read_bytes()[: 3073 * 4])
        says = r"its data has other samples \(23 now, 24 when it began\), so the splits would be others"
    before = contents(folder)
    with pytest.raises(InputError, match=f"^resume=.*: {says}: put the files back as they were, or start another run$"):
        go_on(folder)
    assert contents(folder) == before


def test_the_same_command_line_may_be_said_again(tmp_path: Path, whole: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    root = f"dataset.root={os.environ['TEST_IMAGES']}"
    assert go_on(folder, *SMALL, root, "run.workers=1") == folder
    assert_same_end(whole, folder)


@pytest.mark.slow
def test_epochs_are_added_where_they_change_nothing_before(tmp_path: Path) -> None:
    constant = ("optimizer.weights.min_learning_rate=0.005", "search.drop_path=0", "regularization=none")
    longer = run(tmp_path / "longer" / "run", *constant, "search.epochs=3")
    folder = run(tmp_path / "run", *constant)
    go_on(folder, "search.epochs=3")
    assert untimed(folder) == untimed(longer)
    assert "epochs: 3" in (folder / "config.yaml").read_text()
    with pytest.raises(InputError, match=r"search\.epochs=2 \(the run has 3\): can be raised, not lowered"):
        go_on(folder, "search.epochs=2")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("search.drop_path=0.2", "drop-path rises"),
        ("augmentation.cutout=16", "cut-out rises"),
        ("relaxation=gumbel", "the temperature of relaxation=gumbel falls over all epochs"),
        ("relaxation=perturbed", "the radius of relaxation=perturbed rises"),
        ("alpha_penalty=beta", "alpha_penalty=beta rises"),
        ("skip=auxiliary", "skip=auxiliary falls"),
        ("selection=perturbation", "selection=perturbation tunes the supernet after all epochs"),
    ],
)
def test_epochs_are_not_added_to_what_grows_over_them(word: str, why: str) -> None:
    constant = ("task=classification", "optimizer.weights.min_learning_rate=0.025", "run.folder=unused")
    assert _grows(parse(composed("search", *constant)))["search.epochs"] is None
    assert why in str(_grows(parse(composed("search", *constant, word)))["search.epochs"])


# --- the disk ---


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [f"checkpoints/.{os.getpid()}.epoch_0001.pt", "metrics.jsonl"], ids=["the state", "the records"]
)
def test_a_full_disk(tmp_path: Path, whole: Path, name: str) -> None:
    folder = tmp_path / "run"
    kept = tmp_path / "kept"

    def fill() -> None:
        if (folder / name).exists():
            (folder / name).rename(kept)
        (folder / name).symlink_to("/dev/full")

    program = os.path.basename(sys.argv[0])
    says = (
        r"cannot be written \(No space left on device\).*the state before is saved: once that is fixed, "
        f"`{program} resume={folder}`"
    )
    with before_step(3, fill), pytest.raises(RunFault, match=says):
        run(folder)
    if kept.exists():
        (folder / name).unlink()
        kept.rename(folder / name)
    assert states(folder) == ["epoch_0000.pt"]
    go_on(folder)
    assert_same_end(whole, folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's own thread
def test_a_limit_on_the_size_of_files(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    with files_up_to(10_000), pytest.raises(RunFault, match=r"epoch_0000\.pt: cannot be written \(File too large\)"):
        run(folder)
    assert states(folder) == []
    go_on(folder)
    assert_same_end(whole, folder)


@pytest.mark.slow
def test_what_is_for_watching_only_ends_no_run(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard's events and the curves."""

    def no_space(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", no_space)
    monkeypatch.setattr("autodisp.observers.search_folder.draw_curves", no_space)
    folder = tmp_path / "run"
    with pytest.raises(RunFault, match="No space left on device"):
        run(folder)  # the curves at the very end are what a search is for
    said = capsys.readouterr().out
    assert said.count("continues without TensorBoard") == 1
    assert said.count("curves.png: cannot be written (No space left on device); the run continues") == 1
    monkeypatch.undo()
    go_on(folder)
    assert_same_end(whole, folder)


@pytest.mark.slow
def test_a_run_folder_that_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    gone = pytest.raises(RunFault, match=rf"{folder}.*; the run folder is gone, and with it the run$")
    with before_step(3, lambda: shutil.rmtree(folder)), gone:
        run(folder)
    assert not folder.exists()


# --- data and numbers ---


def cut_short(root: Path) -> None:
    for path in root.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.slow
def test_data_that_goes_wrong_in_the_middle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images that become unreadable, and a dataset that disappears."""
    root, kept = tmp_path / "frames", tmp_path / "kept"
    shapes3d.write(shapes3d.Shapes3D(length=6, seed=0, height=32, width=48, max_disparity=16), root, train=5)
    shutil.copytree(root, kept)
    few = [*STEREO, f"dataset.root={root}", "dataset.crop=[48,32]"]

    def search_it(folder: Path) -> None:
        search(composed("search", f"run.folder={folder}", *few))

    search_it(tmp_path / "whole" / "run")
    assert "checked images are smaller than dataset.crop=[48, 32], such as 24x16" in capsys.readouterr().out
    faults: list[tuple[Callable[[Path], None], str]] = [(shutil.rmtree, r"\.(png|pfm): "), (cut_short, r"\.png: ")]
    for goes_wrong, says in faults:
        folder = tmp_path / goes_wrong.__name__ / "run"
        with (
            before_step(1, partial(goes_wrong, root)),
            pytest.raises(InputError, match=rf"{says}.*the state before is saved"),
        ):
            search_it(folder)
        assert states(folder)[-1].startswith("epoch_000")
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(kept, root)
    go_on(folder)
    assert_same_end(tmp_path / "whole" / "run", folder)


@pytest.mark.slow
def test_a_number_that_is_not_finite(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    original = Search.weight_step

    def spoilt(search: Search, batch: Any) -> Any:
        if search.progress.steps == 3:
            batch = batch._replace(image=batch.image * float("nan"))
        return original(search, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Search, "weight_step", spoilt)
        with pytest.raises(InputError) as caught:
            run(folder)
    assert "epoch 1, step 1 (batch 3 of the weight split, 3 of the architecture split): the training loss" in str(
        caught.value
    )
    assert "lower optimizer.weights.learning_rate" in str(caught.value)
    assert str(caught.value).endswith("; a run keeps its settings: start another one with that")
    assert states(folder) == ["epoch_0000.pt", "epoch_0001_at_000001.pt"]
    go_on(folder)
    assert_same_end(whole, folder)


def test_out_of_memory_says_what_decides_it(tmp_path: Path) -> None:
    def take_too_much() -> None:
        torch.empty(1 << 55)

    with before_step(1, take_too_much), pytest.raises(RunFault) as caught:
        run(tmp_path / "run")
    says = str(caught.value)
    for words in ("out of memory", "search.batch_size=2", "network.channels=4", "plan=true", "starts it again"):
        assert words in says


def test_the_record_says_what_a_search_began_with(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [line.get("event") for line in lines] == ["start", None, None]
    assert {"constant", "valid/accuracy"} <= set(lines[0])


# --- the summary ---


@pytest.mark.parametrize(
    ("alpha", "end", "constant", "says"),
    [
        (1.0, 1.0, 3.46, []),
        (0.03, 1.0, 3.46, ["all operation weights are nearly equal"]),  # 0.20 to 0.206 among five
        (1.0, 22.79, 3.46, ["the supernet ends at 22.79 px, no better than the best constant answer, 3.46 px"]),
        (0.0, math.nan, 3.46, ["all operation weights are nearly equal", "the supernet ends at nan px"]),
    ],
)
def test_results_without_meaning_are_said_to_be_such(
    alpha: float, end: float, constant: float, says: list[str]
) -> None:
    architecture = Architecture(SPACES["autodispnet"], seed=0)
    with torch.no_grad():
        for weights in architecture.parameters():
            weights.zero_()
            weights[..., 0] = alpha
    found = {"epoch": 0, **{f"entropy/{kind}": value for kind, value in entropy(architecture.weights()).items()}}
    task = SimpleNamespace(figure=Figure("epe", "min", "px"))
    search = SimpleNamespace(supernet=SimpleNamespace(architecture=architecture, task=task))
    parts: Any = SimpleNamespace(search=search)
    notes = notes_on_result(parts, found, constant=constant, end=end)
    assert len(notes) == len(says)
    assert all(note.startswith(f"note:  {words}") for note, words in zip(notes, says, strict=True))


def test_a_run_resumed_with_other_arithmetic_is_told_so() -> None:
    start = {"event": "start", "constant": 7.0, "kernels": "native", "threads": 2}
    assert other_arithmetic(start, {"kernels": "native", "threads": 2}) is None
    line = other_arithmetic(start, {"kernels": "plain", "threads": 2})
    assert line == (
        "the run began with run.kernels=native and is resumed with run.kernels=plain: its last digits will differ"
    )
    assert other_arithmetic({}, {"kernels": "plain", "threads": 1}) is None, "of a run that recorded neither"
