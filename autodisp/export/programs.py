"""A trained network as a program of its own: a torch.export file, or ONNX made from the same trace.

Height and width are free in both, padding and cropping inside. A stereo program takes one pair at a time: with a free
batch as well, the exporter writes the parting of the views as a sequence, which few runtimes take. A classification
program takes any number of images.

An ONNX file opens at once. torch takes a while over a torch.export file, 17 seconds for a thousand operations, since it
parses the size of every intermediate tensor as text.

The numbers of a file are not trusted but compared, see ``differences``.
"""

import copy
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
from autodisp.tasks.registry import KITS

SHIFT = 5
"""Disparity of the random pairs, pixels."""
NOMINAL_STRIDE = 16
"""Unit of the sizes where a network pads nothing."""


def traced(network: nn.Module, task: str) -> ExportedProgram:
    """The network as a program, in evaluation mode, on the CPU, for any height and width.

    Args:
        network: of that task; it is left as it is.
        task: by name.
    """
    interface, stride = KITS[task].interface, _stride(network)
    network = copy.deepcopy(network).cpu().to(memory_format=torch.contiguous_format)
    plain = interface.plain(network).eval().requires_grad_(False)
    # The sides differ in whatever may be compared with each other, and are no multiple of the stride.
    example = torch.zeros(2 if interface.any_batch else 1, 3, stride + 3, 2 * stride + 5)
    free = dict.fromkeys((0, 2, 3) if interface.any_batch else (2, 3), Dim.DYNAMIC)
    # As torch's own ONNX exporter does it: without this, sides of one pixel are excluded.
    with torch.no_grad(), shape_settings.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        program = torch.export.export(
            plain,
            tuple(example.clone() for _ in interface.inputs),
            dynamic_shapes=tuple(free for _ in interface.inputs),
            strict=False,
        )
    _admit_any_size(program)
    return program


def _admit_any_size(program: ExportedProgram) -> None:
    """Drops the conditions that tracing put on the sizes.

    They say that the bottleneck is more than one pixel high and wide, since a tensor's layout in memory is ambiguous
    otherwise. Nothing that was recorded depends on it; ``differences`` tries images below one stride.
    """
    program.example_inputs = None  # without them, no conditions are written
    for side in program.range_constraints:
        program.range_constraints[side] = ValueRanges(1, int_oo)


def write_pt2(program: ExportedProgram, card: ModelCard, path: Path) -> None:
    """Writes a file for torch.export.load, with the model card in its extra files."""
    torch.export.save(program, path, extra_files={EXTRA_FILE: _text(card)})


def write_onnx(program: ExportedProgram, card: ModelCard, path: Path) -> None:
    """Writes an ONNX file with the model card in its metadata."""
    import onnx_ir

    interface = KITS[card.task].interface
    sides = {2: "height", 3: "width"} | ({0: "batch"} if interface.any_batch else {})
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        input_names=interface.inputs,
        output_names=[interface.output],
        dynamic_shapes=(sides, *(None for _ in interface.inputs[1:])),
        verbose=False,
    )
    assert onnx is not None
    output = onnx.model.graph.outputs[0]
    known = output.shape or ()
    output.shape = onnx_ir.Shape(
        [side if name is None else name for name, side in zip(interface.output_shape, known, strict=True)]
    )
    onnx.model.metadata_props[KEY] = _text(card)
    onnx.save(path)


WRITERS: Mapping[str, Callable[[ExportedProgram, ModelCard, Path], None]] = {"onnx": write_onnx, "pt2": write_pt2}
"""The formats, each named as its files end."""
PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": ()}
"""Packages that a format needs beyond the package's own dependencies."""


def need_packages(form: str) -> None:
    """Makes sure that what the format needs is installed.

    Raises:
        InputError: names what is not.
    """
    for package in PACKAGES[form]:
        try:
            import_module(package)
        except ImportError:
            raise InputError(
                f"format={form}: needs {package}, which is not installed: pip install 'autodisp[export]', or take "
                "format=pt2"
            ) from None


class Comparison(NamedTuple):
    """Between a file and its network, in the unit of their output; NaN where either is NaN."""

    difference: float
    """The largest absolute one."""
    largest: float
    """Absolute value of the network's output."""


def differences(network: nn.Module, task: str, path: Path) -> dict[tuple[int, int], Comparison]:
    """Compares a file with its network on random images of several sizes.

    The file is read as a user reads it. The sizes are a multiple of the stride, an odd one, and one below the stride.

    Args:
        network: in evaluation mode, on the CPU.
        task: by name.
        path: of the file.

    Returns:
        By (height, width).
    """
    interface, stride = KITS[task].interface, _stride(network)
    opened, _ = open_exported(path, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    sizes = ((2 * stride, 3 * stride), (stride + stride // 2 + 1, 2 * stride + stride // 2 + 3), (stride // 2 - 1,) * 2)
    found = {}
    for height, width in sizes:
        batch = 3 if interface.any_batch else 1
        scene = torch.rand(batch, 3, height, width + SHIFT, generator=generator)
        views = (scene[..., :width], scene[..., SHIFT:])[: len(interface.inputs)]
        with torch.inference_mode():
            expected = interface.plain(network)(*views)
            difference = (opened(*views) - expected).abs().max()
        found[height, width] = Comparison(float(difference), float(expected.abs().max()))
    return found


def _stride(network: nn.Module) -> int:
    stride = getattr(network, "stride", NOMINAL_STRIDE)
    assert isinstance(stride, int)
    return stride


def _text(card: ModelCard) -> str:
    return json.dumps(card.to_json(), allow_nan=False)
