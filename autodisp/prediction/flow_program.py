"""Flow of image pairs, as autodisp-predict runs it."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from autodisp.datasets.flow_files import write_flo, write_flow_png
from autodisp.errors import InputError
from autodisp.prediction.flow_images import colour_flow
from autodisp.prediction.outputs import FLOW_OUTPUTS, OutputFolder
from autodisp.prediction.pairs import FoundPairs, StereoPair, find_images, find_pairs, read_pair
from autodisp.prediction.segmenter import images_in
from autodisp.tasks.base import channels_last

_FOR_STEREO = ("focal", "baseline", "colour_range", "unknown")


class FlowEstimator:
    """Calls a flow network on two images of any height and width.

    Args:
        network: called as network(first, second), returns a FlowPrediction or the flow alone; it is moved to the device
            and permanently set to eval mode.
        device: device on which the network runs.
    """

    def __init__(self, network: nn.Module, *, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.network = channels_last(network.to(self.device))
        with suppress(NotImplementedError):  # an exported network cannot change its mode
            self.network.eval()

    def __call__(self, first: Any, second: Any) -> Tensor:
        """Returns the flow of the first image, (B, 2, H, W) float32, pixels to the right and down.

        Args:
            first, second: (B, 3, H, W) or (3, H, W) RGB in 0..1 or uint8, arrays or tensors.

        Raises:
            TypeError: the dtype is not supported.
            ValueError: a shape is wrong, or the shapes differ.
        """
        images = [images_in(image, self.device) for image in (first, second)]
        if images[0].shape != images[1].shape:
            raise ValueError(
                f"the images are {tuple(images[0].shape)} and {tuple(images[1].shape)}: must be of one size"
            )
        with torch.inference_mode():
            output = self.network(*images)
            flow: Tensor = output if isinstance(output, Tensor) else output.flow
        return flow.float().clone()  # an inference-mode tensor could not be used in the user's training


def find(config: Any) -> FoundPairs:
    """Finds the pairs: ``left`` and ``right`` are first and second images, ``left`` alone has sequences.

    The images of a folder are a sequence, in the order of the numbers in their names: frame_9, frame_10.

    Raises:
        InputError: there is none, or a setting is for stereo pairs.
    """
    for key in _FOR_STEREO:
        if (value := getattr(config, key)) is not None:
            raise InputError(f"{key}={value}: is for stereo pairs, but this model computes flow: leave it null")
    if config.right is not None:
        return find_pairs(str(config.left), config.right, skip=config.out)
    images, problems = find_images(str(config.left), skip=config.out)
    images = sorted(images, key=lambda image: (str(image.path.parent), _numbered(image.path.stem)))
    following = [(one, other) for one, other in pairwise(images) if one.path.parent == other.path.parent]
    if not following:
        found = "is one image" if len(images) == 1 else "has no two images in one folder"
        raise InputError(f"left={config.left}: {found} and right is not set: name the second one as right=")
    return FoundPairs([StereoPair(one.name, one.path, other.path) for one, other in following], problems)


def _numbered(name: str) -> list[tuple[int, str]]:
    """Splits a name into numbers and texts, which sort by number."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return [(int(number) if number else -1, text or number) for number, text in parts]


def build_writer(config: Any, pairs: Sequence[StereoPair]) -> OutputFolder:
    """Builds the folder of the wanted outputs."""
    return OutputFolder(
        Path(config.out).expanduser(),
        tuple(FLOW_OUTPUTS) if config.outputs is None else config.outputs,
        endings=FLOW_OUTPUTS,
        overwrite=config.overwrite,
        inputs=[image for pair in pairs for image in (pair.left, pair.right)],
    )


def predict(pair: StereoPair, estimator: FlowEstimator, writer: OutputFolder) -> str:
    """Predicts and writes one pair; returns a line about it."""
    writer.check(pair.name)
    first, second = read_pair(pair)
    began = time.perf_counter()
    found = estimator(first, second).cpu()
    seconds = time.perf_counter() - began
    vectors, notes = found[0].permute(1, 2, 0).numpy(), ""
    writers: dict[str, Callable[[Path], int | None]] = {
        "flo": lambda file: write_flo(file, vectors),
        "png16": lambda file: write_flow_png(file, vectors),
        "colour": lambda file: _write_colours(file, found),
    }
    for file, wanted in zip(writer.files(pair.name), writer.wanted, strict=True):
        if unknown := writer.save(file, writers[wanted]):
            notes += f" · {file}: vectors beyond 512 px, stored as unknown: {unknown} of {vectors[..., 0].size} pixels"
    lengths = np.linalg.norm(vectors, axis=2)
    size = f"{lengths.shape[1]}x{lengths.shape[0]}"
    return f"{pair.name}: {size}, vectors of {lengths.mean():.1f} px, up to {lengths.max():.1f}, {seconds:.2f} s{notes}"


def _write_colours(path: Path, flow: Tensor) -> None:
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(colour_flow(flow)[0][..., ::-1]))
    path.write_bytes(encoded.tobytes())
