"""The GPU against the CPU, graphs against none, and resuming: for a machine with a GPU; elsewhere skipped.

``AUTODISP_TEST_DEVICE=cpu`` runs them on the CPU, to test the tests.
"""

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import autodisp
from autodisp.assembly.search import SearchData, build_search
from autodisp.config.search import SearchConfig, parse
from autodisp.datasets.samples import LabelledImage, SegmentedImage, StereoSample
from autodisp.datasets.streams import fixed_batches
from autodisp.errors import Interrupted
from autodisp.graphs import _waits_noted
from autodisp.search.bilevel import InnerStep, alpha_gradient
from autodisp.search.curvature import flat_gradient, frozen_statistics, hessian_product
from autodisp.search.loop import Search
from autodisp.tracking import ConsoleProgress
from tests.programs import composed, same, start, untimed
from tests.test_distributed import environment, free_port
from tests.test_meta import FACTS

DEVICE = os.environ.get("AUTODISP_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="there is no GPU"),
]
TASKS = (
    ("task=classification", "space=tiny81"),
    ("task=classification", "space=s2", "network.layers=3"),
    ("network.head=matching",),
    ("network=disparity_refined", "network.channels=4", "network.aggregation=2", "network.groups=1"),
    ("task=segmentation",),
)
EXACT = ("task=classification", "network.layers=3", "run.workers=0")
"""With space=s3, which has no maxima: a GPU adds up their gradients in any order."""


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    """The same numbers in each run, as far as torch can; and no TF32."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = allowed


def samples_of(task: str, count: int) -> list[Any]:
    draw = torch.Generator().manual_seed(0)
    found: list[Any] = []
    for index in range(count):
        if task == "classification":
            found.append(LabelledImage(torch.rand(3, 16, 16, generator=draw), index % 3))
        elif task == "segmentation":
            classes = torch.randint(3, (32, 48), generator=draw, dtype=torch.uint8)
            found.append(SegmentedImage(torch.rand(3, 32, 48, generator=draw), classes))
        else:
            valid = torch.rand(1, 32, 64, generator=draw) < 0.8
            views = torch.rand(2, 3, 32, 64, generator=draw)
            found.append(StereoSample(*views, 8 * torch.rand(1, 32, 64, generator=draw), valid, ~valid, ~valid))
    return found


def search_on(device: str, folder: Path, *overrides: str, said: io.StringIO | None = None, **more: Any) -> Search:
    words = (
        "run.folder=unused",
        "experiment=smoke",
        "run.kernels=plain",
        "augmentation.cutout=0",
        f"run.device={device}",
        *overrides,
    )
    config: SearchConfig = parse(composed("search", *words))
    samples = samples_of(config.task.name, 4)
    data = SearchData(
        samples[:2], samples[2:], lambda sample, _: sample, fixed_batches(samples[2:], 2), FACTS[config.task.name]
    )
    folder.mkdir(exist_ok=True)
    return build_search(config, data, folder, ConsoleProgress(said or io.StringIO()), **more).search


def derivatives(search: Search, dtype: torch.dtype) -> dict[str, Tensor]:
    """Everything that a step computes, of one batch, on the CPU in float64."""
    supernet = search.supernet
    supernet.network.to(dtype)
    supernet.architecture.to(dtype)
    batch = supernet.to_device(search.weight_stream.at(0))
    batch = type(batch)(*(x.to(dtype) if x.is_floating_point() else x for x in batch))
    weights = dict(supernet.network.named_parameters())
    with frozen_statistics(supernet.network):
        loss = supernet.loss(batch)
        found: dict[str, Any] = {
            "loss": loss,
            "weights": torch.autograd.grad(loss, list(weights.values()), materialize_grads=True),
        }
        for order in ("first", "exact"):
            found[order] = alpha_gradient(
                order,  # type: ignore[arg-type]
                lambda parameters: supernet.loss(batch, parameters),
                lambda parameters: supernet.loss(batch, parameters),
                weights,
                supernet.alphas,
                InnerStep(0.01),
                seed=0,
            )
        slope = flat_gradient(lambda: supernet.alpha_loss(batch), supernet.alphas)
        direction = torch.linspace(-1, 1, slope.numel(), dtype=torch.float64)
        found["product"] = hessian_product(slope, supernet.alphas, direction.to(slope))
    values = {name: [value] if isinstance(value, Tensor) else value for name, value in found.items()}
    return {
        name: torch.cat([x.detach().reshape(-1).to("cpu", torch.float64) for x in many])
        for name, many in values.items()
    }


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: "-".join(word.partition("=")[2] for word in task))
def test_the_gpu_computes_what_the_cpu_does(tmp_path: Path, task: tuple[str, ...], dtype: Any, error: float) -> None:
    reference = derivatives(search_on("cpu", tmp_path / "cpu", *task), torch.float64)
    rounded = derivatives(search_on("cpu", tmp_path / "rounded", *task), dtype)
    found = derivatives(search_on(DEVICE, tmp_path / "gpu", *task), dtype)
    for name, expected in reference.items():
        # a kink of a ReLU within the rounding of the CPU costs the CPU as much
        allowed = max(error, 3 * apart(rounded[name], expected))
        assert apart(found[name], expected) < allowed, name


def apart(value: Tensor, expected: Tensor) -> float:
    return float((value - expected).norm() / expected.norm().clamp(min=1e-30))


def run(search: Search) -> list[Tensor]:
    search.run()
    return state_of(search)


def state_of(search: Search) -> list[Tensor]:
    supernet = search.supernet
    return [x.detach().cpu().clone() for x in (*supernet.network.state_dict().values(), *supernet.alphas)]


@pytest.mark.parametrize("order", ["first", "finite_difference"])
@pytest.mark.parametrize("more", [(), ("search.drop_path=0.3",), ("relaxation=dirichlet",)], ids=str)
def test_graphs_change_no_bit(tmp_path: Path, order: str, more: tuple[str, ...]) -> None:
    words = (*EXACT, "space=s3", f"optimizer.alphas.order={order}", "optimizer.alphas.first_order_epochs=0", *more)
    results, said = [], io.StringIO()
    for graphs in ("false", "auto"):
        steps = "search.steps_per_epoch=6"
        results.append(run(search_on(DEVICE, tmp_path / graphs, *words, f"run.graphs={graphs}", steps, said=said)))
    draws = order == "finite_difference" and more  # the same random numbers three times
    assert ("without CUDA graphs" in said.getvalue()) == bool(draws and DEVICE == "cuda")
    assert same(*results)


def test_a_search_resumes_bitwise(tmp_path: Path) -> None:
    words = (*EXACT, "space=s3", "search.drop_path=0.3", "search.steps_per_epoch=5")
    whole = run(search_on(DEVICE, tmp_path / "whole", *words))
    first = search_on(DEVICE, tmp_path / "parts", *words)
    first._stopping = lambda: first.progress.steps >= 7
    with pytest.raises(Interrupted):
        first.run()
    second = search_on(DEVICE, tmp_path / "parts", *words, resume=True)
    assert second.progress.steps == 7
    assert same(whole, run(second))


@pytest.mark.parametrize("task", TASKS[2:], ids=lambda task: "-".join(word.partition("=")[2] for word in task))
def test_the_steps_of_dense_tasks_are_recorded(tmp_path: Path, task: tuple[str, ...]) -> None:
    said = io.StringIO()
    words = ("optimizer.alphas.order=finite_difference", "run.workers=0", "search.steps_per_epoch=6")
    run(search_on(DEVICE, tmp_path / "gpu", *task, *words, said=said))
    assert "without CUDA graphs" not in said.getvalue()


@pytest.mark.skipif(DEVICE == "cpu", reason="only a GPU can be waited for")
@pytest.mark.parametrize("order", ["first", "finite_difference", "exact"])
def test_no_step_waits_for_the_gpu(tmp_path: Path, order: Any) -> None:
    search = search_on(DEVICE, tmp_path / "gpu", *EXACT, "space=s3", "run.graphs=false")
    batch = search.supernet.to_device(search.weight_stream.at(0))
    for noted in (False, True):  # the first steps set up libraries and optimizers
        with _waits_noted() if noted else nullcontext([]) as waits:
            search.weight_step(batch)
            search.alpha_step(batch, order)
    assert waits == []


def test_a_prediction_is_the_same_by_a_graph(tmp_path: Path) -> None:
    model, reference = (autodisp.load("shipped", device=device) for device in (DEVICE, "cpu"))
    views = torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(0))
    first, *others = [model(*views) for _ in range(6)]
    assert all(torch.equal(first, other) for other in others)
    assert (first - reference(*views)).abs().mean() < 1e-3
    swapped = views.flip(0)
    torch.testing.assert_close(
        model(*swapped), model.network(*swapped[:, None].to(DEVICE)).disparity.cpu().clamp(0, 160)
    )


def program(name: str, folder: Path, *words: str) -> str:
    result = start(folder, name, f"run.device={DEVICE}", *words)
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]
    return result.stdout


@pytest.mark.parametrize("task", ["disparity", "segmentation", "flow"])
def test_the_programs_run_one_after_another(tmp_path: Path, task: str) -> None:
    data = {"disparity": "shapes3d", "segmentation": "shapes3d_classes", "flow": "shapes3d_flow"}[task]
    small = (f"task={task}", "dataset.height=64", "dataset.width=128", "dataset.length=8", "run.workers=0")
    program("search", tmp_path, "experiment=smoke", *small, "run.folder=found")
    training = ("training.steps=8", "training.batch_size=2", "validation.every=8", "validation.samples=2")
    cells = (f"network={task}_tiny", "genotype=found/genotype.json")
    program("train", tmp_path, *small, *cells, *training, "run.folder=trained")
    program("evaluate", tmp_path, "checkpoint=trained/last.safetensors", f"dataset={data}", "dataset.limit=2")


def test_one_process_of_torchrun_searches_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("experiment=smoke", "dataset.height=64", "dataset.width=128", "run.graphs=false")
    for name, value in environment(0, 1, free_port()).items():
        monkeypatch.setenv(name, value)
    program("search", tmp_path, *words, "run.folder=torchrun")
    last = untimed(tmp_path / "torchrun")[-1]
    assert last["epoch"] == 1
    assert math.isfinite(last["valid/epe"] + last["eigenvalue"])
