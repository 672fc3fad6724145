"""What can be done with a run, as commands to be copied."""

import shlex

from autodisp.report.reading import Run


def next_commands(run: Run) -> list[tuple[str, str]]:
    """(what for, command) pairs; none where nothing of the run can be used yet."""
    if run.kind == "search":
        return _of_search(run) if run.cells else []
    return _of_training(run)


def _of_search(run: Run) -> list[tuple[str, str]]:
    commands = []
    if run.found:
        train = ["autodisp-train", *_data(run, task=True)]
        file = run.setting("space.file")
        if isinstance(file, str):
            train.append(f"space_file={file}")
        commands.append(("Train the found cells in full:", [*train, f"genotype={run.folder / 'genotype.json'}"]))
    commands.append(("Export the cells as JSON and a drawing:", ["autodisp-export", f"run={run.folder}"]))
    return _joined(commands)


def _of_training(run: Run) -> list[tuple[str, str]]:
    best = run.folder / "best.safetensors"
    if not best.is_file():
        return []
    checkpoint = f"checkpoint={best}"
    commands = [("Evaluate the trained network:", ["autodisp-evaluate", checkpoint, *_data(run, task=False)])]
    if run.setting("task.name") == "disparity":
        words = ["autodisp-predict", checkpoint, "left=left.png", "right=right.png"]
        commands.append(("Predict the disparity of a pair of your own:", words))
    commands.append(("Export it as ONNX and torch.export files:", ["autodisp-export", checkpoint]))
    return _joined(commands)


def _data(run: Run, *, task: bool) -> list[str]:
    words = []
    name, dataset, root = (run.setting(key) for key in ("task.name", "dataset.name", "dataset.root"))
    if task and isinstance(name, str) and name != "disparity":
        words.append(f"task={name}")
    if isinstance(dataset, str):
        words.append(f"dataset={dataset}")
    if isinstance(root, str):
        words.append(f"dataset.root={root}")
    return words


def _joined(commands: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    return [(words, shlex.join(parts)) for words, parts in commands]
