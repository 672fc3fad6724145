"""Sizes of a run's networks: parameters and multiplications of one forward pass, without weights or data.

Networks are built of fake tensors, which take neither memory nor time. Unknown sizes are left out: those of a run of
another version, or of a dataset with images of many sizes.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from autodisp import model_file
from autodisp.assembly.networks import build_style
from autodisp.assembly.search import build_space
from autodisp.cells.architecture import Architecture
from autodisp.cells.cell import FoundCells, MixedCells
from autodisp.cells.genotype import Genotype, check
from autodisp.config.search import SearchConfig, parse
from autodisp.errors import InputError
from autodisp.networks.parameter_count import count_parameters
from autodisp.run_files import BEST, LAST
from autodisp.tasks.base import Task
from autodisp.tasks.registry import KITS, dataset_entries, is_open

Rows = list[tuple[str, str]]
Found = TypeVar("Found")


def search_sizes(config: Mapping[str, Any], cells: Mapping[str, Any]) -> Rows:
    """Sizes of a search's supernet and of its found network at the same width.

    Args:
        config: plain data, as in the run folder.
        cells: the found cells, empty if there are none.
    """
    try:
        typed = _typed(config)
        space = build_space(typed)
        facts = typed.kit.datasets[typed.dataset.name].facts
        task = typed.kit.build_task(typed.task, typed.network, typed.dataset, facts)
        style = build_style(typed.network, space)
        size = _size(vars(typed.dataset))
        rows = [("alphas of the search", f"{space.alphas:,}")]
        with FakeTensorMode():
            supernet = task.build_network(MixedCells(space, style=style))
            weights = Architecture(space).weights()
            rows += _rows("supernet", task, supernet, size, weights)
            if cells:
                genotype = Genotype(space.name, dict(cells))
                check(genotype, space)
                found = task.build_network(FoundCells(genotype, style=style))
                rows += _rows("found network, as wide", task, found, size)
    except (InputError, ValueError, TypeError, KeyError, RuntimeError, NotImplementedError):
        return []
    return rows


def training_sizes(config: Mapping[str, Any], folder: Path) -> Rows:
    """Sizes of a training's network, by the model file in its folder."""
    return _of_model(config, folder, partial(_rows, "network")) or []


def training_counts(config: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """``parameters`` and ``macs`` of a training's network, by the model file in its folder, as far as known."""
    return _of_model(config, folder, _counts) or {}


def _of_model(
    config: Mapping[str, Any], folder: Path, count: Callable[[Task, nn.Module, tuple[int, int] | None], Found]
) -> Found | None:
    """Applies a function to the network in a training's folder, of fake tensors, and the size of its input."""
    for path in (folder / BEST, folder / LAST):
        if not path.is_file():
            continue
        try:
            card, _ = model_file.load(path)
            dataset = config.get("dataset")
            size = _size(dataset) if isinstance(dataset, Mapping) else None
            with FakeTensorMode():
                task, network = card.build()
                return count(task, network, size)
        except (InputError, ValueError, TypeError, KeyError, RuntimeError, NotImplementedError):
            continue
    return None


def _counts(task: Task, network: nn.Module, size: tuple[int, int] | None) -> dict[str, float]:
    macs = None if size is None else count_macs(task.name, network, size)
    return {"parameters": count_parameters(network), **({"macs": macs} if macs else {})}


def _typed(config: Mapping[str, Any]) -> SearchConfig:
    """The typed config of a stored one, which contains no references since it was resolved when it was written."""
    if "${" in str(config):
        raise InputError("config.yaml: refers to something outside")
    task = config.get("task")
    factory = task.get("factory") if isinstance(task, Mapping) else None
    if factory is not None and not is_open(factory):
        raise InputError("config.yaml: names a file that is not run unless the user names it")
    return parse(OmegaConf.create(dict(config)))


def _size(dataset: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the network's input in training; None if they depend on the files."""
    entry = dataset_entries().get(str(dataset.get("name")))
    if entry is not None and entry.size is not None:
        return entry.size
    size = dataset.get("crop") or (dataset.get("height"), dataset.get("width"))
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(n, int) and 0 < n <= 8192 for n in size):
        return int(size[0]), int(size[1])
    return None


def _rows(
    name: str, task: Task, network: nn.Module, size: tuple[int, int] | None, weights: Mapping[str, Tensor] | None = None
) -> Rows:
    rows = [(f"{name}: parameters", f"{count_parameters(network):,}")]
    if size is not None:
        macs = count_macs(task.name, network, size, weights)
        if macs:
            rows.append((f"{name}: MACs at {size[1]}x{size[0]}, one sample", _in_words(macs)))
    return rows


def count_macs(
    task: str, network: nn.Module, size: tuple[int, int], weights: Mapping[str, Tensor] | None = None
) -> int | None:
    """Multiplications of the convolutions and matrix products of one forward pass in evaluation mode.

    Args:
        task: determines the network's input: one image, or a pair.
        network: of fake tensors, in an active fake tensor mode.
        size: height and width.
        weights: edge weights, for a supernet.

    Returns:
        The number, or None if the network cannot run without data.
    """
    image = torch.empty(1, 3, *size)
    inputs = (image,) * len(KITS[task].interface.inputs)
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            network.eval()(*inputs, weights)
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None
    return int(counter.get_total_flops()) // 2


def _in_words(macs: int) -> str:
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if macs >= size:
            return f"{macs / size:.3g} {unit}"
    return f"{macs:,}"
