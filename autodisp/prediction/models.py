"""Opens a trained model, whatever form it is in, as something to be called on images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autodisp import model_file
from autodisp.errors import InputError
from autodisp.prediction.inference import StereoMatcher

SHIPPED = Path(__file__).parent.parent / "weights" / "disparity_small.safetensors"
"""A small disparity network, trained on shapes3d alone."""


def load(model: str | Path | None = None, *, device: str | torch.device = "cpu") -> "StereoMatcher | ImageClassifier":
    """A model, ready to be called.

    Args:
        model: a ``.safetensors`` file of autodisp-train, or what autodisp-export made of one (``.pt2``, ``.onnx``);
            None for the disparity network that ships with the package.
        device: where it runs; an ``.onnx`` file runs on the CPU.

    Returns:
        For a disparity network a StereoMatcher, called with two images; for a classification network an
        ImageClassifier, called with images.

    Raises:
        InputError: the file is missing, damaged, or no such model.
    """
    path = SHIPPED if model is None else Path(model).expanduser()
    if path.suffix in EXPORTED:
        if not path.is_file():
            raise InputError(f"{path}: no such file; autodisp-export checkpoint=... writes one")
        network, task = EXPORTED[path.suffix](path)
        return StereoMatcher(network, device=device) if task == "disparity" else ImageClassifier(network, device=device)
    card, _, network = model_file.load_network(path)
    if card.task == "disparity":
        return StereoMatcher(network, device=device)
    return ImageClassifier(network, device=device, classes=card.about.get("classes"))


def load_stereo(model: str | Path | None = None, *, device: str | torch.device = "cpu") -> StereoMatcher:
    """A disparity model; as ``load``, and any other task is refused."""
    found = load(model, device=device)
    if not isinstance(found, StereoMatcher):
        raise InputError(f"{model}: is a model for classification, but this needs one for disparity")
    return found


class ImageClassifier:
    """Calls a classification network on images.

    Args:
        network: called as network(images), returns ClassScores or the logits alone.
        device: where it runs.
        classes: names, None where unknown.
    """

    def __init__(
        self, network: nn.Module, *, device: str | torch.device = "cpu", classes: list[str] | None = None
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.classes = classes

    def __call__(self, images: Tensor | npt.NDArray[Any]) -> Tensor:
        """The probabilities of the classes, (B, classes) float32.

        Args:
            images: (B, 3, H, W) or (3, H, W) RGB in 0..1 or uint8.

        Raises:
            ValueError: the shape is something else.
        """
        batch = torch.as_tensor(np.asarray(images)) if not isinstance(images, Tensor) else images
        batch = batch.unsqueeze(0) if batch.dim() == 3 else batch
        if batch.dim() != 4 or batch.shape[1] != 3:
            raise ValueError(f"images are {tuple(batch.shape)} but must be (B, 3, H, W) or (3, H, W)")
        values = batch.to(self.device).to(torch.float32) / (255.0 if batch.dtype == torch.uint8 else 1.0)
        with torch.inference_mode():
            scores = self.network(values)
            logits = scores if isinstance(scores, Tensor) else scores.logits
            return torch.softmax(logits, dim=1).clone()


class OnnxNetwork(nn.Module):
    """An ONNX file as a module, run by onnxruntime on the CPU."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise InputError(f"{path}: needs onnxruntime: pip install 'autodisp[export]'") from None
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no common class of errors
            raise InputError(f"{path}: onnxruntime cannot read it ({' '.join(str(error).split())[:200]})") from None

    def forward(self, *inputs: Tensor) -> Tensor:
        """The first output."""
        names = [entry.name for entry in self.session.get_inputs()]
        arrays = (entry.detach().cpu().contiguous().numpy() for entry in inputs)
        return torch.from_numpy(self.session.run(None, dict(zip(names, arrays, strict=True)))[0])


def _open_onnx(path: Path) -> tuple[nn.Module, str]:
    network = OnnxNetwork(path)
    return network, "disparity" if len(network.session.get_inputs()) == 2 else "classification"


def _open_pt2(path: Path) -> tuple[nn.Module, str]:
    files = {"autodisp.json": ""}
    try:
        program = torch.export.load(path, extra_files=files)
        task = str(json.loads(files["autodisp.json"])["task"])
    except Exception as error:  # a damaged archive may end in any exception
        raise InputError(
            f"{path}: no program that autodisp-export wrote ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]})"
        ) from None
    return program.module(), task


EXPORTED = {".onnx": _open_onnx, ".pt2": _open_pt2}
