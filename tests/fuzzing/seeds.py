"""Good files of every format, small, made by the project's own writers or by other libraries."""

import json
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
from torch import nn

from autodisp import model_file
from autodisp.cells import genotype as genotypes
from autodisp.cells.operations import Style
from autodisp.cells.spaces import SPACES
from autodisp.checkpoints import Checkpoints
from autodisp.datasets.disparity_png import write_disparity_png
from autodisp.datasets.pfm import write_pfm
from autodisp.model_file import card_of
from autodisp.records import JsonLines
from autodisp.run_state import CONTENTS, VERSION
from autodisp.tasks.classification import ClassificationTask
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.segmentation import SegmentationTask

DEEP = np.random.default_rng(1).integers(0, 65536, (13, 17)).astype(np.uint16)
DISPARITY = DisparityTask(channels=2, stem_scale=2.0, encoder_cells=2, decoder_cells=2, max_displacement=3,
                          head="matching", max_disparity=16)  # fmt: skip
IMAGES = ClassificationTask(channels=1, layers=3, classes=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))

CLASSES = SegmentationTask(classes=3, channels=1, encoder_cells=1, decoder_cells=1)


def written(name: str, write: Callable[[Path], Any]) -> bytes:
    """Returns the bytes that a function writes to a file of that name."""
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


def disparity_png() -> list[bytes]:
    def write(path: Path) -> None:
        write_disparity_png(path, 200 * torch.rand(11, 13))

    return [written("a.png", write), cv2.imencode(".png", DEEP)[1].tobytes()]


def class_map() -> list[bytes]:
    """With a palette, with one of few colours and alpha values, and in grey."""
    grey = Image.fromarray((DEEP % 256).astype(np.uint8))
    palette = Image.fromarray((DEEP % 5).astype(np.uint8))
    palette.putpalette([7 * index % 256 for index in range(15)])
    return [
        written("a.png", grey.save),
        written("a.png", palette.save),
        written("a.png", lambda path: palette.save(path, bits=4, transparency=bytes(5))),
    ]


def cifar_records(label_limits: tuple[int, ...], count: int = 2) -> bytes:
    """Draws records of the binary layout."""
    records = np.random.default_rng(3).integers(0, 256, (count, len(label_limits) + 3072), dtype=np.uint8)
    records[:, : len(label_limits)] %= np.array(label_limits, np.uint8)
    return records.tobytes()


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
    skips = genotypes.Genotype("autodispnet", {
        kind: tuple(tuple(("skip_connect", edge.source) for edge in node[:keep])
                    for node, keep in zip(searched.nodes, searched.keep, strict=True))
        for kind, searched in SPACES["autodispnet"].cells.items()
    })  # fmt: skip
    cards = [
        card_of(DISPARITY, Style("dense", affine=True), None, None, about),
        card_of(IMAGES, Style("darts", affine=True), small, SPACES["tiny81"], about),
        card_of(CLASSES, Style("dense", affine=True), skips, SPACES["autodispnet"], about),
    ]
    for card in cards:
        weights = card.build()[1].state_dict()

        def write(path: Path, card: Any = card, weights: Any = weights) -> None:
            model_file.save(path, card, weights)

        found.append(written("a.safetensors", write))
    return found


def metrics() -> list[bytes]:
    def write(path: Path) -> None:
        lines = JsonLines(path)
        for epoch in range(3):
            lines.append({"epoch": epoch, "loss": float("nan"), "figures": {"epe": [1.5, float("inf")]}})

    return [written("metrics.jsonl", write)]


def exclusions() -> list[bytes]:
    return [b"# damaged\na/0001\n\na/0002  # too dark\n", b"a/0001\r\na/0002\r\n"]


def png_chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its right checksum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
