"""Builds tasks, styles and devices from their config sections, for every program."""

from pathlib import Path
from typing import Any

import torch

from autodisp import distributed, torchrun
from autodisp.assembly.data import sizes_of
from autodisp.cells import genotype as genotypes
from autodisp.cells.genotype import Genotype, zoo_names
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SearchSpace
from autodisp.config.checks import naming, nearest
from autodisp.datasets.splits import Part
from autodisp.errors import InputError
from autodisp.run_files import GENOTYPE
from autodisp.tasks.base import Task
from autodisp.tasks.registry import KITS


def find_genotype(name: str, *, space: SearchSpace | None) -> Genotype:
    """Finds the cells named by ``genotype``: in the zoo, or in a file.

    Raises:
        InputError: there is neither; suggests the nearest name of the zoo unless the name looks like a file.
    """
    if name in zoo_names():
        return genotypes.load(name, space=space)
    path = Path(name).expanduser()
    if path.is_dir():
        raise InputError(f"genotype={name}: is a folder; name a file in it, such as {path / GENOTYPE}")
    if not path.is_file():
        near = nearest(name, zoo_names())
        others = "; take one of these, SPACE:INDEX, or a genotype.json of a search"
        hint = f"; did you mean '{near}'?" if near else others
        raise InputError(f"genotype={name}: no such file, and the zoo has {', '.join(zoo_names())}{hint}")
    with naming("genotype", str(path)):
        return genotypes.load(path, space=space)


def load_space(path: str | None, *, key: str) -> SearchSpace | None:
    """Loads the search space from the file named by a setting; None for none.

    Raises:
        InputError: the file contains no readable space.
    """
    if path is None:
        return None
    place = Path(path).expanduser()
    with naming(key, str(place)):
        return SearchSpace.load(place)


def use_threads(count: int | None) -> None:
    """Sets the number of torch's threads; None leaves it to torch."""
    if count is not None:
        torch.set_num_threads(count)


def build_device(name: str) -> torch.device:
    """Returns the device of that name; a GPU becomes the current one.

    Args:
        name: auto, cpu, cuda, or cuda:N. Among several processes each takes the GPU of its own number, and cuda:N is
            refused.

    Raises:
        InputError: there is no such GPU.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(f"run.device={name}: this machine has no usable GPU; take run.device=cpu or auto")
    given, processes, count = name.partition(":")[2], torchrun.processes(), torch.cuda.device_count()
    if given and processes > 1:
        raise InputError(f"run.device={name}: {processes} processes need a GPU each; take run.device=cuda")
    number = int(given) if given else torchrun.local_rank()
    if number >= count:
        remedy = "run.device=cpu, or fewer processes" if processes > 1 else f"run.device=cuda:{count - 1}"
        raise InputError(f"run.device={name}: there is no GPU {number}, the last is {count - 1}; take {remedy}")
    if number or given:
        torch.cuda.set_device(number)
    return torch.device("cuda")


def build_style(network: Any, space: SearchSpace | None, *, affine: bool = False) -> Style:
    """The style of the convolutions: the flavour of the space, with the normalisation of the network's section.

    Hand-designed cells have no space, and the dense flavour.
    """
    batch_norm = getattr(network, "batch_norm", True)
    if space is not None and space.flavour == "darts" and not batch_norm:
        raise InputError(
            f"network.batch_norm=false: space '{space.name}' is of the darts flavour, which always normalises; "
            "leave it true, or write the space in the dense flavour"
        )
    flavour, norm_first = "dense" if space is None else space.flavour, getattr(network, "norm_first", False)
    return Style(flavour=flavour, batch_norm=batch_norm, affine=affine, norm_first=norm_first)


def check_batch(task: Task, style: Style, dataset: Any, samples: Part[Any], *, batch: int, key: str) -> None:
    """Refuses a batch that has a single value per channel for batch normalisation, which torch cannot normalise.

    Args:
        task, style: of the network.
        dataset: the section.
        samples: samples of the batch.
        batch: number of samples in it, shared by all processes.
        key: the setting that determines that number, with its value.

    Raises:
        InputError: the batch is one sample, with one pixel at the network's coarsest level.
    """
    if batch // distributed.world() > 1 or not style.batch_norm:
        return
    sizes = sizes_of(dataset, samples, task.inputs)
    for height, width in sorted(size for size in sizes if task.coarsest(*size) == (1, 1)):
        raise InputError(
            f"{key}: leaves batch normalisation one sample of {height}x{width}, and of that one pixel at the network's "
            f"coarsest level, but it needs two values: take two samples or more, or {KITS[task.name].remedy}"
        )
