"""Readers of flow: files written here by other code, pairs and vectors compared with torchvision's readers."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as reference

from autodisp.datasets.flow_files import FlyingThings3DFlow, SintelFlow, outside, read_flo, write_flo, write_flow_png
from autodisp.datasets.layout import DifferentSizes
from autodisp.errors import InputError
from tests.image_files import put, put_pfm, read_kitti_flow, rgb

HEIGHT, WIDTH = 4, 6
SCENES = ("0000", "0001")


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def view(seed: int) -> np.ndarray:
    return random(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def vectors(seed: int) -> np.ndarray:
    return random(seed).normal(0, 5, (HEIGHT, WIDTH, 2)).astype(np.float32)


def mask(seed: int) -> np.ndarray:
    return (random(seed).random((HEIGHT, WIDTH)) < 0.3).astype(np.uint8) * 255


def put_flo(path: Path, flow: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    body = b"".join(struct.pack("<ff", *vector) for row in flow for vector in row)
    path.write_bytes(b"PIEH" + struct.pack("<ii", flow.shape[1], flow.shape[0]) + body)


def put_colour_pfm(path: Path, flow: np.ndarray) -> None:
    put_pfm(path, np.dstack([flow, np.zeros(flow.shape[:2])]))


def write_flyingthings3d(root: Path) -> Path:
    for scene in SCENES:
        for number in (6, 7, 8):
            seed = 10 * int(scene) + number
            place = f"A/{scene}"
            put(root / f"frames_cleanpass/TRAIN/{place}/left/{number:04d}.png", view(seed))
            name = f"OpticalFlowIntoFuture_{number:04d}_L.pfm"
            put_colour_pfm(root / f"optical_flow/TRAIN/{place}/into_future/left/{name}", vectors(seed))
    return root


def write_sintel(root: Path) -> Path:
    for scene in SCENES:
        for number in (1, 2, 3):
            seed, name = 10 * int(scene) + number, f"alley_{scene}/frame_{number:04d}"
            put(root / f"training/final/{name}.png", view(seed))
            put(root / f"training/invalid/{name}.png", mask(seed + 100))
            if number < 3:
                put(root / f"training/occlusions/{name}.png", mask(seed + 200))
                put_flo(root / f"training/flow/{name}.flo", vectors(seed))
    return root


def same_as_torchvision(data: FlyingThings3DFlow | SintelFlow, other: reference.FlyingThings3D) -> None:
    """Compares all pairs, whose order differs."""
    found = {sample.first.numpy().tobytes(): sample for sample in map(data.__getitem__, range(len(data)))}
    assert len(found) == len(data) == len(other) == 4
    for entry in map(other.__getitem__, range(len(other))):
        sample = found[rgb(np.asarray(entry[0])).numpy().tobytes()]
        assert torch.equal(sample.second, rgb(np.asarray(entry[1])))
        assert torch.equal(sample.flow[:, sample.valid[0]], torch.tensor(entry[2])[:, sample.valid[0]])
        assert not sample.flow[:, ~sample.valid[0]].any()


def test_flyingthings3d(tmp_path: Path) -> None:
    root = write_flyingthings3d(tmp_path / "FlyingThings3D")
    data = FlyingThings3DFlow(str(root))
    same_as_torchvision(data, reference.FlyingThings3D(str(tmp_path), split="train"))
    assert data.names == [f"TRAIN/A/{scene}/{stem}" for scene in SCENES for stem in ("0006", "0007")]
    assert data.groups == ["TRAIN/A/0000"] * 2 + ["TRAIN/A/0001"] * 2
    assert not data.has_occlusion
    assert data[0].valid.all()
    assert not data[0].unmatched.any()
    flow = vectors(7)
    flow[1, 2, 1] = np.nan
    put_colour_pfm(root / "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0007_L.pfm", flow)
    assert data[1].valid.sum() == HEIGHT * WIDTH - 1
    assert data[1].flow[:, 1, 2].tolist() == [0, 0]
    listed = tmp_path / "excluded.txt"
    listed.write_text("TRAIN/A/0000/0006\nTEST/B/0000/0006\n")
    assert len(FlyingThings3DFlow(str(root), exclude=listed)) == 3


def test_sintel(tmp_path: Path) -> None:
    root = write_sintel(tmp_path / "Sintel")
    data = SintelFlow(str(root), render_pass="final")
    same_as_torchvision(data, reference.Sintel(str(tmp_path), split="train", pass_name="final"))
    assert data.names[:3] == ["alley_0000/frame_0001", "alley_0000/frame_0002", "alley_0001/frame_0001"]
    assert data.groups[:3] == ["alley_0000", "alley_0000", "alley_0001"]
    assert data.has_occlusion
    sample = data[3]
    assert torch.equal(sample.valid[0], torch.tensor(mask(112) == 0))
    assert torch.equal(sample.unmatched[0], torch.tensor(mask(212) > 0))


@pytest.mark.parametrize("absent", [("occlusions",), ("invalid",), ("occlusions", "invalid")])
def test_sintel_without_masks(tmp_path: Path, absent: tuple[str, ...]) -> None:
    root = write_sintel(tmp_path)
    for name in absent:
        (root / "training" / name).rename(tmp_path / name)
    data = SintelFlow(str(root), render_pass="final")
    assert data.has_occlusion is ("occlusions" not in absent)
    sample, valid, unmatched = data[3], torch.tensor(mask(112) == 0), torch.tensor(mask(212) > 0)
    assert torch.equal(sample.valid[0], valid | ("invalid" in absent))
    assert torch.equal(sample.unmatched[0], unmatched & ("occlusions" not in absent))


def test_flyingthings3d_as_webp(tmp_path: Path) -> None:
    root = write_flyingthings3d(tmp_path)
    wanted = FlyingThings3DFlow(str(root))[3]
    for path in sorted((root / "frames_cleanpass").rglob("*.png")):
        place = path.relative_to(root / "frames_cleanpass").with_suffix(".webp")
        put(root / "frames_cleanpass_webp" / place, np.asarray(Image.open(path)))
        path.unlink()
    (root / "frames_cleanpass").rename(root / "other")
    assert all(torch.equal(*planes) for planes in zip(FlyingThings3DFlow(str(root))[3], wanted, strict=True))


def test_missing_files_are_named(tmp_path: Path) -> None:
    things, sintel = write_flyingthings3d(tmp_path / "a"), write_sintel(tmp_path / "b")
    (things / "frames_cleanpass/TRAIN/A/0000/left/0007.png").unlink()
    line = (
        r"2 of 4 frames are incomplete: the image after frames_cleanpass/TRAIN/A/0000/left/0006.png missing while .*; "
    )
    with pytest.raises(InputError, match=line + r"frames_cleanpass/TRAIN/A/0000/left/0007.png and the image after"):
        FlyingThings3DFlow(str(things))
    assert list(FlyingThings3DFlow(str(things), strict=False).incomplete) == ["TRAIN/A/0000/0006", "TRAIN/A/0000/0007"]
    (sintel / "training/flow/alley_0000/frame_0002.flo").unlink()
    with pytest.raises(InputError, match=r"training/flow/alley_0000/frame_0002\.flo missing while"):
        SintelFlow(str(sintel), render_pass="final")


@pytest.mark.parametrize("reader", [FlyingThings3DFlow, SintelFlow])
def test_wrong_roots(tmp_path: Path, reader: Callable[..., object]) -> None:
    with pytest.raises(InputError, match=r"dataset\.root is not set.*task=flow dataset=shapes3d_flow needs no data"):
        reader(None)
    with pytest.raises(InputError, match=r"which it does not hold"):
        reader(str(tmp_path))
    (tmp_path / "training/clean").mkdir(parents=True)
    (tmp_path / "frames_cleanpass/TRAIN").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no two consecutive frames"):
        reader(str(tmp_path))


def test_files_of_another_size_or_kind_are_refused(tmp_path: Path) -> None:
    things, sintel = write_flyingthings3d(tmp_path / "a"), write_sintel(tmp_path / "b")
    put_flo(sintel / "training/flow/alley_0000/frame_0001.flo", vectors(1)[:, :3])
    with pytest.raises(DifferentSizes, match=r"frame_0001\.flo: is 3x4"):
        SintelFlow(str(sintel), render_pass="final")[0]
    grey = things / "optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm"
    grey.write_bytes(b"Pf\n1 1\n-1\n" + struct.pack("<f", 1))
    with pytest.raises(InputError, match="is a grey PFM"):
        FlyingThings3DFlow(str(things))[0]


@pytest.mark.parametrize(
    ("damaged", "line"),
    [
        (lambda data: data[:-1], "the header declares 6x4 vectors, but 191 bytes"),
        (lambda data: data[:9], "is no .flo file"),
        (lambda data: b"PFFF" + data[4:], "begins with b'PFFF'"),
        (lambda data: data[:4] + struct.pack("<ii", -6, -4) + data[12:], "declares -6x-4"),
        (lambda data: data[:4] + struct.pack("<ii", 2**30, 2**30) + data[12:], "damaged"),
    ],
)
def test_damaged_flo_files_are_refused(tmp_path: Path, damaged: Callable[[bytes], bytes], line: str) -> None:
    path = tmp_path / "a.flo"
    put_flo(path, vectors(0))
    assert np.array_equal(read_flo(path), vectors(0))
    path.write_bytes(damaged(path.read_bytes()))
    with pytest.raises(InputError, match=line):
        read_flo(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_flo(tmp_path / "none.flo")


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"gr\xfcn.flo")
    write_flo(path, vectors(0))
    assert np.array_equal(read_flo(path), vectors(0))


def test_written_files(tmp_path: Path) -> None:
    flow = vectors(0)
    flow[0, 0], flow[0, 1], flow[0, 2] = (np.nan, 1), (600, 0), (-512, 511.98)
    write_flo(tmp_path / "a.flo", flow)
    whole = (tmp_path / "a.flo").read_bytes()
    assert whole[:12] == b"PIEH" + struct.pack("<ii", WIDTH, HEIGHT)
    stored = np.frombuffer(whole[12:], "<f4").reshape(flow.shape)
    assert (stored[0, 0] > 1e9).all()
    assert np.array_equal(stored.reshape(-1, 2)[1:], flow.reshape(-1, 2)[1:])
    assert write_flow_png(tmp_path / "a.png", flow) == 1
    stored, known = read_kitti_flow(tmp_path / "a.png")
    assert known.sum() == HEIGHT * WIDTH - 2
    assert not known[0, :2].any()
    assert np.abs(stored - flow.transpose(2, 0, 1))[:, known].max() <= 1 / 128 + 1e-6


def test_outside() -> None:
    flow = torch.zeros(2, 2, 3)
    flow[:, 0, 0], flow[:, 1, 2], flow[:, 0, 1] = torch.tensor([[-0.1, 0], [0, 0.1], [1, 1.0]])
    assert outside(flow).tolist() == [[[True, False, False], [False, False, True]]]
