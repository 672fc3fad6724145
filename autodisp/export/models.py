"""Exports a checkpoint to files that run without this package, each compared with PyTorch before it is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autodisp import model_file
from autodisp.atomic import refuse_overwriting, staged
from autodisp.errors import RunFault
from autodisp.export.programs import CONFIDENCE, WRITERS, Comparison, differences, need_packages, outputs_of, traced
from autodisp.networks.fused import fused
from autodisp.networks.parameter_count import count_parameters
from autodisp.tasks.registry import KITS

TOLERANCE = 1e-3
"""Largest difference allowed, in pixels or the unit of the task's output."""
EXACT_UP_TO = 256.0
"""Larger outputs raise the tolerance in proportion, since float32 is less exact there. No trained network has such
outputs; an untrained AutoDispNet-c gives 3,500 pixels, where PyTorch with and without channels_last differs by 0.005
pixels."""
UNSURE = 0.03
"""Largest share of pixels whose confidence may differ."""


@dataclass(frozen=True)
class ExportedModel:
    """A file that was written and compared with PyTorch."""

    path: Path
    task: str
    differences: Mapping[tuple[int, int], Comparison]
    """Comparisons by image size (height, width), see ``programs.differences``."""
    confidence: bool = False
    """True if the file has the confidence as second output."""

    def in_words(self) -> str:
        """Formats the file and its comparison in one line."""
        unit = KITS[self.task].interface.unit
        sizes = ", ".join(f"{height}x{width}" for height, width in self.differences)
        largest = _measured(max(found.difference for found in self.differences.values()), unit)
        megabytes = self.path.stat().st_size / 1e6
        return f"{self.path}: {megabytes:.1f} MB, at most {largest} from PyTorch on random images of {sizes}"

    def usage(self) -> str:
        """Returns lines of Python that run the file on images, without this package."""
        interface = KITS[self.task].interface
        outputs = [interface.output, *([CONFIDENCE] if self.confidence else [])]
        if self.path.suffix == ".onnx":
            feed = ", ".join(f'"{name}": {name}' for name in interface.inputs)
            first = "import imageio.v3 as imageio, numpy as np, onnxruntime"
            opened = f'onnxruntime.InferenceSession({str(self.path)!r}, providers=["CPUExecutionProvider"])'
            picture = 'np.float32(imageio.imread("{}").transpose(2, 0, 1)[None]) / 255'
            called = f"program.run(None, {{{feed}}})" + ("" if self.confidence else "[0]")
        else:
            first = "import imageio.v3 as imageio, torch"
            opened = f"torch.export.load({str(self.path)!r}).module()"
            picture = 'torch.from_numpy(imageio.imread("{}")).permute(2, 0, 1)[None] / 255'
            called = f"program({', '.join(interface.inputs)})"
        pictures = [f"{name} = {picture.format(name.removesuffix('s') + '.png')}" for name in interface.inputs]
        result = f"{', '.join(outputs)} = {called}  # {interface.result}"
        return "\n".join([first, f"program = {opened}", *pictures, result])


def export_model(
    checkpoint: Path,
    folder: Path,
    formats: Sequence[str],
    *,
    overwrite: bool = False,
    confidence: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[ExportedModel]:
    """Writes the network of a checkpoint in each format, named after the checkpoint.

    Args:
        checkpoint: a ``.safetensors`` file of autodisp-train.
        folder: output folder, created if necessary.
        formats: keys of WRITERS.
        overwrite: if True, replaces files of the same name.
        confidence: adds the confidence of each pixel as second output.
        tell: called with a progress line after all checks, since the rest takes a while.

    Yields:
        Each file once it is written.

    Raises:
        InputError: the checkpoint or the folder is unusable, a file already exists, a package is missing, or the
            network has no confidence.
        RunFault: a file differs from PyTorch by more than TOLERANCE; it is not kept.
    """
    names = {form: f"{checkpoint.stem}.{form}" for form in formats}
    for form in formats:
        need_packages(form)
    if not overwrite:
        refuse_overwriting(folder, list(names.values()))
    card, _, network = model_file.load_network(checkpoint)
    parameters = count_parameters(network)
    outputs_of(network, card.task, confidence=confidence)
    with staged(folder):
        pass  # refuses a folder that cannot be used
    tell(f"{checkpoint}: {card.task}, {parameters:,} parameters; tracing, writing and comparing takes a minute or so")
    network = fused(network)
    program = traced(network, card.task, confidence=confidence)
    for form, name in names.items():
        with staged(folder) as stage:
            WRITERS[form](program, card, stage / name)
            found = differences(network, card.task, stage / name, confidence=confidence)
            _check(found, folder / name, KITS[card.task].interface.unit)
        yield ExportedModel(folder / name, card.task, found, confidence)


def _check(found: Mapping[tuple[int, int], Comparison], path: Path, unit: str) -> None:
    for (height, width), (difference, largest, unsure) in found.items():
        allowed = TOLERANCE * max(1.0, largest / EXACT_UP_TO)
        if not difference <= allowed:
            raise RunFault(
                f"{path}: would differ from PyTorch by {_measured(difference, unit)} on {height}x{width} images, "
                f"more than {allowed:.2g}; the file is not kept"
            )
        if not unsure <= UNSURE:
            raise RunFault(
                f"{path}: the confidence of {unsure:.1%} of the pixels would differ from PyTorch on {height}x{width} "
                f"images, more than {UNSURE:.0%}; the file is not kept"
            )


def _measured(value: float, unit: str) -> str:
    return f"{value:.2g} {unit}".rstrip()
