"""Tests, measurements and a training on a machine with a GPU, by one command within a given time.

    python -m benchmarks.card --seconds 520 --out DIR [--dry] [--stages ...] [--cases ...] [--more KEY=VALUE ...]

In this order: the tests marked ``cuda``; the steps of a search at published sizes, with and without CUDA graphs and as
the textbook takes them; the steps and the inference of the shipped network; a training in the time left, whose models
are copied to DIR. Each result is written to DIR/card.jsonl at once. ``--dry`` does all of it on the CPU at toy size.
"""

import argparse
import importlib.util
import io
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import autodisp
from autodisp.assembly.search import build_search, build_weight_optimizer
from autodisp.assembly.train_data import build_train_data
from autodisp.assembly.training import build_train_network, build_training
from autodisp.cli.studied_run import composed
from autodisp.config import train as train_config
from autodisp.datasets.samples import LabelledImage
from autodisp.graphs import WARM_UPS
from autodisp.tasks.base import autocast, move
from autodisp.tracking import ConsoleProgress
from benchmarks import measure, textbook

IMAGES = ("task=classification", "network.channels=16", "network.layers=8", "search.batch_size=64")
STEREO = ("dataset.width=480", "dataset.max_disparity=96", "dataset.length=8", "search.batch_size=4")
CASES: dict[str, tuple[str, ...]] = {
    "s2": ("space=s2", *IMAGES),
    "darts": ("space=darts", *IMAGES),
    "autodispnet": ("network=disparity", "network.channels=16", "dataset.height=270", *STEREO),
}
STAGES = ("tests", "search", "steps", "pairs", "training")
RUNS = 10
TRAINING = (
    "recipe=disparity_refined", "dataset.length=16000", "training.batch_size=16", "optimizer.learning_rate=2e-3",
    "optimizer.warmup_steps=300", "optimizer.schedule=constant", "seed=0", "-v",
)  # fmt: skip
"""The shipped network from the beginning; ``--more dataset.textures=FOLDER init=shipped`` goes on with it.

On an H200 it makes 24 steps per second and waits for its data half of the time; longer in the first minutes, while each
pair is drawn for the first time.
"""
TOY = ("network.channels=8", "search.batch_size=2")
TOY_IMAGES = (*TOY, "network.layers=3")
TOY_STEREO = (*TOY, "network=disparity_tiny", "dataset.height=32", "dataset.width=64", "dataset.max_disparity=16")
TOY_TRAINING = (
    "network.channels=4", "network.aggregation=2", "network.groups=1", "dataset.length=6", "dataset.height=64",
    "dataset.width=96", "dataset.crop=[32,64]", "dataset.max_disparity=16", "validation.every=2",
    "validation.samples=2", "training.batch_size=2", "run.threads=1",
)  # fmt: skip
FOR_TESTS, FOR_BENCH, FOR_COPYING = 0.3, 0.6, 25.0
"""Shares of the time until which tests and bench may run, and seconds that the training leaves."""
TEST_PROCESSES = 12
TRAINED = ((2, "float32", "auto"), (16, "float32", "false"), (16, "float32", "auto"), (16, "bfloat16", "auto"))
"""Batch size, precision, and ``run.graphs`` of the measured training steps."""
LARGEST = 16 * 2**20
"""Bytes of a file that comes back from such a machine."""
MODELS = ("best.safetensors", "last.safetensors", "metrics.jsonl")


class Traffic(TorchDispatchMode):
    """Counts operations, and bytes of their inputs and results as if nothing stayed in a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operations += 1
            used = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in used)
        return result


class Card:
    """The device, the clock, and the file of results."""

    def __init__(self, out: Path, seconds: float, *, dry: bool) -> None:
        self.began = time.monotonic()
        self.seconds = seconds
        self.dry = dry
        self.device = torch.device("cpu" if dry else "cuda")
        self.out = out
        out.mkdir(parents=True, exist_ok=True)
        self.name = "cpu" if dry else torch.cuda.get_device_name()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    def write(self, **line: Any) -> None:
        """Writes a result."""
        line = {"card": self.name, "torch": torch.__version__, "at": round(self.spent, 1), **line}
        text = json.dumps(line)
        print(text, flush=True)
        with (self.out / "card.jsonl").open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def tried(self, what: Callable[[], None], *, until: float = math.inf, **about: Any) -> None:
        """Calls a function unless it is too late; an exception is recorded as a result."""
        if self.spent > until:
            self.write(**about, error="out of time")
            return
        try:
            what()
        except Exception as error:
            self.write(**about, error=f"{type(error).__name__}: {error}"[:500])

    def synchronise(self) -> None:
        """Waits for the device."""
        if not self.dry:
            torch.cuda.synchronize()


def run_tests(card: Card) -> None:
    """Runs the tests marked ``cuda``; on the CPU, two of them."""
    words = ["-v", "-m", "cuda", "-p", "no:cacheprovider", "-W", "ignore", "--tb=short", "-rf", "tests/test_cuda.py"]
    if card.dry:
        words += ["-k", "resumes or (tiny81 and float64)"]
    elif importlib.util.find_spec("xdist"):
        words += ["-n", str(TEST_PROCESSES)]
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path)
    environment = {**os.environ, "PYTHONPATH": paths, "AUTODISP_TEST_DEVICE": card.device.type}
    environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    log = card.out / "tests.txt"
    with log.open("w", encoding="utf-8") as file:
        limit = max(FOR_TESTS * card.seconds - card.spent, 10.0)
        command = [sys.executable, "-m", "pytest", *words]
        code = _run(command, file, limit, signal.SIGINT, env=environment)  # pytest then lists the failures
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    failed = [line[:300] for line in lines if line.startswith("FAILED")]
    card.write(stage="tests", exit_code=code, failed=failed, last=lines[-1] if lines else "")


def _run(command: list[str], output: TextIO, limit: float, stop: signal.Signals, **more: Any) -> int:
    """Runs a program in a process group of its own, and stops it at the limit (seconds); returns its exit code."""
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **more)
    for seconds in (limit, FOR_COPYING / 2):
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(stop)
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def measure_ceiling(card: Card) -> float:
    """Measures the bytes per second of copies on the device, read and written."""
    values = torch.empty((2**20 if card.dry else 2**29) // 4, device=card.device)
    into = torch.empty_like(values)
    seconds = timed(card, lambda: into.copy_(values), graphs=False)
    ceiling = 2 * values.numel() * values.element_size() / seconds
    card.write(stage="ceiling", gb_per_second=ceiling / 1e9)
    return ceiling


def timed(card: Card, run: Callable[[], object], *, graphs: bool) -> float:
    """Returns the median duration of a run in seconds, after a warm-up."""
    for _ in range(0 if card.dry else WARM_UPS + 1 if graphs else 1):
        run()
    seconds = []
    for _ in range(1 if card.dry else RUNS):
        card.synchronise()
        began = time.perf_counter()
        run()
        card.synchronise()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def count_launches(card: Card, run: Callable[[], object]) -> int:
    """Counts the kernels that the host launches, and the graphs."""
    if card.dry:
        return 0
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
        card.synchronise()
    return sum(event.count for event in profiler.key_averages() if "Launch" in event.key)


def measure_case(card: Card, name: str, ceiling: float, until: float) -> None:
    """Measures the steps of one search: the product with and without graphs, the textbook in both layouts.

    Args:
        card, name, ceiling: where, of ``CASES``, and see ``measure_ceiling``.
        until: seconds since the beginning after which nothing more is begun.
    """
    toy = (TOY_IMAGES if name != "autodispnet" else TOY_STEREO) if card.dry else ()
    words = (*CASES[name], *toy, *measure.STILL, f"run.device={card.device.type}")
    for graphs, precision in (("auto", "float32"), ("auto", "bfloat16"), ("false", "float32")):
        about = {"stage": "search", "case": name, "by": "autodisp", "graphs": graphs, "precision": precision}
        more = (f"run.graphs={graphs}", f"search.precision={precision}")
        card.tried(lambda: _measure_product(card, (*words, *more), ceiling, about), until=until, **about)  # noqa: B023
    for layout in (torch.channels_last, torch.contiguous_format):
        about = {"stage": "search", "case": name, "by": "textbook", "layout": str(layout).removeprefix("torch.")}
        card.tried(lambda: _measure_textbook(card, words, layout, about), until=until, **about)  # noqa: B023


def _measure_product(card: Card, words: tuple[str, ...], ceiling: float, about: dict[str, Any]) -> None:
    config = measure.config_of(measure.Case(words))
    if not card.dry:
        torch.cuda.reset_peak_memory_stats()
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        search = build_search(config, measure.data_of(config), Path(folder), ConsoleProgress(said)).search
        batch = search.supernet.to_device(search.weight_stream.next())
        search.alpha_stream.next = lambda: batch  # type: ignore[method-assign]
        weight_step = lambda: search.weight_step(batch)  # noqa: E731
        graphs = config.run.graphs != "false"
        numbers: dict[str, Any] = {"weight_ms": 1e3 * timed(card, weight_step, graphs=graphs)}
        numbers["launches"] = count_launches(card, weight_step)
        numbers["alpha_first_ms"] = 1e3 * timed(card, lambda: search.alpha_step(batch, "first"), graphs=graphs)
        if config.search.precision == "float32" and (graphs or card.dry):
            second = lambda: search.alpha_step(batch, "finite_difference")  # noqa: E731
            numbers["alpha_differences_ms"] = 1e3 * timed(card, second, graphs=graphs)
        if not card.dry:
            numbers["memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        if config.run.graphs == "false":
            with Traffic() as traffic:
                weight_step()
            numbers |= {"operations": traffic.operations, "gigabytes": traffic.bytes / 1e9}
            numbers["ceiling_ms"] = 1e3 * traffic.bytes / ceiling
        card.write(**about, **numbers, said=said.getvalue().strip()[:500])


def _measure_textbook(card: Card, words: tuple[str, ...], layout: torch.memory_format, about: dict[str, Any]) -> None:
    config = measure.config_of(measure.Case(words))
    data = measure.data_of(config)
    supernet = measure.textbook_supernet(config, data, layout, card.device.type)
    samples = [data.weight_half[index] for index in range(config.search.batch_size)]
    batch = supernet.to_device(torch.utils.data.default_collate(samples))
    if isinstance(batch, LabelledImage):
        batch = batch._replace(image=batch.image.contiguous(memory_format=layout))
    optimizer = build_weight_optimizer(config, supernet)
    clip = config.optimizer.weights.clip
    step = lambda: textbook.weight_step(supernet, batch, optimizer, clip)  # noqa: E731
    slopes = lambda: textbook.first_order_gradient(supernet, batch)  # noqa: E731
    numbers = {"weight_ms": 1e3 * timed(card, step, graphs=False)}
    numbers["alpha_first_ms"] = 1e3 * timed(card, slopes, graphs=False)
    card.write(**about, **numbers)


def measure_steps(card: Card) -> None:
    """Measures the training steps of the shipped network."""
    for size, precision, graphs in TRAINED:
        about = {"stage": "steps", "batch": size, "precision": precision, "graphs": graphs}
        words = (f"training.batch_size={size}", f"training.precision={precision}", f"run.graphs={graphs}")
        card.tried(lambda: _measure_training(card, words, about), **about)  # noqa: B023


def measure_pairs(card: Card) -> None:
    """Measures the shipped network on a pair of 960x540."""
    for precision in ("float32", "bfloat16"):
        about = {"stage": "pairs", "precision": precision}
        card.tried(lambda: _measure_inference(card, precision, about), **about)  # noqa: B023


def _measure_training(card: Card, words: tuple[str, ...], about: dict[str, Any]) -> None:
    fixed = ("dataset.length=64", "validation.samples=2", "run.folder=unused", "run.workers=0")
    words = (*TRAINING[:-1], *(TOY_TRAINING if card.dry else ()), *fixed, *words, f"run.device={card.device.type}")
    config = train_config.parse(composed("train", words))
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        data = build_train_data(config)
        built = build_train_network(config, data)
        parts = build_training(config, data, Path(folder), ConsoleProgress(said), built)
        training = parts.training
        training.network.train()
        batch = move(training.stream.next(), card.device)
        training.stream.next = lambda: batch  # type: ignore[method-assign]
        if not card.dry:
            torch.cuda.reset_peak_memory_stats()
        numbers: dict[str, Any] = {"ms": 1e3 * timed(card, training.step, graphs=config.run.graphs != "false")}
        numbers["launches"] = count_launches(card, training.step)
        if not card.dry:
            numbers["memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        parts.close()
    card.write(**about, **numbers, said=said.getvalue().strip()[:500])


def _measure_inference(card: Card, precision: str, about: dict[str, Any]) -> None:
    model = autodisp.load("shipped", device=card.device)
    size = (64, 96) if card.dry else measure.INFERENCE_SIZE
    left, right = torch.rand(2, 1, 3, *size, generator=torch.Generator().manual_seed(0)).to(card.device)
    with autocast(precision, card.device):
        seconds = timed(card, lambda: model(left, right), graphs=True)
        launches = count_launches(card, lambda: model(left, right))
    card.write(**about, ms=1e3 * seconds, launches=launches)


def train(card: Card, more: Sequence[str]) -> None:
    """Trains as long as the time allows, and copies the models, the metrics and a state that is not too large."""
    folder = card.out / "training" if card.dry else Path(tempfile.mkdtemp()) / "training"
    words = [*TRAINING, *(TOY_TRAINING if card.dry else ()), f"run.device={card.device.type}", f"run.folder={folder}"]
    at_once = ("run.workers=14", "run.threads=1", f"dataset.store={folder.with_name('store')}")
    words += ("training.steps=4", "run.workers=0") if card.dry else at_once
    program = "import sys; sys.argv[0] = 'autodisp-train'; from autodisp.cli.entry import train; train()"
    with (card.out / "training.txt").open("w", encoding="utf-8") as file:
        limit = max(card.seconds - card.spent - FOR_COPYING, 5.0)
        code = _run([sys.executable, "-c", program, *words, *more], file, limit, signal.SIGTERM)  # saves the state
    states = sorted((folder / "checkpoints").glob("*.pt"))
    copied = []
    for path in (*(folder / name for name in MODELS), *states[-1:]):
        if path.exists() and path.stat().st_size < LARGEST:
            shutil.copyfile(path, card.out / path.name)
            copied.append(path.name)
    metrics = folder / "metrics.jsonl"
    last = metrics.read_text(encoding="utf-8").splitlines()[-1] if metrics.exists() else "null"
    card.write(stage="training", exit_code=code, copied=copied, last=json.loads(last))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; failures are lines of the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card", description="What to do with a GPU.")
    parser.add_argument("--seconds", type=float, default=520.0, help="time for all (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--dry", action="store_true", help="on the CPU at toy size")
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=STAGES, help="what to do (all)")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES), help="searches to measure (all)")
    parser.add_argument("--more", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the training")
    options = parser.parse_args(arguments)
    if not options.dry and not torch.cuda.is_available():
        parser.error("this machine has no usable GPU; take --dry")
    card = Card(options.out, options.seconds, dry=options.dry)
    if "tests" in options.stages:
        card.tried(lambda: run_tests(card), stage="tests")
    ceiling = measure_ceiling(card)
    until = card.seconds * (FOR_BENCH if "training" in options.stages else 1)
    for name in options.cases if "search" in options.stages else ():
        measure_case(card, name, ceiling, until)
    if "steps" in options.stages:
        measure_steps(card)
    if "pairs" in options.stages:
        measure_pairs(card)
    if not card.dry:
        torch.cuda.empty_cache()
    if "training" in options.stages:
        card.tried(lambda: train(card, options.more), stage="training")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
