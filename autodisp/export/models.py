"""Exports a checkpoint to files that run without this package, each compared with PyTorch before it is kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autodisp import model_file
from autodisp.atomic import refuse_overwriting, staged
from autodisp.export.programs import WRITERS, Comparison, differences, need_packages, traced
from autodisp.networks.fused import fused
from autodisp.tasks.registry import KITS

TOLERANCE = 1e-3
"""Largest difference allowed, in pixels or the unit of the task's output."""
EXACT_UP_TO = 256.0
"""Larger outputs raise the tolerance in proportion, since float32 is less exact there. No trained network has such
outputs; an untrained AutoDispNet-c gives 3,500 pixels, where PyTorch with and without channels_last differs by 0.005
pixels."""


class ExportError(RuntimeError):
    """An exported file does not reproduce the output of its network."""


@dataclass(frozen=True)
class ExportedModel:
    """A file that was written and compared with PyTorch."""

    path: Path
    task: str
    differences: Mapping[tuple[int, int], Comparison]
    """Comparisons by image size (height, width), see ``programs.differences``."""

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
        if self.path.suffix == ".onnx":
            feed = ", ".join(f'"{name}": {name}' for name in interface.inputs)
            first = "import imageio.v3 as imageio, numpy as np, onnxruntime"
            opened = f'onnxruntime.InferenceSession({str(self.path)!r}, providers=["CPUExecutionProvider"])'
            picture = 'np.float32(imageio.imread("{}").transpose(2, 0, 1)[None]) / 255'
            called = f"program.run(None, {{{feed}}})[0]"
        else:
            first = "import imageio.v3 as imageio, torch"
            opened = f"torch.export.load({str(self.path)!r}).module()"
            picture = 'torch.from_numpy(imageio.imread("{}")).permute(2, 0, 1)[None] / 255'
            called = f"program({', '.join(interface.inputs)})"
        pictures = [f"{name} = {picture.format(name.removesuffix('s') + '.png')}" for name in interface.inputs]
        result = f"{interface.output} = {called}  # {interface.result}"
        return "\n".join([first, f"program = {opened}", *pictures, result])


def export_model(
    checkpoint: Path,
    folder: Path,
    formats: Sequence[str],
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Iterator[ExportedModel]:
    """Writes the network of a checkpoint in each format, named after the checkpoint.

    Args:
        checkpoint: a ``.safetensors`` file of autodisp-train.
        folder: output folder, created if necessary.
        formats: keys of WRITERS.
        overwrite: if True, replaces files of the same name.
        tell: called with a progress line after all checks, since the rest takes a while.

    Yields:
        Each file once it is written.

    Raises:
        InputError: the checkpoint or the folder is unusable, a file already exists, or a package is missing.
        ExportError: a file differs from PyTorch by more than TOLERANCE; it is not kept.
    """
    names = {form: f"{checkpoint.stem}.{form}" for form in formats}
    for form in formats:
        need_packages(form)
    if not overwrite:
        refuse_overwriting(folder, list(names.values()))
    card, _, network = model_file.load_network(checkpoint)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    tell(f"{checkpoint}: {card.task}, {parameters:,} parameters; tracing, writing and comparing takes a minute or so")
    network = fused(network)
    program = traced(network, card.task)
    for form, name in names.items():
        with staged(folder) as stage:
            WRITERS[form](program, card, stage / name)
            found = differences(network, card.task, stage / name)
            _check(found, folder / name, KITS[card.task].interface.unit)
        yield ExportedModel(folder / name, card.task, found)


def _check(found: Mapping[tuple[int, int], Comparison], path: Path, unit: str) -> None:
    for (height, width), (difference, largest) in found.items():
        allowed = TOLERANCE * max(1.0, largest / EXACT_UP_TO)
        if not difference <= allowed:
            raise ExportError(
                f"{path}: would differ from PyTorch by {_measured(difference, unit)} on {height}x{width} images, "
                f"more than {allowed:.2g}; the file is not kept"
            )


def _measured(value: float, unit: str) -> str:
    return f"{value:.2g} {unit}".rstrip()
