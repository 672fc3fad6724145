"""What a look at one sample finds, and which samples show the same."""

from collections.abc import Sequence
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from autodisp.datasets.checking import (
    BOTH_HALVES,
    BOTH_SPLITS,
    ENLARGED,
    MISMATCH,
    NEGATIVE,
    NO_TRUTH,
    NO_VECTOR,
    NON_FINITE,
    SIZES,
    SMALL,
    STRAY,
    TWINS,
    UNREADABLE,
    Inspection,
    Inspector,
    content,
    find_shared,
    find_twins,
)
from autodisp.datasets.flow_files import SintelFlow
from autodisp.datasets.flyingthings3d import FlyingThings3D
from autodisp.datasets.middlebury import Middlebury2014
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.sintel import Sintel
from tests.image_files import put, put_pfm
from tests.test_flow_files import put_flo, write_sintel

HEIGHT, WIDTH = 40, 56
DRAW = np.random.default_rng(0)


def picture(path: Path, pixels: np.ndarray | None = None) -> Path:
    return put(path, DRAW.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) if pixels is None else pixels)


def disparity(**pixels: float) -> np.ndarray:
    """Seven everywhere, but for the first pixels."""
    plane = np.full((HEIGHT, WIDTH), 7, np.float32)
    plane.flat[: len(pixels)] = list(pixels.values())
    return plane


def frame(root: Path, truth: np.ndarray, *, stem: str = "0006") -> Path:
    for side in ("left", "right"):
        picture(root / f"frames_cleanpass/TRAIN/A/0000/{side}/{stem}.png")
    return put_pfm(root / f"disparity/TRAIN/A/0000/left/{stem}.pfm", truth)


def kinds(inspector: Inspector, index: int = 0) -> list[str]:
    """Of problems, then of notes."""
    return [found.kind for found in inspector(index).found]


@pytest.mark.parametrize(
    ("truth", "problems", "notes"),
    [
        (disparity(), [], []),
        (disparity(a=0), [], []),
        (disparity(a=np.nan), [], [NON_FINITE]),
        (disparity(a=np.inf), [], [NON_FINITE]),
        (disparity(a=-1, b=-np.inf), [], [NON_FINITE, NEGATIVE]),
        (np.full((HEIGHT, WIDTH), np.nan), [NO_TRUTH], [NON_FINITE]),
        (np.full((HEIGHT, WIDTH), -2), [NO_TRUTH], [NEGATIVE]),
        (np.full((HEIGHT, WIDTH + 1), 3), [SIZES], []),
        (np.full((HEIGHT + 1, WIDTH), np.nan), [SIZES], []),
        (disparity(a=WIDTH), [], []),
        (disparity(a=WIDTH + 1), [], [STRAY]),
        (256 * disparity(), [MISMATCH], []),
    ],
)
def test_disparities_of_flyingthings3d(
    tmp_path: Path, truth: np.ndarray, problems: list[str], notes: list[str]
) -> None:
    path = frame(tmp_path, truth)
    inspection = Inspector(FlyingThings3D(tmp_path))(0)
    found = inspection.found
    assert [problem.kind for problem in found if not problem.is_note] == problems
    assert [note.kind for note in found if note.is_note] == notes
    assert {problem.file for problem in found} <= {str(path)}
    assert {problem.sample for problem in found} <= {"TRAIN/A/0000/0006"}
    says = {note.says for note in found if note.kind == NEGATIVE}
    assert says <= {f"{count} are negative: masked" for count in ("1 pixel(s), 0.04%,", "2240 pixel(s), 100.00%,")}


@pytest.mark.parametrize(("valid", "enough"), [(2, False), (3, True)])
def test_how_much_ground_truth_is_enough(tmp_path: Path, valid: int, enough: bool) -> None:
    truth = np.full((HEIGHT, WIDTH), np.nan)  # a thousandth of 40x56 pixels is 2.24
    truth.flat[:valid] = 7
    frame(tmp_path, truth)
    assert kinds(Inspector(FlyingThings3D(tmp_path))) == ([] if enough else [NO_TRUTH]) + [NON_FINITE]


def test_the_subset_release_stores_its_disparities_negative(tmp_path: Path) -> None:
    for stem, truth in (("0000000", -disparity()), ("0000001", -disparity(a=-2)), ("0000002", -disparity(a=np.nan))):
        for side in ("left", "right"):
            picture(tmp_path / f"train/image_clean/{side}/{stem}.png")
        put_pfm(tmp_path / f"train/disparity/left/{stem}.pfm", truth)
    inspector = Inspector(FlyingThings3D(tmp_path))
    assert kinds(inspector, 0) == []
    # One positive pixel: the frame is read as stored, so that all others are negative.
    assert kinds(inspector, 1) == [NO_TRUTH, NEGATIVE]
    assert kinds(inspector, 2) == [NON_FINITE]


@pytest.mark.parametrize(
    ("truth", "found"),
    [
        (disparity(a=np.inf), []),
        (disparity(a=np.nan), [NON_FINITE]),
        (disparity(a=-np.inf, b=-1), [NON_FINITE, NEGATIVE]),
        (np.full((HEIGHT, WIDTH), np.inf), [NO_TRUTH]),
    ],
)
def test_infinity_is_unknown_to_middlebury(tmp_path: Path, truth: np.ndarray, found: list[str]) -> None:
    for name in ("im0", "im1"):
        picture(tmp_path / f"Piano/{name}.png")
    put_pfm(tmp_path / "Piano/disp0.pfm", truth)
    assert kinds(Inspector(Middlebury2014(tmp_path))) == found


@pytest.mark.parametrize("part", ["clean_left", "clean_right", "disparities", "occlusions", "outofframe"])
@pytest.mark.parametrize("damage", ["cut", "larger"])
def test_the_file_at_fault_is_named(tmp_path: Path, part: str, damage: str) -> None:
    for top in ("clean_left", "clean_right", "disparities", "occlusions", "outofframe"):
        picture(tmp_path / f"training/{top}/alley_1/frame_0001.png")
    path = tmp_path / f"training/{part}/alley_1/frame_0001.png"
    if damage == "larger":
        picture(path, DRAW.integers(0, 256, (HEIGHT, WIDTH + 2, 3), dtype=np.uint8))
    else:
        path.write_bytes(path.read_bytes()[:100])
    [problem] = Inspector(Sintel(tmp_path))(0).found
    assert (problem.kind, problem.sample) == (SIZES if damage == "larger" else UNREADABLE, "alley_1/frame_0001")
    # Of two sizes neither is the right one, but a partner of the left view is named rather than it.
    at_fault = part if part != "clean_left" or damage != "larger" else "clean_right"
    assert problem.file == str(tmp_path / f"training/{at_fault}/alley_1/frame_0001.png")
    assert "\n" not in problem.says


@pytest.mark.parametrize(
    ("crop", "halved", "small"),
    [
        (None, False, False),
        (None, True, True),
        ((HEIGHT, WIDTH), False, False),
        ((HEIGHT + 1, WIDTH), False, True),
        ((HEIGHT, WIDTH + 1), False, True),
        ((HEIGHT // 2, WIDTH // 2), True, False),
        ((HEIGHT // 2, WIDTH // 2 + 1), True, True),
    ],
)
def test_how_large_a_picture_must_be(crop: tuple[int, int] | None, halved: bool, small: bool) -> None:
    data = Shapes3D(length=1, seed=0, height=HEIGHT, width=WIDTH, max_disparity=8)
    expected = [ENLARGED if crop else SMALL] if small else []
    assert kinds(Inspector(data, crop=crop, halved=halved)) == expected


class Raises:
    """A dataset whose decoder does what decoders do with damaged bytes."""

    names = ("a",)

    def __getitem__(self, index: int) -> object:
        raise MemoryError("two\nlines")


def test_flow_without_known_vectors(tmp_path: Path) -> None:
    root = write_sintel(tmp_path)
    data = SintelFlow(str(root), render_pass="final")
    inspected = Inspector(data)(0)
    assert inspected.measures is not None
    assert (inspected.measures.width, inspected.found) == (6, ())
    assert inspected.measures.largest == pytest.approx(float(data[0].flow.norm(dim=0).max()))
    path = root / "training/flow/alley_0000/frame_0001.flo"
    put_flo(path, np.full((4, 6, 2), 2e9, np.float32))
    (problem,) = Inspector(data)(0).found
    assert (problem.kind, problem.file) == (NO_VECTOR, str(path))
    assert "0.00% of the pixels have a known vector" in problem.says


def test_whatever_a_decoder_raises_is_one_line() -> None:
    [problem] = Inspector(Raises())(0).found
    assert problem == (UNREADABLE, "a", "a", "MemoryError: two lines")


def test_content_is_that_of_the_pictures_alone(tmp_path: Path) -> None:
    frame(tmp_path, disparity())
    frame(tmp_path, disparity(a=3), stem="0007")
    frame(tmp_path, disparity(), stem="0008")
    views = tmp_path / "frames_cleanpass/TRAIN/A/0000"
    for side in ("left", "right"):
        pixels = iio.imread(views / side / "0006.png")
        # Other bytes, the same picture.
        iio.imwrite(views / side / "0007.png", pixels, compress_level=0)
    iio.imwrite(views / "left/0008.png", iio.imread(views / "left/0006.png"))
    digests = [Inspector(FlyingThings3D(tmp_path))(index).digest for index in range(3)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2], "the right views differ"


def test_digests_tell_shapes_and_pictures_apart() -> None:
    zeros = torch.zeros(3, 4, 6)
    assert content(zeros) == content(torch.zeros(3, 6, 4).transpose(1, 2))
    different = [content(zeros), content(zeros.reshape(3, 6, 4)), content(zeros, zeros), content(zeros + 1)]
    assert len(set(different)) == 4


A, B = b"a", b"b"


@pytest.mark.parametrize(
    ("digests", "groups", "weights", "architecture", "flawed", "found"),
    [
        ([A, B], "xy", [0], [1], "", []),
        ([A, A], "xy", [0], [1], "", [(BOTH_HALVES, "1", "0")]),
        ([A, A], "xy", [1], [0], "", [(BOTH_HALVES, "1", "0")]),
        ([A, A], "xy", [0, 1], [], "", [(TWINS, "1", "0")]),
        ([A, A], "xx", [0, 1], [], "", []),  # one scene is never parted
        ([A, A], "xy", [0], [], "", [(TWINS, "1", "0")]),  # dataset.limit leaves 1 out
        ([A, A, A], "xyz", [1], [2], "", [(TWINS, "0", "1"), (BOTH_HALVES, "2", "1")]),
        ([A, A, A], "xxy", [0, 1], [2], "", [(BOTH_HALVES, "2", "0")]),
        ([A, A], "xy", [0], [1], "0", [(BOTH_HALVES, "0", "1")]),  # the sound one stays
        ([A, None, None, A], "wxyz", [0, 1], [2, 3], "", [(BOTH_HALVES, "3", "0")]),
        ([B, A, B, A], "wxyz", [0, 1], [2, 3], "", [(BOTH_HALVES, "2", "0"), (BOTH_HALVES, "3", "1")]),
        ([], "", [], [], "", []),
    ],
)
def test_twins(
    digests: Sequence[bytes | None],
    groups: str,
    weights: list[int],
    architecture: list[int],
    flawed: str,
    found: list[tuple[str, str, str]],
) -> None:
    samples = [Inspection(str(k), group, f"{k}.png", digest=digest)
               for k, (group, digest) in enumerate(zip(groups, digests, strict=True))]  # fmt: skip
    halves = dict.fromkeys(weights, "weight") | dict.fromkeys(architecture, "architecture")
    twins = find_twins(samples, halves, flawed)
    assert [(twin.kind, twin.sample, twin.says.split()[2]) for twin in twins] == found
    assert all(twin.file == f"{twin.sample}.png" for twin in twins)


def test_what_both_splits_show() -> None:
    train, *test = (
        Inspection(name, "", "f", digest=digest) for name, digest in (("t", A), ("0", B), ("1", A), ("2", None))
    )
    assert find_shared([train], test) == [(BOTH_SPLITS, "1", "f", "shows what t shows")]
