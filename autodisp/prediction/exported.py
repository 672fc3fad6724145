"""Opens what autodisp-export wrote, a ``.pt2`` or an ``.onnx`` file, as a module to be called on tensors.

A ``.pt2`` file is a program for torch, and to open one is to trust whoever wrote it, which torch says of the format
itself. torch.export.load also unpickles whatever an archive declares as pickled; autodisp-export writes no such part,
and an archive with one is refused before torch sees it.
"""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

from autodisp.errors import InputError
from autodisp.model_file import KEY, SCHEMA
from autodisp.tasks.registry import TASKS

EXTRA_FILE = "autodisp.json"
"""Of a ``.pt2`` file: the model card. In an ``.onnx`` file it is the entry KEY of the metadata."""

_PLAIN = re.compile(
    r"[^/]+/(\w+|\.data/\w+|models/model\.json|extra/[^/]+|data/sample_inputs/model\.pt"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json))"
)
"""The entries of a ``.pt2`` archive that hold JSON, plain text or raw numbers."""


def open_exported(path: Path, *, device: torch.device) -> tuple[nn.Module, Mapping[str, Any]]:
    """The network in the file, and its card as plain data, whose "task" is one of ours.

    Args:
        path: ends in one of EXPORTED, in either case.
        device: where a ``.pt2`` program runs; an ``.onnx`` file runs on the CPU.

    Raises:
        InputError: the file is missing, damaged, not from autodisp-export, or needs what is not installed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; autodisp-export checkpoint=... writes one")
    network, text = EXPORTED[path.suffix.lower()](path, device)
    card = _card(text, path)
    return (_PairByPair(network) if card["task"] == "disparity" else network), card


def _card(text: str | None, path: Path) -> Mapping[str, Any]:
    if not text:
        raise InputError(f"{path}: does not say what it is for; only files of autodisp-export can be used")
    try:
        card = json.loads(text)
        known = card["schema"] == SCHEMA and card["task"] in TASKS and isinstance(card["about"], dict)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: its description is damaged ({type(error).__name__}); export it again") from None
    if not known:
        raise InputError(f"{path}: is for a task that this program does not know; update autodisp, or export it again")
    assert isinstance(card, dict)
    return card


class OnnxNetwork(nn.Module):
    """An ONNX file as a module, run by onnxruntime on the CPU, on as many threads as torch uses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path}: needs onnxruntime: pip install 'autodisp[export]'") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common class of errors
            raise InputError(f"{path}: onnxruntime cannot read it ({_short(error)}); is it cut off?") from None
        self.inputs = [entry.name for entry in self.session.get_inputs()]

    @property
    def description(self) -> str | None:
        """The model card, as text."""
        text: str | None = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        return text

    def forward(self, *inputs: Tensor) -> Tensor:
        """The first output."""
        arrays = (entry.detach().cpu().contiguous().numpy() for entry in inputs)
        return torch.from_numpy(self.session.run(None, dict(zip(self.inputs, arrays, strict=True)))[0])


class _PairByPair(nn.Module):
    """Calls a network that takes one pair at a time on any number of them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """(B, 1, H, W)."""
        pairs = zip(left.split(1), right.split(1), strict=True)
        return torch.cat([self.network(*pair) for pair in pairs])


def _open_onnx(path: Path, device: torch.device) -> tuple[nn.Module, str | None]:
    network = OnnxNetwork(path)
    return network, network.description


def _open_pt2(path: Path, device: torch.device) -> tuple[nn.Module, str | None]:
    _refuse_pickles(path)
    files = {EXTRA_FILE: ""}
    try:
        with path.open("rb") as file:  # of a path torch would want the suffix in lower case
            program = torch.export.load(file, extra_files=files)
        if device.type != "cpu":  # the program makes tensors of its own, on the device that it was traced on
            program = move_to_device_pass(program, device)
        return program.module(), files[EXTRA_FILE]
    except Exception as error:  # a damaged program may end in any exception
        raise InputError(f"{path}: torch cannot read it ({_short(error)}); export it again with this torch") from None


def _refuse_pickles(path: Path) -> None:
    """Looks through the archive.

    Raises:
        InputError: it is damaged, or holds what torch would unpickle, or anything else than a program and numbers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            odd = None if damaged else next(_odd_entries(archive), None)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: no readable .pt2 archive ({_short(error)}); is it cut off?") from None
    if damaged is not None:
        raise InputError(f"{path}: is damaged in {damaged}; copy or export it again")
    if odd is not None:
        raise InputError(
            f"{path}: holds {odd}, which autodisp-export does not write and which torch might unpickle; "
            "only files of autodisp-export can be used"
        )


def _odd_entries(archive: zipfile.ZipFile) -> Iterator[str]:
    seen = set()
    for entry in archive.infolist():
        name = entry.filename
        if not _PLAIN.fullmatch(name) or (name.endswith(".pt") and entry.file_size) or name in seen:
            yield name
        elif name.endswith("_config.json"):
            payloads = json.loads(archive.read(name))["config"].values()
            yield from (f"{name} with a pickled part" for payload in payloads if payload["use_pickle"])
        seen.add(name)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


EXPORTED = {".onnx": _open_onnx, ".pt2": _open_pt2}
"""How a file is opened, by its suffix."""
