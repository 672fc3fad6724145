"""The contract between the programs and a task: one frozen dataclass with everything that a program needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from torch import Tensor, nn

from autodisp.errors import InputError, in_one_line
from autodisp.tasks.base import Figure, SelfTaughtTask, Task
from autodisp.tasks.sections import DatasetSection, NetworkSection, TaskSection

Split = Literal["train", "test"]
T = TypeVar("T")
_NONE: Mapping[str, Any] = {}


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset that a task can be trained and evaluated on."""

    section: type[DatasetSection]
    build: Callable[..., Any]
    """Called with the section and ``seed``, ``split``, ``strict`` (rejects incomplete samples)."""
    sample: type
    """Named tuple type of a sample."""
    splits: tuple[Split, ...] = ("train",)
    """Splits with ground truth."""
    generated: bool = False
    """True if samples are generated on the fly, so that there are no files to check."""
    ground_truth: bool = True
    """False if no sample has ground truth; only a ``SelfTaughtTask`` can learn from them."""
    in_few_files: bool = False
    """True if all samples are loaded when the dataset is opened."""
    identity: tuple[str, ...] = ()
    """Settings besides root and exclude that determine what a sample is. Suggested commands repeat those that differ
    from their program's default."""
    training_identity: tuple[str, ...] = ()
    """Further ones for training on the samples of another run, such as the parts of the dataset in use."""
    size: tuple[int, int] | None = None
    """(height, width) of every image, if known without the data."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Placeholders for ``TaskKit.facts`` that give a network of the same size without the data."""


def _nothing(*_: Any) -> None:
    return None


@dataclass(frozen=True)
class Interface:
    """Inputs and output of the exported network of a task."""

    inputs: tuple[str, ...]
    """Each (B, 3, H, W) float32, RGB in 0..1."""
    output: str
    output_shape: tuple[str | int | None, ...]
    """Name of each dynamic dimension; None for a dimension fixed by the trace."""
    unit: str
    any_batch: bool
    result: str
    """Shape and unit of the output tensor, as text."""
    confident: Callable[[nn.Module], nn.Module | None] = _nothing
    """Takes a network; returns one whose outputs are its prediction and the confidence (1, 1, H, W), if it has one."""


@dataclass(frozen=True)
class WorstSamples:
    """Functions that find the samples with the largest errors in an evaluation, and draw samples."""

    metric: str
    """Name of the error in evaluation.json."""
    shown: str
    """Format of the error on the terminal, such as ``EPE {:.2f} px``."""
    errors: Callable[[Tensor, Any], Tensor]
    """Takes predictions and batch; returns (B,), NaN for samples without ground truth."""
    draw: Callable[[Sequence[Any]], list[Any]]
    """Takes cases, see ``evaluation.worst.Case``; returns one image per case, all on the same scale. Draws the first
    validation sample of a run too."""


@dataclass(frozen=True)
class Prediction:
    """Functions with which autodisp-predict predicts the user's own images."""

    item: str
    """Noun for one input, such as ``pair``."""
    example: tuple[str, ...]
    """Settings of the inputs in a suggested command."""
    outputs: Mapping[str, Sequence[str]]
    """Formats that it can write, with the endings of their file names."""
    find: Callable[[Any], tuple[Sequence[Any], Sequence[str]]]
    """Takes the config; returns the inputs, and a line for each problem."""
    writer: Callable[[Any, Sequence[Any]], Any]
    """Takes the config and the inputs; returns the writer of the wanted outputs."""
    predict: Callable[[Any, Any, Any], str]
    """Takes an input, the opened model and the writer; writes the files and returns a line about them."""
    check: Callable[[Any, Any], None] = _nothing
    """Takes the config and the opened model; raises if they do not fit each other."""


def _unchanged(first: Any, *_: Any) -> Any:
    return first


@dataclass(frozen=True)
class TaskKit:
    """The interface of a task for the programs: its sections, datasets and functions."""

    name: str
    task: type[Task]
    section: type[TaskSection]
    """``task=``"""
    networks: Mapping[str, type[NetworkSection]]
    """Sections of ``network=`` by name."""
    datasets: Mapping[str, DatasetEntry]
    augment: Callable[[Any, Any, int, Any], Any]
    """Takes the sections of dataset and augmentation, the size of cutout and the dataset; returns the training
    transform."""
    metrics: Callable[[Any, Any], Any]
    """Takes the config of an evaluation and the dataset; returns the metrics."""
    interface: Interface
    inputs: Callable[[Any], tuple[Tensor, ...]]
    """Extracts the images of a batch, in the form that an opened model takes."""
    open_model: Callable[[nn.Module, Any, Mapping[str, Any]], Any] | None = None
    """Takes a network, a device and the model card; returns a callable on the user's images. None: see
    ``prediction.image_models.ImageModel``."""
    scaled: Callable[[Any, Sequence[float]], Any] | None = None
    """Takes an opened model and factors; returns one that predicts at these sizes of its images. None: ``scales`` is
    refused."""
    corrections: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    """By the name of ``correction=``: takes an opened model; returns one whose predictions are corrected."""
    predictor: Callable[[Any, Any], Callable[[Any], Tensor]] | None = None
    """Takes the config of an evaluation and an opened model; returns a function from a batch to the input of the
    metrics. None: the model is called with ``inputs``."""
    facts: Callable[[Any], Mapping[str, Any]] = field(default=lambda dataset: _NONE)
    """Takes an opened dataset; returns the arguments of the task that depend on it."""
    arguments: Callable[[Any, Any], Mapping[str, Any]] = field(default=lambda task, data: _NONE)
    """Takes the sections of task and dataset; returns further arguments of the task."""
    fixed: Callable[[Any], Callable[[Any], Any] | None] = _nothing
    """Takes the section of a dataset; returns the transform for validation and evaluation."""
    unstored: Callable[[Any, Any], Mapping[str, Any]] = field(default=lambda task, network: _NONE)
    """Takes the sections of task and network; returns arguments of the task that a model card does not store."""
    adapt: Callable[[Mapping[str, Any], Any, Mapping[str, Any]], Mapping[str, Any]] = _unchanged
    """Takes the settings of a trained task, the config of a training and the facts; returns the settings for
    fine-tuning."""
    start: Callable[[Mapping[str, Tensor], nn.Module], Mapping[str, Tensor]] = _unchanged
    """Takes weights of another training and a network; returns weights that the network can be initialised with."""
    self_taught: Callable[[Any], Callable[[Any], SelfTaughtTask] | None] = _nothing
    """Takes the section of the task; if it selects training without ground truth, returns a function that wraps the
    task so that it learns in this way."""
    figure: Callable[[Mapping[str, Any]], Figure] | None = None
    """Takes the section of the task as plain data; returns the metric of a training. None: always the task's own."""
    inherited: tuple[str, ...] = ()
    """Settings on which the weights of ``init`` depend without it being visible in their shapes."""
    missing: Mapping[str, Any] = field(default_factory=dict)
    """Values of settings that are missing from the cards of earlier models."""
    baselines: Mapping[str, Callable[[Any, Any, Mapping[str, Any]], Callable[[Any], Tensor]]] = field(
        default_factory=dict
    )
    """Each takes the config and the batches of an evaluation, and the facts."""
    worst: WorstSamples | None = None
    """None if no samples are drawn."""
    check_sections: Callable[[Any, Any], None] = _nothing
    """Takes the sections of task and network; raises if they do not fit each other."""
    check_search: Callable[[Any], None] = _nothing
    check_training: Callable[[Any], None] = _nothing
    check_evaluation: Callable[[Any], None] = _nothing
    notes_on_evaluation: Callable[[Any, Mapping[str, Any], Any], list[str]] = field(default=lambda *about: [])
    """Takes the config, the evaluations by method, and the model or None."""
    designed: bool = False
    """True if there are hand-designed cells for its network."""
    cutout: bool = False
    """True if its augmentation includes cutout."""
    zoom: bool = False
    """True if its augmentation takes ``augmentation.zoom``."""
    level_weights: bool = False
    """True if its loss is a sum over levels, weighted by the argument ``level_weights`` of the task."""
    prediction: Prediction | None = None
    """None if autodisp-predict does not support its models."""
    remedy: str = "larger images, or fewer cells"
    """Suggested remedy if a feature map shrinks to a single pixel."""
    metric_settings: tuple[str, ...] = ()
    """Of ``ranges`` and ``densities``, those that its metrics read from the config of an evaluation."""
    metric_place: str = ""
    """Path of the task's main metric within a method's entry in evaluation.json."""

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of cell in its network."""
        return frozenset(self.task.kinds)

    def build_task(
        self, task: TaskSection, network: NetworkSection, data: DatasetSection, facts: Mapping[str, Any] = _NONE
    ) -> Task:
        """Builds the task of the given sections; ``facts`` as of the field of that name, which precede the others.

        Raises:
            InputError: the task does not take these arguments.
        """
        own = {**network.arguments, **self.unstored(task, network), **self.arguments(task, data)}
        try:
            return self.task(**{**own, **facts})
        except TypeError as error:
            raise InputError(
                f"task={task.name}: {in_one_line(error)}; the settings of network={network.name} must be fields of "
                f"{self.task.__name__}"
            ) from error


def augmented(kind: Callable[..., T]) -> Callable[[Any, Any, int, Any], T]:
    """Returns the function ``TaskKit.augment`` for a transform with the arguments ``scale`` and ``crop``.

    ``augmentation.zoom`` is passed as ``zoom`` where it is given.
    """

    def augment(data: Any, augmentation: Any, cutout: int, samples: Any) -> T:
        zoom = {} if augmentation.zoom is None else {"zoom": augmentation.zoom}
        return kind(scale=augmentation.scale, crop=_crop(data), **zoom)

    return augment


def cropped(kind: Callable[..., T]) -> Callable[[Any], T]:
    """Returns the function ``TaskKit.fixed`` for a transform with the argument ``crop``."""
    return lambda data: kind(crop=_crop(data))


def _crop(data: Any) -> tuple[int, int] | None:
    return (data.crop[0], data.crop[1]) if data.crop else None
