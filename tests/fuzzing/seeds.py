"""Good files of every format, small, made by the project's own writers or by other libraries."""

import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from scipy.io import savemat
from torch import Tensor, nn

from autodisp import model_file
from autodisp.cells import genotype as genotypes
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.datasets.disparity_png import write_disparity_png
from autodisp.datasets.images import write_png
from autodisp.datasets.pfm import write_pfm
from autodisp.model_file import card_of
from autodisp.records import JsonLines
from autodisp.run_state import CONTENTS, VERSION
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask

RGB = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
SMOOTH = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None] * 6, (40, 48, 3)).copy()
GREY = RGB[..., 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (13, 17, 3)).astype(np.uint16)
DISPARITY = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3,
                          head="matching", max_disparity=16)  # fmt: skip
IMAGES = ClassificationTask(channels=1, layers=3, classes=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
DESCRIPTION = {"schema": "autodisp/model", "version": 1, "task": "disparity", "about": {"steps": 3}}


def written(name: str, write: Callable[[Path], Any]) -> bytes:
    """What a function writes to a file of that name."""
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return path.read_bytes()


def pfm() -> list[bytes]:
    rng = np.random.default_rng(2)
    grey, colour = rng.random((7, 9)).astype(np.float32), rng.random((3, 4, 3)).astype(np.float32)
    grey[0, 0] = np.inf
    return [
        written("a.pfm", lambda path: write_pfm(path, grey)),
        written("a.pfm", lambda path: write_pfm(path, grey, trailing_spaces=True)),
        written("a.pfm", lambda path: write_pfm(path, colour)),
        b"Pf\n2 1\n1.0\n" + struct.pack(">2f", 1.0, 2.0),
    ]


def picture(kind: str, pixels: np.ndarray = RGB, **options: Any) -> bytes:
    """Encoded by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def png() -> list[bytes]:
    palette = io.BytesIO()
    Image.fromarray(RGB).quantize(16).save(palette, "PNG", transparency=bytes(range(16)))
    return [
        written("a.png", lambda path: write_png(path, torch.rand(3, 11, 14))),
        written("a.png", lambda path: write_png(path, torch.rand(1, 9, 12) > 0.5)),
        picture("PNG", SMOOTH, dpi=(72, 72)),
        picture("PNG", np.dstack([RGB, GREY])),
        picture("PNG", np.dstack([GREY, GREY])),
        picture("PNG", GREY > 99),
        palette.getvalue(),
        cv2.imencode(".png", DEEP)[1].tobytes(),
        cv2.imencode(".png", np.dstack([DEEP, DEEP[..., 0]]))[1].tobytes(),
    ]


def sintel_png() -> list[bytes]:
    return [picture("PNG"), picture("PNG", SMOOTH)]


def disparity_png() -> list[bytes]:
    def write(path: Path) -> None:
        write_disparity_png(path, 200 * torch.rand(11, 13))

    return [written("a.png", write), cv2.imencode(".png", DEEP[..., 0])[1].tobytes()]


def ppm() -> list[bytes]:
    deep = b"P5\n# levels\n3 2\n1023\n" + np.array([0, 511, 1023] * 2, ">u2").tobytes()
    return [picture("PPM"), picture("PPM", GREY), b"P3\n2 1\n255\n0 9 255 1 2 3\n", b"P1\n3 2\n0 1 0 1 0 1\n", deep]


def jpeg() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    return [
        picture("JPEG", SMOOTH, exif=exif),
        picture("JPEG", SMOOTH, progressive=True),
        picture("JPEG", GREY),
        picture("JPEG", RGB, subsampling=0, optimize=True),
    ]


def tiff() -> list[bytes]:
    kinds = ("tiff_deflate", "tiff_lzw", "packbits", "jpeg")
    return [picture("TIFF"), picture("TIFF", DEEP[..., 0]), *(picture("TIFF", SMOOTH, compression=k) for k in kinds)]


def webp() -> list[bytes]:
    alpha = np.dstack([SMOOTH, SMOOTH[..., 0]])
    return [picture("WEBP", lossless=True), picture("WEBP", SMOOTH), picture("WEBP", alpha, quality=50)]


def bmp() -> list[bytes]:
    return [picture("BMP"), picture("BMP", GREY), picture("BMP", GREY > 9)]


def cifar_records(label_limits: tuple[int, ...], count: int = 2) -> bytes:
    """Of the binary layout."""
    records = np.random.default_rng(3).integers(0, 256, (count, len(label_limits) + 3072), dtype=np.uint8)
    records[:, : len(label_limits)] %= np.array(label_limits, np.uint8)
    return records.tobytes()


def cifar_names() -> list[bytes]:
    """One class a line."""
    return [b"\n".join(b"name%d" % number for number in range(10))]


def cifar_pickle(seed: int = 0) -> bytes:
    """A batch of the Python layout."""
    data = np.random.default_rng(seed).integers(0, 256, (2, 3072), dtype=np.uint8)
    return pickle.dumps({"data": data, "labels": [3, 9]}, protocol=2)


def mat() -> list[bytes]:
    def save(labels: list[int], kind: str, **options: Any) -> bytes:
        images = np.random.default_rng(len(labels)).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        buffer = io.BytesIO()
        savemat(buffer, {"X": images, "y": np.array(labels, kind).reshape(-1, 1)}, **options)
        return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]  # it says when it was made

    return [
        save([1, 10], "uint8", do_compression=True),
        save([3], "float64", do_compression=True),
        save([1, 2, 3], "uint8"),
    ]


def genotype_json() -> list[bytes]:
    names = ("autodispnet", "darts_v2")
    return [written("a.json", genotypes.load(name).save) for name in names]


def genotype_text() -> list[bytes]:
    pair = "('sep_conv_3x3', 1), ('skip_connect', 0)"
    cell = f"[{pair}, {pair}, {pair}, {pair}]"
    published = f"Genotype(normal={cell}, normal_concat=range(2, 6), reduce={cell}, reduce_concat=[2, 3, 4, 5])"
    scalar = published.replace("1)", "np.int64(1))").replace("range(2, 6)", "list(range(2, 6))")
    nested = f"Genotype(normal=[[{pair}]] , reduce=[[{pair}]])"
    return [text.encode() for text in (f"DARTS = {published}\n", f"epoch 3 genotype = {scalar}\n" * 2, nested)]


def space() -> list[bytes]:
    own = SPACES["autodispnet"].to_json() | {"name": "mine"}
    return [json.dumps(data).encode() for data in (own, SPACES["tiny81"].to_json(), SPACES["s1"].to_json())]


def checkpoint() -> list[bytes]:
    optimizer = torch.optim.Adam([nn.Parameter(torch.rand(3))])
    state = dict.fromkeys(sorted(CONTENTS), 0) | {
        "version": VERSION,
        "parts": {"weights": nn.Linear(3, 2).state_dict(), "optimizer": optimizer.state_dict()},
        "streams": {"weights": 3},
        "progress": {"weight_decay": 3e-4, "history": [[1, 0.5]], "eigenvector": torch.rand(4)},
        "rng": {"cpu": torch.arange(64, dtype=torch.uint8), "cuda": []},
    }

    def write(path: Path) -> None:
        Checkpoints(path.parent).save(3, state)

    return [written("epoch_0003.pt", write)]


def model() -> list[bytes]:
    found = []
    about = {"dataset": "shapes3d", "steps": 3}
    cell = ((("sep_conv_3x3", 0), ("skip_connect", 1)),)
    small = genotypes.Genotype("tiny81", {"normal": cell, "reduce": cell})
    cards = [
        card_of(DISPARITY, Style("dense", affine=True), None, None, about),
        card_of(IMAGES, Style("darts", affine=True), small, SPACES["tiny81"], about),
    ]
    for card in cards:
        weights = card.build()[1].state_dict()

        def write(path: Path, card: Any = card, weights: Any = weights) -> None:
            model_file.save(path, card, weights)

        found.append(written("a.safetensors", write))
    return found


class Difference(nn.Module):
    """Stands for a disparity network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.arange(5.0))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return (left - right).mean(dim=1, keepdim=True).clamp(min=0.0) + self.shift


def pt2() -> list[bytes]:
    program = torch.export.export(Difference(), (torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5)))
    program.example_inputs = None
    extra = {"autodisp.json": json.dumps(DESCRIPTION)}
    return [written("a.pt2", lambda path: torch.export.save(program, path, extra_files=extra))]


def onnx() -> list[bytes]:
    from onnx import TensorProto, helper

    real, shape = TensorProto.FLOAT, [1, 3, 4, 5]
    graph = helper.make_graph(
        [
            helper.make_node("Sub", ["left", "right"], ["difference"]),
            helper.make_node("ReduceMean", ["difference", "axes"], ["mean"]),
            helper.make_node("Add", ["mean", "shift"], ["disparity"]),
        ],
        "difference",
        [helper.make_tensor_value_info(name, real, shape) for name in ("left", "right")],
        [helper.make_tensor_value_info("disparity", real, [1, 1, 4, 5])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("shift", real, [5], [0.0, 2.0, 4.0, 6.0, 8.0]),
        ],
    )
    program = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(program, {"autodisp": json.dumps(DESCRIPTION)})
    return [program.SerializeToString()]


def metrics() -> list[bytes]:
    def write(path: Path) -> None:
        lines = JsonLines(path)
        for epoch in range(3):
            lines.append({"epoch": epoch, "loss": float("nan"), "figures": {"epe": [1.5, float("inf")]}})

    return [written("metrics.jsonl", write)]


def exclusions() -> list[bytes]:
    return [b"# damaged\na/0001\n\na/0002  # too dark\n", b"a/0001\r\na/0002\r\n"]


OVERRIDES = """\
search seed=3 search.epochs=2 search.batch_size=4
search task=classification dataset=cifar10 dataset.root=/data space=s3 search.drop_path=0.2
search regularization=ada regularization.factor=1.3 optimizer.weights.weight_decay=3e-4
search dataset=shapes3d dataset.crop=[96,128] dataset.limit=8 network.channels=4 run.folder=x
search optimizer.alphas.betas=[0.5,0.999] optimizer.alphas.order=exact experiment=smoke
search dataset=flyingthings3d dataset.subsets=[A,B] dataset.half_resolution=true plan=true
train genotype=autodispnet seed=${run.workers}
evaluate checkpoint=best.safetensors ranges=[10,40] batch_size=2 run.device=cpu
predict left=a.png right=b.png outputs=[pfm,depth] focal=100 baseline=0.2 centre=[1.0,2.0]
export checkpoint=best.safetensors
"""


def overrides() -> list[bytes]:
    return [line.encode() for line in OVERRIDES.splitlines()]


def yaml() -> list[bytes]:
    return [
        b"# @package _global_\ndefaults:\n  - override /space: s2\n  - override /task: classification\n"
        b"  - override /dataset: cifar10\n  - override /network: classification\nsearch:\n  epochs: 2\n"
        b"  batch_size: 4\n",
        b"# @package _global_\nseed: 7\ndataset:\n  crop: [96, 128]\n  limit: 8\noptimizer:\n  weights:\n"
        b"    learning_rate: 0.1\n    clip: &c 5.0\n  alphas:\n    betas: [0.5, 0.9]\nnetwork:\n  channels: ${seed}\n",
    ]


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its right checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def huge_png(width: int, height: int, *, body: bytes = bytes(64), depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that claims a size, whatever it holds."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(body)) + png_chunk(b"IEND", b"")
