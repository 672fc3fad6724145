"""Builds the parts that searches and trainings have in common."""

import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import autodisp
from autodisp import distributed
from autodisp.config.checks import need
from autodisp.config.search import SearchConfig
from autodisp.config.train import TrainConfig
from autodisp.datasets.processes import cores
from autodisp.evaluation.worst import Case
from autodisp.graphs import CudaRecorder, Graphs
from autodisp.observers.picture import Pictures
from autodisp.run_files import METRICS
from autodisp.search.curvature import preserved_rng
from autodisp.tasks.base import main_output, move
from autodisp.tracking import ConsoleProgress, Tracker


def build_optimizer(
    name: str, parameters: Iterable[nn.Parameter], *, learning_rate: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Builds SGD, AdamW, or Adam with the decay as an L2 term of the loss; fused, see ``autodisp.stepping``."""
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, momentum, weight_decay=weight_decay, fused=True)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameters, learning_rate, (momentum, 0.999), weight_decay=weight_decay, fused=True)


def build_graphs(config: SearchConfig | TrainConfig, device: torch.device, say: Callable[[str], object]) -> Graphs:
    """Builds the CUDA graphs of a run; without any on other devices, and where none could be recorded.

    Raises:
        InputError: ``run.graphs=true`` on another device.
    """
    wanted = config.run.graphs
    if device.type != "cuda":
        need(wanted != "true", "run.graphs", wanted, f"auto or false with run.device={device}, which is not a GPU")
        return Graphs()
    section = config.search if isinstance(config, SearchConfig) else config.training
    obstacles = {
        "several processes exchange numbers within a step": distributed.world() > 1,
        "float16 scales the loss on the host": section.precision == "float16",
        "search.recompute restores random generators on the host": getattr(section, "recompute", False),
    }
    why = next((reason for reason, met in obstacles.items() if met), None)
    if wanted == "false" or why is not None:
        if wanted != "false":
            say(f"steps run without CUDA graphs: {why}")
        return Graphs()
    return Graphs(CudaRecorder(), say)


def build_images(
    config: SearchConfig | TrainConfig, batches: Iterable[Any], device: torch.device, predict: Callable[[Any], Any]
) -> Pictures | None:
    """Returns a function that draws the first prediction of the first batch.

    None if the task draws no image, and in all processes but the first. ``predict`` maps a batch on the device to the
    network's output.
    """
    worst = config.kit.worst
    if worst is None or not distributed.is_first():
        return None

    def draw() -> Mapping[str, npt.NDArray[np.uint8]]:
        batch = move(next(iter(batches)), device)
        with preserved_rng():  # images are drawn by the clock, and noise operations must not make the run depend on it
            prediction = main_output(predict(batch))[0]
        sample = type(batch)(*(entry[0] for entry in batch))
        return {"prediction": worst.draw([Case(0, float("nan"), sample, prediction)])[0]}

    return draw


def build_tracker(
    config: SearchConfig | TrainConfig,
    folder: Path,
    console: ConsoleProgress,
    closing: ExitStack,
    state: Mapping[str, Any] | None,
    metrics: Sequence[str],
    *,
    by_step: bool = False,
) -> Tracker:
    """Builds the tracker of a run, in the folder to which this process writes all files except states.

    It is the run's folder in the first process, and a temporary one in the others, which begins with the run's records.

    Args:
        config: of the run.
        folder: the run folder.
        console: for the progress.
        closing: closes the tracker and removes the temporary folder.
        state: from which the run resumes, if it does.
        metrics: names of the metrics that TensorBoard compares between runs.
        by_step: TensorBoard shows the records at their steps instead of at their numbers.
    """
    if not distributed.is_first():
        temporary = Path(closing.enter_context(tempfile.TemporaryDirectory()))
        if (folder / METRICS).exists():
            shutil.copyfile(folder / METRICS, temporary / METRICS)
        folder = temporary
    keep = state["records"] if state else 0
    shown_from = (state["progress"]["steps"] if state else 0) + 1 if by_step else None
    workers = config.run.workers
    remedy = f"a run.workers above {workers} reads faster" if workers < cores() else None
    tracker = Tracker(folder, console=console, keep=keep, shown_from=shown_from, remedy=remedy)
    closing.callback(tracker.close)
    tracker.tensorboard.settings(config.as_dict(), metrics=metrics)
    return tracker


def origin_of(config: SearchConfig | TrainConfig) -> dict[str, Any]:
    """Provenance of a file that a run writes."""
    return {
        "dataset": config.dataset.name,
        "seed": config.seed,
        "config_hash": config.fingerprint(),
        "autodisp": autodisp.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
