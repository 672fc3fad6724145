"""Exports a trained network as a standalone program: a torch.export file, or ONNX from the same trace.

Height and width are dynamic in both; padding and cropping are part of the program. A stereo program takes one pair at a
time: with a dynamic batch size, the exporter emits a Sequence op for the left/right split, which few runtimes support.
A classification program takes any number of images.

An ONNX file opens quickly. A torch.export file is slow to open, 17 seconds for a thousand operations, since torch
parses the size of every intermediate tensor as text.

Every file is compared numerically with its network, see ``differences``.
"""

import copy
import io
import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as shape_settings
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from autodisp.errors import InputError
from autodisp.model_file import KEY, ModelCard
from autodisp.prediction.exported import EXTRA_FILE, open_exported
from autodisp.tasks.base import MainOutput, main_output
from autodisp.tasks.registry import KITS

CONFIDENCE = "confidence"
"""Name of the second output."""
SHIFT = 5
"""Disparity of the random test pairs, pixels."""
NOMINAL_STRIDE = 16
"""Stride assumed for a network without padding."""


def outputs_of(network: nn.Module, task: str, *, confidence: bool = False) -> nn.Module:
    """Wraps the network so that it returns what its program returns: the prediction, and on request its confidence.

    Raises:
        InputError: the network has no confidence.
    """
    if not confidence:
        return MainOutput(network)
    confident = KITS[task].interface.confident(network)
    if confident is None:
        raise InputError(
            "confidence=true: this model has none; only disparity models whose last stage has network.head=matching or "
            "refined have one: leave it false"
        )
    return confident


def traced(network: nn.Module, task: str, *, confidence: bool = False) -> ExportedProgram:
    """Traces the network as a program in evaluation mode, on the CPU, for any height and width.

    Args:
        network: a network of the task; not modified.
        confidence: adds a second output, see ``autodisp.networks.confidence``.

    Raises:
        InputError: the network has no confidence.
    """
    interface, stride = KITS[task].interface, _stride(network)
    network = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
    plain = outputs_of(network, task, confidence=confidence).eval().requires_grad_(False)
    # Sizes that could be compared with each other all differ, and none is a multiple of the stride.
    example = torch.zeros(2 if interface.any_batch else 1, 3, stride + 3, 2 * stride + 5)
    free = dict.fromkeys((0, 2, 3) if interface.any_batch else (2, 3), Dim.DYNAMIC)
    # As in torch's own ONNX exporter: otherwise sizes of one pixel are excluded.
    with torch.no_grad(), shape_settings.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(
            plain,
            tuple(example.clone() for _ in interface.inputs),
            dynamic_shapes=(tuple(free for _ in interface.inputs),),
            strict=False,
        )
    _admit_any_size(program)
    return program


def _admit_any_size(program: ExportedProgram) -> None:
    """Removes the guards on sizes added by tracing.

    They require a bottleneck of more than one pixel in height and width, since the memory layout of a tensor is
    ambiguous otherwise. No recorded operation depends on it; ``differences`` tests images smaller than the stride.
    """
    program.example_inputs = None  # without example inputs, no guards are written
    for side in program.range_constraints:
        program.range_constraints[side] = ValueRanges(1, int_oo)


def write_pt2(program: ExportedProgram, card: ModelCard, path: Path) -> None:
    """Writes a file for torch.export.load, with the model card in its extra files."""
    archive = io.BytesIO()  # torch aborts the process where a file cannot be written
    torch.export.save(program, archive, extra_files={EXTRA_FILE: _text(card)})
    path.write_bytes(archive.getvalue())


def write_onnx(program: ExportedProgram, card: ModelCard, path: Path) -> None:
    """Writes an ONNX file with the model card in its metadata."""
    import onnx_ir

    interface = KITS[card.task].interface
    several = len(program.graph_signature.user_outputs) > 1
    sides = {2: "height", 3: "width"} | ({0: "batch"} if interface.any_batch else {})
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        input_names=interface.inputs,
        output_names=[interface.output, *([CONFIDENCE] if several else [])],
        dynamic_shapes=(sides, *(None for _ in interface.inputs[1:])),
        verbose=False,
    )
    assert onnx is not None
    for output in onnx.model.graph.outputs:
        known = output.shape or ()
        output.shape = onnx_ir.Shape(
            [side if name is None else name for name, side in zip(interface.output_shape, known, strict=True)]
        )
    onnx.model.metadata_props[KEY] = _text(card)
    onnx.save(path)


WRITERS: Mapping[str, Callable[[ExportedProgram, ModelCard, Path], None]] = {"onnx": write_onnx, "pt2": write_pt2}
"""Writers by format, named after the file suffix."""
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
"""Optional packages that a format requires."""


def need_packages(form: str) -> None:
    """Checks that the packages required by the format are installed.

    Raises:
        InputError: a package is missing.
    """
    for package in PACKAGES[form]:
        try:
            import_module(package)
        except ImportError:
            raise InputError(
                f"format={form}: needs {package}, which is not installed: pip install 'autodisp[export]', or take "
                "format=pt2"
            ) from None


CLOSE = 0.01


class Comparison(NamedTuple):
    """Comparison of a file with its network, in the unit of their output; NaN if either output is NaN."""

    difference: float
    """Largest absolute difference."""
    largest: float
    """Largest absolute value of the network's output."""
    unsure: float = 0.0
    """Share of pixels whose confidence differs by more than CLOSE, as it does where rounding moves a match to another
    pixel."""


def differences(
    network: nn.Module, task: str, path: Path, *, confidence: bool = False
) -> dict[tuple[int, int], Comparison]:
    """Compares a file with its network on random images of several sizes.

    The file is opened in the same way as by a user. The sizes are a multiple of the stride, an odd size, and a size
    below the stride.

    Args:
        network: in evaluation mode, on the CPU.
        confidence: the file has the confidence as second output.

    Returns:
        Comparisons by (height, width).
    """
    interface, stride = KITS[task].interface, _stride(network)
    opened, _ = open_exported(path, device=torch.device("cpu"))
    plain = outputs_of(network, task, confidence=confidence)
    generator = torch.Generator().manual_seed(0)
    sizes = ((2 * stride, 3 * stride), (stride + stride // 2 + 1, 2 * stride + stride // 2 + 3), (stride // 2 - 1,) * 2)
    found = {}
    for height, width in sizes:
        batch = 3 if interface.any_batch else 1
        scene = torch.rand(batch, 3, height, width + SHIFT, generator=generator)
        views = (scene[..., :width], scene[..., SHIFT:])[: len(interface.inputs)]
        with torch.inference_mode():
            output, expected = opened(*views), plain(*views)
        difference = (main_output(output) - main_output(expected)).abs().max()
        unsure = float(((output[1] - expected[1]).abs() > CLOSE).float().mean()) if confidence else 0.0
        found[height, width] = Comparison(float(difference), float(main_output(expected).abs().max()), unsure)
    return found


def _stride(network: nn.Module) -> int:
    stride = getattr(network, "stride", NOMINAL_STRIDE)
    assert isinstance(stride, int)
    return stride


def _text(card: ModelCard) -> str:
    return json.dumps(card.to_json(), allow_nan=False)
