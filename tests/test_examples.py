"""The worked examples run, do what they say, and stand in the README as they are."""

import copy
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn import functional

from autodisp.datasets.images import write_png
from autodisp.datasets.pfm import write_pfm
from autodisp.datasets.shapes3d import Shapes3D

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def example(name: str) -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_rig(root: Path, length: int) -> Shapes3D:
    data = Shapes3D(length=length, seed=3, height=64, width=96, max_disparity=24)
    for name in ("left", "right", "disparity"):
        (root / name).mkdir(parents=True)
    for index in range(length):
        sample = data[index]
        write_png(root / "left" / f"{index}.png", sample.left)
        write_png(root / "right" / f"{index}.png", sample.right)
        truth = sample.disparity.where(sample.valid, torch.inf)
        write_pfm(root / "disparity" / f"{index}.pfm", truth[0].numpy())
    return data


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_shows_each_example_as_it_is(name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = (ROOT / "examples" / name).read_text(encoding="utf-8")
    shown = re.findall(rf"\(examples/{re.escape(name)}\)[^`]*```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(shown) == 1, f"README.md has no excerpt after a link to examples/{name}"
    assert shown[0] in code
    assert len(shown[0].splitlines()) >= 10


def test_a_dataset_of_ones_own(tmp_path: Path) -> None:
    module = example("own_dataset")
    data, rig = write_rig(tmp_path, 4), module.Rig(tmp_path)
    assert (len(rig), rig.names) == (4, ["0", "1", "2", "3"])
    for index in range(4):
        sample, truth = rig[index], data[index]
        assert (sample.valid == truth.valid).all()
        assert torch.equal(sample.disparity, truth.disparity.where(truth.valid, 0.0))
        assert (sample.left - truth.left).abs().max() <= 0.5 / 255 + 1e-6
    weights, alphas = module.halves(rig, batch_size=2)
    batches = [stream.next() for stream in (weights, alphas)]
    assert all(batch.left.shape == (2, 3, 64, 96) for batch in batches)
    seen = {float(view.sum()) for batch in batches for view in batch.left}
    assert len(seen) == 4, "each sample in one half"


@pytest.mark.slow
def test_a_dataset_of_ones_own_as_a_program(tmp_path: Path) -> None:
    write_rig(tmp_path, 1)
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "own_dataset.py"), str(tmp_path)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    module = example("own_dataset")
    assert done.stdout == f"{module.error_of_the_shipped_network(module.Rig(tmp_path)):.2f} px\n"
    assert 0 < float(done.stdout.split()[0]) < 24


def test_the_tasks_figures_are_those_of_the_plain_formulas() -> None:
    task = example("own_task").Monocular()
    batch = Shapes3D(length=1, seed=0, height=32, width=64)[0]
    batch = type(batch)(*(entry[None] for entry in batch))
    output = torch.zeros_like(batch.disparity)
    errors = batch.disparity[batch.valid].tolist()
    total, count = task.measure(output, batch)["mae"].tolist()
    assert total / count == pytest.approx(sum(errors) / len(errors))
    expected = sum(error - 0.5 if error >= 1 else error * error / 2 for error in errors) / len(errors)
    assert float(task.loss(output, batch)) == pytest.approx(expected, rel=1e-5)
    best = min(sum(abs(error - answer) for error in errors) / len(errors) for answer in errors)
    assert task.constant([batch]) == pytest.approx(best, rel=1e-5)


def test_the_watchdog_measures_a_foreign_supernet() -> None:
    module = example("watchdog")
    torch.manual_seed(0)
    network = module.Foreign()
    images, labels = torch.rand(16, 3, 8, 8), torch.randint(4, (16,))
    watchdog = module.Watchdog(network, [network.alphas], epochs=20)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert watchdog.after(0, lambda: functional.cross_entropy(network(images), labels)) is None
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    precise = copy.deepcopy(network).double()

    def loss(alphas: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(functional_call(precise, {"alphas": alphas}, (images.double(),)), labels)

    expected = torch.linalg.eigvalsh(hessian(loss, network.alphas.detach().double()))[-1]
    ((epoch, value),) = watchdog.history
    assert (epoch, value) == (0, pytest.approx(float(expected), rel=1e-3, abs=1e-6))


def test_the_watchdog_stops_the_foreign_search() -> None:
    watchdog, decision = example("watchdog").search(epochs=60)
    assert decision is not None
    values = [value for _, value in watchdog.history]
    newest, earlier = sum(values[-5:]) / 5, sum(values[-9:-4]) / 5
    assert newest / earlier > 1.3
    assert decision.returned_epoch == len(values) - 1 - 6 >= 10
