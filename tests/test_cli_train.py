"""Whole small trainings through the program's own functions, and the program as it is called."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import autodisp
from autodisp import model_file
from autodisp.assembly import train_data
from autodisp.assembly.train_data import TrainData
from autodisp.cells.genotype import Genotype
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.cli.train import notes_on_evaluation, notes_on_result, resume, train
from autodisp.config.train import parse
from autodisp.datasets.flyingthings3d import write_frame
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.errors import InputError
from autodisp.prediction.image_models import ImageClassifier
from autodisp.prediction.inference import StereoMatcher
from autodisp.records import read_json_lines
from autodisp.tasks.base import Figure
from autodisp.training.loop import Training
from tests.made_data import write_cifar10
from tests.programs import composed, contents, tensorboard

SMALL = (
    "network=disparity_tiny", "dataset.length=6", "dataset.height=40", "dataset.width=72", "dataset.max_disparity=16",
    "dataset.crop=[32,64]", "training.steps=5", "training.batch_size=2", "training.average=0.5",
    "training.drop_path=0.2", "validation.every=2", "validation.samples=2", "optimizer.warmup_steps=2", "run.workers=0",
)  # fmt: skip
IMAGES = (
    "task=classification", "network=classification_tiny", "training.steps=3", "training.batch_size=6",
    "validation.every=2", "validation.batch_size=7", "optimizer.warmup_steps=1", "run.workers=0",
)  # fmt: skip

MODELS = ("best.safetensors", "last.safetensors")


def run(folder: Path, *overrides: str) -> Path:
    return train(composed("train", f"run.folder={folder}", *overrides))


def go_on(folder: Path, *overrides: str) -> Path:
    said = [f"resume={folder}", *overrides]
    folder_of_its_own = [] if any(text.startswith("run.folder") for text in overrides) else ["run.folder=unused"]
    return resume(composed("train", *folder_of_its_own, *said), said)


def records(folder: Path) -> list[dict[str, Any]]:
    """Of the intervals, apart from times."""
    found = [record for record in read_json_lines(folder / "metrics.jsonl") if "event" not in record]
    return [{name: value for name, value in record.items() if "second" not in name} for record in found]


def shown(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in tensorboard(folder / "tensorboard").Scalars("valid/epe")]


def assert_same_results(first: Path, second: Path) -> None:
    assert records(first) == records(second)
    for name in MODELS:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted training, which the tests leave as it is."""
    return run(tmp_path_factory.mktemp("whole") / "run", *SMALL)


def test_a_training_is_resumed_on_data_that_were_moved(tmp_path: Path, call: Callable[..., int]) -> None:
    """The default dataset, with which Hydra composes, has no root."""
    root, elsewhere = tmp_path / "images", tmp_path / "elsewhere"
    write_cifar10(root)
    folder = run(tmp_path / "run", "dataset=cifar10", f"dataset.root={root}", "validation.fraction=0.5", *IMAGES)
    root.rename(elsewhere)
    with pytest.raises(InputError, match="there is no such folder"):
        go_on(folder)
    assert call("train", f"resume={folder}", f"dataset.root={elsewhere}") == 0
    assert f"root: {elsewhere}" in (folder / "config.yaml").read_text()


def test_a_training_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    """Held-out samples would be others, among them some that it was trained on."""
    root = tmp_path / "images"
    write_cifar10(root)
    folder = run(tmp_path / "run", "dataset=cifar10", f"dataset.root={root}", "validation.fraction=0.5", *IMAGES)
    go_on(folder)  # with the same files
    batch = root / "cifar-10-batches-bin" / "data_batch_2.bin"
    batch.write_bytes(batch.read_bytes()[: 3073 * 4])
    before = contents(folder)
    with pytest.raises(InputError, match=r"^resume=.*its data has other samples \(23 now, 24 when it began\), so the"):
        go_on(folder)
    assert contents(folder) == before


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    tree = composed("train", "resume='~/gone'", "init='~/a.safetensors'", "run.folder='~/run'")
    assert (parse(tree).init, parse(tree).run.folder) == ("/home/me/a.safetensors", "/home/me/run")
    with pytest.raises(InputError, match=r"^resume=/home/me/gone: its config\.yaml cannot be read"):
        resume(tree, overrides=[])


def test_what_a_training_leaves(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [
        ".lock", "best.safetensors", "checkpoints", "command.txt", "config.yaml", "last.safetensors", "metrics.jsonl",
        "prediction.png", "tensorboard",
    ]  # fmt: skip
    assert [path.name for path in sorted((whole / "checkpoints").iterdir())] == ["step_0004.pt", "step_0005.pt"]
    assert len(list((whole / "tensorboard").iterdir())) == 1
    found = records(whole)
    assert [(record["epoch"], record["step"]) for record in found] == [(0, 2), (1, 4), (2, 5)]
    for record in found:
        assert all(math.isfinite(value) for value in record.values())
        assert {f"{part}/{name}" for part in ("train", "valid") for name in ("loss", "epe", "bad3", "d1")} <= set(
            record
        )


def test_the_config_is_kept_resolved(whole: Path) -> None:
    stored = OmegaConf.load(whole / "config.yaml")
    assert "${" not in (whole / "config.yaml").read_text()
    expected = composed("train", f"run.folder={whole}", *SMALL)
    assert parse(stored) == parse(expected)  # type: ignore[arg-type]


def test_the_models_are_those_of_the_records(whole: Path) -> None:
    found = records(whole)
    best = min(found, key=lambda record: record["valid/epe"])
    for name, record in (("best", best), ("last", found[-1])):
        card, task, network = model_file.load_network(whole / f"{name}.safetensors")
        assert (card.task, task.name) == ("disparity", "disparity")
        assert card.about["steps"] == record["step"]
        assert card.about["figures"] == {key: record[key] for key in record if key.startswith("valid/")}
        assert card.about["dataset"] == "shapes3d"
        assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_a_kept_model_gives_the_figure_of_its_record(whole: Path) -> None:
    config = parse(OmegaConf.load(whole / "config.yaml"))  # type: ignore[arg-type]
    matcher = autodisp.load(whole / "last.safetensors")
    assert isinstance(matcher, StereoMatcher)
    errors = []
    for batch in train_data.build_train_data(config).validation:
        errors.append((matcher(batch.left, batch.right) - batch.disparity).abs()[batch.valid].double())
    assert torch.cat(errors).mean().item() == pytest.approx(records(whole)[-1]["valid/epe"], rel=1e-6)


def test_the_console_and_a_finished_training_that_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path / "run", *SMALL, "training.steps=2")
    said = capsys.readouterr().out
    _, _, network = model_file.load_network(folder / "last.safetensors")
    parameters = f"{sum(parameter.numel() for parameter in network.parameters()):,}"
    assert f"run folder: {folder} · {parameters} parameters" in said
    assert "interval 0 [1/1]  step 2 · train loss " in said
    assert "training of disparity on shapes3d" in said
    assert f"{records(folder)[0]['valid/epe']:.2f} px (step 2)" in said
    assert f"files: {folder}/ (best.safetensors, last.safetensors, metrics.jsonl)" in said
    names = ("config.yaml", "metrics.jsonl", "checkpoints/step_0002.pt", *MODELS)
    before = {name: (folder / name).read_bytes() for name in names}
    go_on(folder)
    assert {name: (folder / name).read_bytes() for name in names} == before
    assert [step for step, _ in shown(folder)] == [2]


def test_small_pictures_and_swapped_views_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = Shapes3D(length=4, seed=0, height=32, width=64, max_disparity=16)
    for frame, sample in enumerate(samples[index] for index in range(4)):
        swapped = sample._replace(left=sample.right, right=sample.left)
        write_frame(tmp_path, split="TRAIN", subset="A", scene=frame, frame=6, sample=swapped)
    run(tmp_path / "run", "network=disparity_tiny", "dataset=flyingthings3d_full", f"dataset.root={tmp_path}",
        "dataset.crop=[48,64]", "dataset.max_disparity=16", "training.steps=1", "training.batch_size=1",
        "validation.fraction=0.25", "validation.every=1", "optimizer.warmup_steps=0", "run.workers=0")  # fmt: skip
    said = capsys.readouterr().out
    assert "3 of 3 checked images are smaller than dataset.crop=[48, 64], such as 64x32 (width x height)" in said
    assert "ground truth and views disagree in 3 of 3 checked samples" in said


def test_one_seed_gives_one_result(tmp_path: Path, whole: Path) -> None:
    """Whoever reads the batches, and whatever torch drew before."""
    torch.rand(7)
    assert_same_results(whole, run(tmp_path / "run", *SMALL, "run.workers=1"))


class Killed(BaseException):
    """Ends a training as a signal would."""


def killed_at_step(last: int, run: Callable[..., Path], folder: Path, *overrides: str) -> Path:
    """The folder of a training that died in that step."""
    original = Training.step

    def step(training: Training) -> Any:
        if training.progress.steps == last:
            raise Killed
        return original(training)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "step", step)
        with pytest.raises(Killed):
            run(folder, *overrides)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("last", [1, 3])
def test_an_interrupted_training_goes_on(
    tmp_path: Path, whole: Path, last: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the first interval, too, when there is nothing to go on from."""
    folder = killed_at_step(last, run, tmp_path / "run", *SMALL)
    capsys.readouterr()
    torch.manual_seed(1234)
    assert go_on(folder, f"run.workers={last % 2}") == folder
    assert f"resumed at step {2 * (last // 2)} of 5" in capsys.readouterr().out
    assert_same_results(whole, folder)
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["step_0004.pt", "step_0005.pt"]
    assert [step for step, _ in shown(whole)] == [2, 4, 5]
    assert shown(folder) == shown(whole)


@pytest.mark.slow
def test_killed_between_record_and_state(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of an interval without a state is written again, not twice."""
    folder, original = tmp_path / "run", Checkpoints.save

    def save(checkpoints: Checkpoints, epoch: int, state: dict[str, Any]) -> Path:
        if epoch == 4:
            raise Killed
        return original(checkpoints, epoch, state)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(Killed):
            run(folder, *SMALL)
    assert [record["step"] for record in records(folder)] == [2, 4]
    go_on(folder)
    assert_same_results(whole, folder)


@pytest.mark.slow
def test_a_fine_tuning_goes_on_without_the_model_it_began_with(tmp_path: Path, whole: Path) -> None:
    begun = tmp_path / "begun.safetensors"
    begun.write_bytes((whole / "best.safetensors").read_bytes())
    recipe = ["recipe=finetune", f"init={begun}", *SMALL[1:], "optimizer.learning_rate=1e-4"]
    expected = run(tmp_path / "straight", *recipe)
    folder = killed_at_step(3, run, tmp_path / "stopped", *recipe)
    begun.unlink()
    go_on(folder)
    assert_same_results(expected, folder)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (["training.steps=9"], "training.steps=9 (the run has 5): schedule=cosine falls over all steps"),
        (["++training.steps=9"], "training.steps=9 (the run has 5)"),
        (["task=classification", "dataset=cifar10", "network=classification"], "dataset.name=cifar10"),
        (["seed=1", "training.batch_size=3"], "seed=1 (the run has 0); training.batch_size=3 (the run has 2). A run"),
        (["run.folder=elsewhere"], "run.folder=elsewhere"),
        (["run.workers=-1"], "run.workers=-1: must be at least 0"),
        (["validation.batch_size=2", "validation.every=3"], "would change validation.every=3 (the run has 2). A run"),
    ],
)
def test_a_resumed_training_keeps_its_config(whole: Path, said: list[str], says: str) -> None:
    before = contents(whole)
    with pytest.raises(InputError, match=re.escape(says)):
        go_on(whole, *said)
    assert contents(whole) == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "its config.yaml cannot be read (FileNotFoundError); name the folder of a run"),
        ("a: [1", "its config.yaml cannot be read"),
        ("search: {epochs: 2}\n", "is the folder of a search; resume it by `autodisp-search resume="),
        ("- 1\n- 2\n", "its config.yaml is a list; name the folder of a run"),
        ("\x00\x01", "its config.yaml cannot be read"),
        ("task: {name: disparity}\nalphas: 3\n", "alphas: no such section or setting"),
        ("", "seed=null: must be a whole number"),
    ],
)
def test_what_is_no_run_is_not_resumed(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=re.escape(says)):
        go_on(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_diverged_training_says_so_and_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Training.descend

    def descend(training: Training, loss: torch.Tensor, *args: Any, **settings: Any) -> torch.Tensor:
        return original(training, loss * (math.nan if training.progress.steps == 3 else 1.0), *args, **settings)

    monkeypatch.setattr(Training, "descend", descend)
    with pytest.raises(InputError, match=r"^step 3 \(batch 3\): the training loss is not finite; .*start another"):
        run(tmp_path / "run", *SMALL)
    assert [record["step"] for record in records(tmp_path / "run")] == [2]
    assert model_file.load_network(tmp_path / "run" / "best.safetensors")[0].about["steps"] == 2


# --- other tasks, cells, starts ---


def test_a_classification_training(tmp_path: Path) -> None:
    genotype = Genotype("s3", SPACES["s3"].sample(1))
    genotype.save(tmp_path / "genotype.json")
    root = tmp_path / "data"
    write_cifar10(root, 100)
    base = [*IMAGES, f"dataset.root={root}", f"genotype={tmp_path / 'genotype.json'}"]
    folders = [run(tmp_path / name, *base) for name in "ab"]
    assert_same_results(*folders)
    found = records(folders[0])
    assert [record["step"] for record in found] == [2, 3]
    assert all(0 <= record["valid/accuracy"] <= 100 for record in found)
    card, task, _ = model_file.load_network(folders[0] / "best.safetensors")
    assert card.genotype == genotype
    assert task.settings["classes"] == 10
    assert task.settings["auxiliary"]
    best = max(found, key=lambda record: record["valid/accuracy"])
    assert card.about["steps"] == best["step"]
    assert tensorboard(folders[0] / "tensorboard").Tags()["images"] == []
    classifier = autodisp.load(folders[0] / "best.safetensors")
    assert isinstance(classifier, ImageClassifier)
    assert classifier(torch.rand(2, 3, 32, 32)).sum(dim=1).tolist() == pytest.approx([1, 1])


@pytest.mark.slow
def test_fine_tuning_starts_from_the_model(tmp_path: Path, whole: Path) -> None:
    """With a rate of nearly nothing, and no averaging, it ends where it began."""
    model = whole / "best.safetensors"
    folder = run(tmp_path / "run", "recipe=finetune", f"init={model}", *SMALL[1:], "optimizer.learning_rate=1e-30",
                 "optimizer.weight_decay=0", "training.average=null", "training.steps=1")  # fmt: skip
    start = read_json_lines(folder / "metrics.jsonl")[0]
    before = next(record for record in reversed(records(whole)) if record["valid/epe"] == start["valid/epe"])
    assert start["event"] == "start", (
        "what the model that it begins with was measured at is measured before the first step"
    )
    assert start["valid/loss"] == before["valid/loss"]
    card, expected = model_file.load(model)
    found_card, found = model_file.load(folder / "last.safetensors")
    assert (found_card.genotype, found_card.settings) == (card.genotype, card.settings)
    assert found_card.about["init"] == str(model)
    moving = ("running_mean", "running_var", "num_batches_tracked")
    for name, tensor in expected.items():
        if not name.endswith(moving):
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-20)


# --- the program as it is called ---


@pytest.mark.slow
def test_the_program_trains_and_goes_on(
    tmp_path: Path, whole: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", *SMALL, "run.folder=run", "training.steps=2") == 0
    assert records(tmp_path / "run")[0].keys() == records(whole)[0].keys()
    capsys.readouterr()
    assert call("train", "resume=run", "run.threads=1", "run.workers=0") == 0
    assert "resumed at step 2 of 2; all of its steps are done" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    ("names", "listed", "says"),
    [
        (["a", "b"], True, [
            "note:  2 of 5 samples were held out: a, b; that evaluation excludes the training samples"
        ]),
        (list("abcdefg"), True, [
            "note:  7 of 10 samples were held out: a, b, c, d, e, …; that evaluation excludes the training samples"
        ]),
        (["a"], False, [
            "note:  1 of 4 samples were held out: a; that evaluation includes the training samples"
        ]),
        ([], False, []),
    ],
)  # fmt: skip
def test_the_held_out_samples_are_named(tmp_path: Path, names: list[str], listed: bool, says: list[str]) -> None:
    if listed:
        (tmp_path / "trained_on.txt").touch()
    data = TrainData([], lambda sample, _: sample, [], trained_on=["x", "y", "z"], held_out=names)
    assert notes_on_evaluation(data, tmp_path) == says


@pytest.mark.parametrize(
    ("best", "constant", "says"),
    [
        (1.0, 3.46, []),
        (22.79, 3.46, ["note:  no better than the best constant answer, 3.46 px: the network has learnt nothing"]),
        (3.46, 3.46, ["note:  no better than"]),
        (
            None,
            math.nan,
            ["note:  no validation sample has ground truth, so nothing was validated"],
        ),
    ],
)
def test_results_without_meaning_are_said_to_be_such(
    tmp_path: Path, best: float | None, constant: float, says: list[str]
) -> None:
    if best is not None:
        (tmp_path / "best.safetensors").touch()
    task = SimpleNamespace(figure=Figure("epe", "min", "px"))
    training = SimpleNamespace(progress=SimpleNamespace(best=math.nan if best is None else best), task=task)
    notes = notes_on_result(SimpleNamespace(training=training), tmp_path, constant=constant)  # type: ignore[arg-type]
    assert len(notes) == len(says)
    assert all(note.startswith(start) for note, start in zip(notes, says, strict=True))
