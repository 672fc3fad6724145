"""Opens a ``.pt2`` or ``.onnx`` file written by autodisp-export as a module that is called on tensors.

A ``.pt2`` file is a program for torch, whose documentation warns against opening files from untrusted sources.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from autodisp.errors import InputError, in_one_line
from autodisp.model_file import KEY, SCHEMA
from autodisp.prediction.archives import refuse_pickles
from autodisp.tasks.registry import KITS

EXTRA_FILE = "autodisp.json"
"""Path of the model card in a ``.pt2`` file. In an ``.onnx`` file it is the entry KEY of the metadata."""
_FATAL = 4
"""Logging level of onnxruntime."""


def open_exported(path: Path, *, device: torch.device) -> tuple[nn.Module, Mapping[str, Any]]:
    """Opens the network in the file, and its card as plain data, whose "task" is a known task.

    The network has the settings of the card as ``settings``.

    Args:
        path: file with a suffix in EXPORTED, in upper or lower case.
        device: device of a ``.pt2`` program; an ``.onnx`` file runs on the CPU.

    Raises:
        InputError: the file is missing, damaged, not from autodisp-export, or requires a package that is not installed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; autodisp-export checkpoint=... writes one")
    network, inputs, outputs, text = EXPORTED[path.suffix.lower()](path, device)
    card = _card(text, path)
    interface = KITS[card["task"]].interface
    if inputs != len(interface.inputs):
        raise InputError(
            f"{path}: has {inputs} input(s), but a model of {card['task']} has {len(interface.inputs)} "
            f"({', '.join(interface.inputs)}); export it again"
        )
    network = _Checked(network, path, task=card["task"])
    if not interface.any_batch:
        network = _OneByOne(network, outputs=outputs)
    settings = card.get("settings")
    vars(network)["settings"] = settings if isinstance(settings, dict) else {}
    return network, card


def _card(text: str | None, path: Path) -> Mapping[str, Any]:
    if not text:
        raise InputError(f"{path}: has no model card; only files of autodisp-export can be used")
    try:
        card = json.loads(text)
        known = card["schema"] == SCHEMA and card["task"] in KITS and isinstance(card["about"], dict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its description is damaged ({type(error).__name__}); export it again") from None
    if not known:
        raise InputError(f"{path}: is for a task that this program does not know; update autodisp, or export it again")
    assert isinstance(card, dict)
    return card


class OnnxNetwork(nn.Module):
    """An ONNX file as a module, run by onnxruntime on the CPU with the number of threads of torch.

    Attributes:
        description: the model card, as text.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path}: needs onnxruntime: pip install 'autodisp[export]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = _FATAL  # other messages are raised too
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
            self.inputs = [entry.name for entry in self.session.get_inputs()]
            self.description: str | None = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        except Exception as error:  # onnxruntime has no common class of errors
            raise InputError(f"{path}: onnxruntime cannot read it ({_short(error)}); is it cut off?") from None

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Returns the output, or a tuple of several.

        Raises:
            InputError: the program does not take such inputs.
        """
        arrays = [entry.detach().cpu().contiguous().numpy() for entry in inputs]
        try:
            outputs = self.session.run(None, dict(zip(self.inputs, arrays, strict=True)))
            found = tuple(map(torch.from_numpy, outputs))
        except Exception as error:  # onnxruntime has no common class of errors
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise InputError(
                f"{self.path}: onnxruntime cannot run it on {arrays[0].dtype} of {shapes} ({_short(error)}); "
                "export it again with autodisp-export, which takes any size"
            ) from None
        return found if len(found) > 1 else found[0]


class _Checked(nn.Module):
    """Checks the outputs of a network, since the program in a file may have been edited, but not its card."""

    def __init__(self, network: nn.Module, path: Path, *, task: str) -> None:
        super().__init__()
        self.network = network
        self.path = path
        self.task = task

    def forward(self, *inputs: Tensor) -> Any:
        """Returns the output, or a tuple of several.

        Raises:
            InputError: one is not floating, or has not the shape that ``Interface`` names.
        """
        found = self.network(*inputs)
        batch, _, height, width = inputs[0].shape
        sides: dict[Any, int] = {"batch": batch, "height": height, "width": width}
        prediction = [sides.get(side, side) for side in KITS[self.task].interface.output_shape]
        for place, output in enumerate([found] if isinstance(found, Tensor) else found):
            wanted = [batch, 1, height, width] if place else prediction
            fits = len(wanted) == output.ndim and all(a in (b, None) for a, b in zip(wanted, output.shape, strict=True))
            if not fits or not output.is_floating_point():
                shape = ", ".join("any" if side is None else str(side) for side in wanted)
                raise InputError(
                    f"{self.path}: output {place} is {output.dtype} of {tuple(output.shape)} for images of "
                    f"{tuple(inputs[0].shape)}, but a model of {self.task} returns floating numbers of ({shape}); "
                    "export it again"
                )
        return found


class _OneByOne(nn.Module):
    """Applies a network with batch size 1, which returns a number of tensors, to batches of any size."""

    def __init__(self, network: nn.Module, *, outputs: int) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Maps inputs (B, 3, H, W) to an output (B, ...), or to a tuple of several."""
        samples = zip(*(images.split(1) for images in inputs), strict=True)
        found = [self.network(*sample) for sample in samples]
        return torch.cat(found) if self.outputs == 1 else tuple(map(torch.cat, zip(*found, strict=True)))


class _Program(nn.Module):
    """Calls a traced program, which asserts the dtypes of its tensors, without autocast."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, *inputs: Tensor) -> Any:
        """Returns the output of the program."""
        device = inputs[0].device.type
        with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
            return self.program(*inputs)


class _Opened(NamedTuple):
    network: nn.Module
    inputs: int
    """Number of tensors that it takes."""
    outputs: int
    """Number of tensors that it returns."""
    card: str | None
    """The model card, as text."""


def _open_onnx(path: Path, device: torch.device) -> _Opened:
    network = OnnxNetwork(path)
    return _Opened(network, len(network.inputs), len(network.session.get_outputs()), network.description)


def _open_pt2(path: Path, device: torch.device) -> _Opened:
    refuse_pickles(path)
    files = {EXTRA_FILE: ""}
    try:
        with _quietly(), path.open("rb") as file:  # given a path, torch requires a lower-case suffix
            program = torch.export.load(file, extra_files=files)
        if device.type != "cpu":  # the program creates tensors on the device on which it was traced
            program = move_to_device_pass(program, device)
        network = _Program(program.module(check_guards=False))  # guards would be run as Python
        signature = program.graph_signature
        return _Opened(network, len(signature.user_inputs), len(signature.user_outputs), files[EXTRA_FILE])
    except Exception as error:  # a damaged program may raise any exception
        raise InputError(f"{path}: torch cannot read it ({_short(error)}); export it again with this torch") from None


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {in_one_line(error)}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Silences torch, which logs an error before raising it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


EXPORTED = {".onnx": _open_onnx, ".pt2": _open_pt2}
"""Functions that open a file, by suffix."""
