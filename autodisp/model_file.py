"""A trained network in one file: weights as safetensors, and a description that rebuilds the network in its metadata.

Nothing is loaded by pickle, so untrusted files can be opened. The network is first built on the meta device, and with
no more parameters than the file has weights.
"""

import itertools
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from autodisp.atomic import replacing
from autodisp.cells import genotype as genotypes
from autodisp.cells.cell import CellFactory, FoundCells
from autodisp.cells.designed import DesignedCells
from autodisp.cells.genotype import Genotype
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES, SearchSpace
from autodisp.errors import InputError, in_one_line
from autodisp.networks.unbuilt import unbuilt
from autodisp.tasks.base import Task, channels_last
from autodisp.tasks.registry import KITS, rebuild

KEY, SCHEMA, VERSION = "autodisp", "autodisp/model", 1
SUFFIX = ".safetensors"
_LARGEST = 1 << 16
"""Upper bound of integers in a description, above any network's width, depth or disparity."""

SHIPPED = Path(__file__).parent / "weights" / "disparity.safetensors"
"""A small disparity network, trained on shapes3d alone."""


def model_path(name: str | Path | None) -> Path:
    """Path of a model: a path itself, or ``shipped`` (same as None) for the one that comes with the package.

    Raises:
        InputError: this copy of the package ships no model.
    """
    if name is not None and str(name) != "shipped":
        return Path(name).expanduser()
    if not SHIPPED.is_file():
        raise InputError("this copy of autodisp ships no weights: name a model, such as best.safetensors of a training")
    return SHIPPED


@dataclass(frozen=True)
class ModelCard:
    """Description of a network, without its weights."""

    task: str
    settings: Mapping[str, Any]
    """Settings of the task, see ``Task.settings``."""
    style: Style
    genotype: Genotype | None
    """None: hand-designed cells."""
    space: SearchSpace | None
    """Search space of the genotype, if it is not a named one."""
    about: Mapping[str, Any]
    """Origin of the weights: dataset, steps, metrics, versions."""

    def cells(self) -> CellFactory:
        """The factory of the network's cells."""
        if self.genotype is None:
            return DesignedCells(style=self.style)
        return FoundCells(self.genotype, style=self.style)

    def build(self, **unstored: Any) -> tuple[Task, nn.Module]:
        """Builds the task, and the network with fresh weights; ``unstored`` are task arguments not in the card."""
        task = rebuild(self.task, self.settings, **unstored)
        return task, task.build_network(self.cells())

    def to_json(self) -> dict[str, Any]:
        """Plain data in the current schema."""
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "task": self.task,
            "settings": dict(self.settings),
            "style": vars(self.style),
            "genotype": None if self.genotype is None else self.genotype.to_json(),
            "space": None if self.space is None else self.space.to_json(),
            "about": dict(self.about),
        }


def save(path: Path, card: ModelCard, weights: Mapping[str, Tensor]) -> None:
    """Writes a model file atomically; ``weights`` are the ``state_dict`` of the network."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    with replacing(path, lasting=True) as temporary:
        temporary.write_bytes(to_bytes(plain, metadata={KEY: json.dumps(card.to_json(), allow_nan=False)}))


def load(path: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    """Reads the card and the weights of a file.

    Raises:
        InputError: the file is missing, damaged or not a model of autodisp, or the weights do not fit the network or
            are not finite.
    """
    if path.is_dir():
        inside = path / f"best{SUFFIX}"
        hint = f"; name {inside}" if inside.is_file() else f"; name a file in it, such as {inside}"
        raise InputError(f"{path}: is a folder{hint}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; autodisp-train writes best{SUFFIX} into its run folder")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = in_one_line(error)
        raise InputError(f"{path}: no readable safetensors ({reason}); is it cut off, or another format?") from None
    if KEY not in metadata:
        raise InputError(f"{path}: holds weights but not what they are for; only files of autodisp-train can be used")
    card = _read_card(metadata[KEY], path)
    _compare_unbuilt(card, weights, path)
    for name, weight in weights.items():
        if not bool(weight.float().isfinite().all()):
            raise InputError(f"{path}: weight '{name}' is not finite everywhere; take another file of the training")
    return card, weights


def load_network(path: Path) -> tuple[ModelCard, Task, nn.Module]:
    """Loads the network with its weights, in evaluation mode on the CPU.

    Raises:
        InputError: see ``load``.
    """
    card, weights = load(path)
    try:
        task, network = card.build()
        network.load_state_dict(weights)
    except Exception as error:  # numbers that are only checked once memory is allocated
        raise _damaged(path, error) from None
    return card, task, channels_last(network).eval()


def compare(network: nn.Module, weights: Mapping[str, Tensor], *, origin: str) -> None:
    """Checks that the weights fit the network.

    Raises:
        InputError: a name is missing or unexpected, a shape differs, or numbers are not real where the network's are;
            names the first one.
    """
    own = network.state_dict()
    for name in [*own, *weights]:
        here, there = (tuple(tensors[name].shape) if name in tensors else None for tensors in (own, weights))
        if here != there:
            raise InputError(
                f"{origin}: weight '{in_one_line(name)}' is {_shape(there)} in the file but {_shape(here)} in the "
                "network; it is of another network or version"
            )
        if own[name].is_floating_point() != weights[name].is_floating_point():
            raise InputError(f"{origin}: weight '{name}' is {weights[name].dtype} but {own[name].dtype} in the network")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"


def _read_card(text: str, path: Path) -> ModelCard:
    """Reads the card in the metadata of a file."""
    try:
        data = json.loads(text)
        if data["schema"] != SCHEMA or data["version"] != VERSION:
            found = in_one_line(f"schema {data['schema']} version {data['version']}")
            raise InputError(f"{path}: {found}, but this program reads version {VERSION}; update autodisp")
        if data["task"] not in KITS:
            factory = data["about"].get("factory") or "FILE.py:KIT"
            known = ", ".join(sorted(KITS))
            raise InputError(
                f"{path}: is for task '{in_one_line(data['task'])}', but there are {known}; one of your own "
                f"is opened with task.factory={in_one_line(factory)}, a file that is run"
            )
        space = None if data["space"] is None else SearchSpace.from_json(data["space"], file=str(path))
        genotype = data["genotype"]
        if genotype is not None:
            genotype = genotypes.from_json(genotype, origin=str(path), space=space)
        return ModelCard(
            task=data["task"],
            settings=data["settings"],
            style=Style(**data["style"]),
            genotype=genotype,
            space=space,
            about=dict(data["about"]),
        )
    except InputError:
        raise
    except Exception as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {in_one_line(error)}"
    return InputError(f"{path}: its description is damaged ({reason}); train or export it again")


def _compare_unbuilt(card: ModelCard, weights: Mapping[str, Tensor], path: Path) -> None:
    """Compares the weights with the network on the meta device, which may have no more parameters than there are."""
    try:
        for name, value in card.settings.items():
            if isinstance(value, int) and abs(value) > _LARGEST:
                raise ValueError(f"{name} is beyond {_LARGEST}")
        with _at_most(len(weights)), warnings.catch_warnings(), unbuilt():
            warnings.simplefilter("error")  # such as the one about a layer without elements
            _, network = card.build()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:  # layers raise exceptions of any kind for odd numbers
        raise _damaged(path, error) from None
    compare(network, weights, origin=str(path))


@contextmanager
def _at_most(weights: int) -> Iterator[None]:
    """Stops the construction of a network with more parameters than that; some are registered twice."""
    number = itertools.count()

    def count(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        if next(number) >= 2 * weights:
            raise ValueError(f"describes a larger network than the {weights} weights of the file are for")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def card_of(
    task: Task, style: Style, genotype: Genotype | None, space: SearchSpace | None, about: Mapping[str, Any]
) -> ModelCard:
    """Returns the card of a network built from found cells, or from hand-designed ones (no genotype)."""
    own = None if space is None or SPACES.get(space.name) == space else space
    return ModelCard(task.name, task.settings, style, genotype, own, about)
