"""The contract between the programs and a task: one frozen dataclass holds everything that a program needs of it.

A kit's functions import what they need when they are called: evaluation, prediction and drawing import the registry.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from autodisp.tasks.base import Task
from autodisp.tasks.sections import DatasetSection, NetworkSection, TaskSection

Split = Literal["train", "test"]
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset that a task can be trained and evaluated on."""

    section: type[DatasetSection]
    build: Callable[..., Any]
    """Called with the section and ``seed``, ``split``, ``strict`` (refuses samples that lack a part). Imports the
    reader, so that a program imports only the one that it uses."""
    sample: type
    """The named tuple of a sample."""
    splits: tuple[Split, ...] = ("train",)
    """The splits with ground truth."""
    generated: bool = False
    """Made on the fly, so there is nothing to check."""
    in_few_files: bool = False
    """All samples are read at once when the dataset is opened."""
    identity: tuple[str, ...] = ()
    """Settings next to root and exclude that choose what a sample is. Suggested commands repeat those that differ from
    the default of their program."""
    training_identity: tuple[str, ...] = ()
    """More of them for a training on the samples of another run, such as which parts of the dataset it takes."""
    size: tuple[int, int] | None = None
    """Height and width of every image, where known without the data."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Stand-ins for ``TaskKit.facts`` from which a network of the same size is built without the data."""


@dataclass(frozen=True)
class Interface:
    """Inputs and output of the exported network of a task."""

    inputs: tuple[str, ...]
    """Each (B, 3, H, W) float32, RGB in 0..1."""
    output: str
    output_shape: tuple[str | int | None, ...]
    """A name for a free side, None for one that the trace fixes."""
    unit: str
    any_batch: bool
    plain: Callable[[nn.Module], nn.Module]
    """Makes a network return its main output alone."""
    result: str
    """Shape and unit of that tensor, in words."""


@dataclass(frozen=True)
class WorstSamples:
    """How an evaluation finds and draws the samples with the largest errors."""

    metric: str
    """Name of the error in evaluation.json."""
    shown: str
    """Format of the error on the terminal, such as ``EPE {:.2f} px``."""
    errors: Callable[[Tensor, Any], Tensor]
    """Takes predictions and batch: (B,), NaN for samples without ground truth."""
    draw: Callable[[Sequence[Any]], list[Any]]
    """Takes cases, see ``evaluation.worst.Case``: an image of each, all on one scale."""


def _nothing(*_: Any) -> None:
    return None


def _unchanged(first: Any, *_: Any) -> Any:
    return first


@dataclass(frozen=True)
class TaskKit:
    """Everything that the programs need of a task."""

    name: str
    task: type[Task]
    section: type[TaskSection]
    """``task=``"""
    networks: Mapping[str, type[NetworkSection]]
    """The sections of ``network=`` by name."""
    datasets: Mapping[str, DatasetEntry]
    make_task: Callable[[Any, Any, Any, Mapping[str, Any]], Task]
    """Takes the sections of task, network and dataset, and the facts."""
    augment: Callable[[Any, Any, int, Any], Any]
    """Takes the sections of dataset and augmentation, the side of cut-out, and the dataset: the training transform."""
    metrics: Callable[[Any, Any], Any]
    """Takes the config of an evaluation and the dataset."""
    open_model: Callable[[nn.Module, Any, Mapping[str, Any]], Any]
    """Takes a network, a device, and what the card tells about it: a callable on the user's images."""
    interface: Interface
    inputs: Callable[[Any], tuple[Tensor, ...]]
    """Images of a batch, as an opened model is called."""
    facts: Callable[[Any], Mapping[str, Any]] = field(default=lambda dataset: _NONE)
    """Arguments of the task that only an opened dataset knows."""
    fixed: Callable[[Any], Callable[[Any], Any] | None] = _nothing
    """Takes the section of a dataset: the transform of search validation and evaluation."""
    unstored: Callable[[Any, Any], Mapping[str, Any]] = field(default=lambda task, network: _NONE)
    """Takes the sections of task and network: arguments of the task that a model card does not store."""
    adapt: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], Mapping[str, Any]] = _unchanged
    """Takes settings of a trained task, the config of a training and the facts: the settings to train on with."""
    start: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]] = _unchanged
    """Takes weights of another training and a network: weights that the network can start from."""
    inherited: tuple[str, ...] = ()
    """Settings that the weights of ``init`` depend on, which their shapes do not show."""
    missing: Mapping[str, Any] = field(default_factory=dict)
    """Values of the settings that the cards of earlier models lack."""
    picture: Callable[[Any, Any], Any] | None = None
    """Takes a batch and its output: an image of the first prediction."""
    baselines: Mapping[str, Callable[[Any, Any], Callable[[Any], Tensor]]] = field(default_factory=dict)
    """Each takes the config and the batches of an evaluation."""
    worst: WorstSamples | None = None
    """None: an evaluation draws no samples."""
    check_sections: Callable[[Any, Any], None] = _nothing
    """Takes the sections of task and network; refuses those that do not fit each other."""
    check_search: Callable[[Any], None] = _nothing
    check_training: Callable[[Any], None] = _nothing
    check_evaluation: Callable[[Any], None] = _nothing
    notes_on_evaluation: Callable[[Any, Mapping[str, Any]], list[str]] = field(default=lambda config, results: [])
    """Takes the config and the evaluations by method."""
    designed: bool = False
    """There are hand-designed cells for its network."""
    cutout: bool = False
    """Its augmentation has cut-out."""
    level_weights: bool = False
    """Its loss is a sum over levels, whose weights the task takes as ``level_weights``."""
    predicts: bool = False
    """autodisp-predict takes its models."""
    remedy: str = "larger images, or fewer cells"
    """Against a feature map of a single pixel."""
    metric_place: str = ""
    """The place of the task's main metric among those of a method in evaluation.json."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of cell that its network needs."""
        return frozenset(self.task.kinds)
