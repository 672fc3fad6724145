"""Images and maps of the datasets, written and warped by other code than that which is under test."""

import struct
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from autodisp.datasets.samples import StereoSample


def put(path: Path, pixels: np.ndarray) -> Path:
    """Writes an image without loss; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    iio.imwrite(path, pixels, **({"lossless": True} if path.suffix == ".webp" else {}))
    return path


def put_pfm(path: Path, pixels: np.ndarray, *, end: str = "\n") -> Path:
    """Writes a little-endian map, (H, W) or (H, W, 3), whose header lines end in ``end``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = b"".join(struct.pack("<f", value) for row in pixels[::-1] for value in row.flat)
    magic = "Pf" if pixels.ndim == 2 else "PF"
    path.write_bytes(f"{magic}{end}{pixels.shape[1]} {pixels.shape[0]}{end}-1.0\n".encode() + body)
    return path


def read_kitti_flow(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """KITTI's 16-bit PNG as (2, H, W) in pixels and (H, W) known: red and green are 64 u + 2^15, 64 v + 2^15."""
    assert Path(path).read_bytes()[24:26] == bytes([16, 2])  # bits, RGB
    blue, green, red = np.moveaxis(cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float64), -1, 0)
    return (np.stack([red, green]) - 2**15) / 64, blue == 1


def rgb(pixels: np.ndarray) -> torch.Tensor:
    """(H, W, 3) or (H, W) of 8 bits as (3, H, W) in 0..1."""
    whole = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
    return torch.tensor(whole.astype(np.float64) / 255).permute(2, 0, 1).float()


def photometric_error(sample: StereoSample, disparity: Tensor, where: Tensor | None = None) -> float:
    """Mean absolute difference of the left view and the right one at x - d, interpolated linearly by hand.

    Unless ``where`` says otherwise, over the pixels that both views show.
    """
    _, height, width = sample.left.shape
    x = (torch.arange(width) - disparity[0]).clamp(0, width - 1)
    first = x.floor().long().clamp(max=width - 2)
    rows = torch.arange(height)[:, None]
    warped = (1 - x + first) * sample.right[:, rows, first] + (x - first) * sample.right[:, rows, first + 1]
    if where is None:
        where = (sample.valid & ~sample.occluded & ~sample.out_of_frame)[0]
    return float((warped - sample.left).abs().mean(dim=0)[where].mean())
