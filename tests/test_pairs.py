"""Pairs by naming scheme, and the traps: files that must not be paired, and what is said of them."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autodisp.errors import InputError
from autodisp.prediction.pairs import StereoPair, find_images, find_pairs, read_pair


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(files: str) -> None:
    for file in files.split():
        path = Path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(left: str, right: str | None = None, **more: str) -> tuple[set[str], list[str]]:
    """Pairs as "name: left right", problems."""
    pairs, problems = find_pairs(left, right, **more)  # type: ignore[arg-type]
    assert pairs == sorted(pairs)
    assert len({pair.name for pair in pairs}) == len(pairs)
    assert all("\n" not in problem for problem in problems)
    return {f"{pair.name}: {pair.left} {pair.right}" for pair in pairs}, problems


ONE_FOLDER = [
    # files in d; pairs; the files that a problem names first
    ("a_left.png a_right.png b_left.png", ["a_left: d/a_left.png d/a_right.png"], ["d/b_left.png"]),
    ("a_L.PNG a_R.png calib.txt notes.md", ["a_L: d/a_L.PNG d/a_R.png"], []),
    ("a_l.ppm a_r.PGM a.png thumb.png", ["a_l: d/a_l.ppm d/a_r.PGM"], []),
    ("x_l.png x_r.png X_l.png", ["x_l: d/x_l.png d/x_r.png"], ["d/X_l.png"]),
    ("s/im0.png s/im1.png s/im1E.png s/im1L.png s/mask0nd.png", ["s/im0: d/s/im0.png d/s/im1.png"], []),
    ("s/im0.png s/im1.png t/im0.png", ["s/im0: d/s/im0.png d/s/im1.png"], ["d/t/im0.png"]),
    ("im0.ppm im1.ppm im2.ppm im3.ppm im4.ppm im5.ppm im6.ppm", ["im2: d/im2.ppm d/im6.ppm"], []),
    (
        "image_2/0_10.png image_3/0_10.png image_2/0_11.png image_3/0_11.png disp_occ_0/0_10.png disp_occ_1/0_10.png",
        [
            "image_2/0_10: d/image_2/0_10.png d/image_3/0_10.png",
            "image_2/0_11: d/image_2/0_11.png d/image_3/0_11.png",
        ],
        [],
    ),
    (
        "left/0.png left/1.png left/2.png right/0.png right/2.png right/3.png",
        ["left/0: d/left/0.png d/right/0.png", "left/2: d/left/2.png d/right/2.png"],
        ["d/left/1.png", "d/right/3.png"],
    ),
    ("left_camera/im0.png left_camera/im1.png", ["left_camera/im0: d/left_camera/im0.png d/left_camera/im1.png"], []),
    (
        "A/left/1.png A/right/1.png B/im0.png B/im1.png C/imgL.png C/imgR.png",
        [
            "A/left/1: d/A/left/1.png d/A/right/1.png",
            "B/im0: d/B/im0.png d/B/im1.png",
            "C/imgL: d/C/imgL.png d/C/imgR.png",
        ],
        [],
    ),
    ("a_0.png a_1.png b_0.png", ["a_0: d/a_0.png d/a_1.png"], ["d/b_0.png"]),
    ("a_0.png a_1.png b_0.png b_1.png b_2.png", ["a_0: d/a_0.png d/a_1.png"], []),
    # two candidates
    ("a_left.png a_left.jpg a_right.png b_l.png b_r.png", ["b_l: d/b_l.png d/b_r.png"], ["d/a_right.png"]),
    (
        "left/left_1.png left/right_1.png right/left_1.png right/right_1.png left/2.png right/2.png",
        ["left/2: d/left/2.png d/right/2.png"],
        ["d/left/left_1.png", "d/left/right_1.png", "d/right/left_1.png", "d/right/right_1.png"],
    ),
    # maps beside the views, and alone
    ("left.png right.png left_disp.png right_disp.png", ["left: d/left.png d/right.png"], []),
    ("a_left.jpg a_right.jpg a_left.disp.png a_right.disp.png", ["a_left: d/a_left.jpg d/a_right.jpg"], []),
    (
        "rgb/Camera_0/0.jpg rgb/Camera_1/0.jpg depth/Camera_0/0.png depth/Camera_1/0.png",
        ["rgb/Camera_0/0: d/rgb/Camera_0/0.jpg d/rgb/Camera_1/0.jpg"],
        [],
    ),
    ("depth_l.png depth_r.png a.png", ["depth_l: d/depth_l.png d/depth_r.png"], []),
    ("dispersed_l.png dispersed_r.png", ["dispersed_l: d/dispersed_l.png d/dispersed_r.png"], []),
    # what is hidden or no picture
    (".a_left.png a_left.png a_right.png .git/b_left.png .git/b_right.png", ["a_left: d/a_left.png d/a_right.png"], []),
    ("a.b_left.tif a.b_right.TIFF a.c_left.bmp", ["a.b_left: d/a.b_left.tif d/a.b_right.TIFF"], ["d/a.c_left.bmp"]),
]  # fmt: skip


@pytest.mark.parametrize(("files", "pairs", "named"), ONE_FOLDER, ids=[files for files, _, _ in ONE_FOLDER])
def test_one_folder(files: str, pairs: list[str], named: list[str]) -> None:
    make(" ".join(f"d/{file}" for file in files.split()))
    names, problems = found("d")
    assert names == set(pairs)
    assert [problem.split(": ")[0] for problem in problems] == named
    assert found("d", "d") == found("d/", "./d") == (names, problems)


def test_a_problem_says_what_is_missing_or_too_many() -> None:
    make("d/a_Left.png d/b_left.png d/b_right.png d/c_left.jpg d/c_left.png d/c_right.png")
    missing, ambiguous = found("d")[1]
    assert missing == "d/a_Left.png: has no partner (looked for a name that differs by left/right)"
    assert ambiguous.startswith("d/c_right.png: has 2 possible partners, d/c_left.jpg and d/c_left.png;")


TWO_FOLDERS = [
    # files; pairs; the files that a problem names first
    ("l/1.png l/2.png r/2.png r/3.png", ["2: l/2.png r/2.png"], ["l/1.png", "r/3.png"]),
    ("l/a/1.PNG r/a/1.jpg l/b/1.png r/b/1.png", ["a/1: l/a/1.PNG r/a/1.jpg", "b/1: l/b/1.png r/b/1.png"], []),
    ("l/a.png l/a.jpg r/a.png l/b.png r/b.png", ["b: l/b.png r/b.png"], ["r/a.png"]),
    ("l/A.png r/a.png l/b.png r/b.png", ["b: l/b.png r/b.png"], ["l/A.png", "r/a.png"]),
    ("l/left01.jpg l/left02.jpg r/right02.jpg r/right01.jpg",
     ["left01: l/left01.jpg r/right01.jpg", "left02: l/left02.jpg r/right02.jpg"], []),
    ("l/a_L.png r/a_R.png r/b_R.png", ["a_L: l/a_L.png r/a_R.png"], ["r/b_R.png"]),
    ("l/1_0.png r/1_1.png l/2_0.png r/2_1.png", ["1_0: l/1_0.png r/1_1.png", "2_0: l/2_0.png r/2_1.png"], []),
    # numbers of frames where some have a partner
    ("l/0.png l/5.png r/1.png r/5.png", ["5: l/5.png r/5.png"], ["l/0.png", "r/1.png"]),
]  # fmt: skip


@pytest.mark.parametrize(("files", "pairs", "named"), TWO_FOLDERS, ids=[files for files, _, _ in TWO_FOLDERS])
def test_two_folders(files: str, pairs: list[str], named: list[str]) -> None:
    make(files)
    names, problems = found("l", "r")
    assert names == set(pairs)
    assert [problem.split(": ")[0] for problem in problems] == named


def test_one_folder_within_the_other() -> None:
    make("d/1.png d/right/1.png")
    assert found("d", "d/right") == ({"1: d/1.png d/right/1.png"}, [])
    assert found("d/right", "d") == ({"1: d/right/1.png d/1.png"}, [])


PATTERNS = [
    # left, right, files, pairs, the files that a problem names first
    ("d/*_L.png", "d/*_R.png", "d/1_L.png d/1_R.png d/2_L.png", ["1_L: d/1_L.png d/1_R.png"], ["d/2_L.png"]),
    ("**/a/*.png", "**/b/*.png", "x/a/1.png x/b/1.png y/a/1.png y/b/1.png a/1.png",
     ["x/a/1: x/a/1.png x/b/1.png", "y/a/1: y/a/1.png y/b/1.png"], ["a/1.png"]),
    ("*/im0.png", "*/im1.png", "s/im0.png s/im1.png t/im1.png u/im0.png",
     ["s/im0: s/im0.png s/im1.png"], ["t/im1.png", "u/im0.png"]),
    ("a/*.png", "b/*.jpg", "a/1.png b/1.jpg a/2.png", ["1: a/1.png b/1.jpg"], ["a/2.png"]),
    ("a/?[0-9].png", "b/?[0-9].png", "a/x1.png b/x1.png b/x2.png a/xx.png", ["x1: a/x1.png b/x1.png"], ["b/x2.png"]),
    ("a/[!x]*.png", "b/**/?[0-9].png", "a/y1.png a/x2.png b/y1.png", ["y1: a/y1.png b/y1.png"], []),
    ("a/*.*", "b/*.*", "a/1.png a/1.jpg b/1.png b/1.jpg a/1.txt",
     ["1.png: a/1.png b/1.png", "1.jpg: a/1.jpg b/1.jpg"], []),
    ("a/**", "b/**", "a/x/1.png b/x/1.png a/n.txt", ["x/1: a/x/1.png b/x/1.png"], []),
    ("a/*/1.png", "b/*", "a/x/1.png a/y/1.png b/1.png b/x b/2.png", None, ["b/1.png: has 2", "b/2.png"]),
]  # fmt: skip


@pytest.mark.parametrize(("left", "right", "files", "pairs", "named"), PATTERNS, ids=[row[0] for row in PATTERNS])
def test_patterns(left: str, right: str, files: str, pairs: list[str] | None, named: list[str]) -> None:
    make(files)
    if pairs is None:
        with pytest.raises(InputError) as caught:
            find_pairs(left, right)
        assert all(name in str(caught.value) for name in named)
        return
    names, problems = found(left, right)
    assert names == set(pairs)
    assert [problem.split(": ")[0] for problem in problems] == named


def test_two_files_of_any_suffix() -> None:
    make("x/a.png y/b.exr [1].png")
    assert found("x/a.png", "y/b.exr") == ({"a: x/a.png y/b.exr"}, [])
    assert found("[1].png", "x/a.png") == ({"[1]: [1].png x/a.png"}, []), "a file's name is no pattern"
    assert find_pairs(Path("x/a.png"), Path("y/b.exr")).pairs == [
        StereoPair("a", Path("x/a.png"), Path("y/b.exr")),
    ]


def test_home_is_understood(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    make("a_l.png a_r.png")
    for left, right in (("~/a_l.png", "~/a_r.png"), ("~", None), ("~/*_l.png", "~/*_r.png")):
        assert len(find_pairs(left, right).pairs) == 1


def test_the_folder_of_predictions_is_left_out(here: Path) -> None:
    make("d/a_left.png d/a_right.png d/out/a_left-colour.png d/out/b_left.png d/out/b_right.png")
    expected = ({"a_left: d/a_left.png d/a_right.png"}, [])
    assert found("d", skip="d/out") == expected
    assert found("d", skip=str(here / "d/out")) == expected
    assert found("d/**/*_left.png", "d/**/*_right.png", skip="d/out") == expected
    assert found("d/out", skip="d")[0] == {"b_left: d/out/b_left.png d/out/b_right.png"}, "named outright"
    assert found("d/out/*_left.png", "d/out/*_right.png", skip="d/out")[0]


@pytest.mark.parametrize(("left", "right"), [("d", None), ("d/left", "d/right"), ("d/left/*.png", "d/right/*.png")])
def test_predictions_beside_their_views_are_left_out(left: str, right: str | None) -> None:
    make("d/left/1.png d/left/1-colour.png d/left/1-disparity.png d/left/1-depth.png d/right/1.png d/left/1-points.ply")
    pairs, problems = find_pairs(left, right)
    assert [(str(pair.left), str(pair.right)) for pair in pairs] == [("d/left/1.png", "d/right/1.png")]
    assert not problems
    make("d/left/2-colour.png d/right/2-colour.png")
    assert len(find_pairs(left, right).pairs) == 2, "it belongs to no view that is there"


def test_predictions_of_an_earlier_folder_are_left_out() -> None:
    make("d/left/1.png d/right/1.png d/first/left/1-colour.png d/first/left/1-disparity.png d/first/1-confidence.png")
    assert found("d", skip="d/second") == ({"left/1: d/left/1.png d/right/1.png"}, [])
    make("f/1.png f/2.png f/2.jpg f/first/1-flow.png f/first/2.png-colour.png f/second/first/1-flow-overlay.png")
    images, problems = find_images("f", skip="f/third")
    assert [str(image.path) for image in images] == ["f/1.png", "f/2.jpg", "f/2.png"]
    assert not problems


def test_links_are_followed_but_not_in_circles() -> None:
    make("data/a_left.png data/a_right.png d/b_left.png d/b_right.png")
    os.symlink("../data", "d/linked")
    os.symlink("..", "data/up")
    names, problems = found("d")
    assert names == {"b_left: d/b_left.png d/b_right.png", "linked/a_left: d/linked/a_left.png d/linked/a_right.png"}
    assert not problems


@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        ("none.png", "a.png", "none.png: there is no such file"),
        ("a.png", None, "right is not set"),
        ("a.png", "e", r"left=a.png is a file but right=e is not"),
        ("a.png", "e/../a.png", "the same file"),
        ("*.png", "?.png", "both match a.png"),
        ("e/*.png", "*.png", r"e/\*.png: matches no image"),
        ("e", None, r"e: no image \(.png, .*\) is there"),
        ("n", None, r"n: no two of 2 images make a pair. .*left/right"),
        ("frames", None, r"no two of 3 images"),
        (
            "l",
            "r",
            r"l and r: no two of 9 images .*; l/1.png: has no right view .*looked for the same name in r",
        ),
        ("h", None, r"h/a_left.png: has no partner \(looked for a name that differs by left/right\)"),
        ("l/*.png", "r/*.png", r"make a pair; l/1.png.*; and 6 more"),
        ("", "a.png", "empty"),
    ],
)
def test_what_makes_no_pair(left: str, right: str | None, words: str) -> None:
    make("a.png e/.keep f/x.txt n/aleftt.txt n/a.png n/b.png h/a_left.png r/9.png")
    make(" ".join(f"l/{index}.png" for index in range(1, 9)))
    make("frames/f0.png frames/f1.png frames/f2.png")
    with pytest.raises(InputError, match=words):
        find_pairs(left, right)


def views(folder: Path, left: np.ndarray, right: np.ndarray) -> StereoPair:
    Image.fromarray(left).save(folder / "l.png")
    Image.fromarray(right).save(folder / "r.png")
    return StereoPair("x", folder / "l.png", folder / "r.png")


def test_sizes_that_differ_are_named(here: Path) -> None:
    pair = views(here, np.zeros((5, 7), np.uint8), np.zeros((5, 8), np.uint8))
    with pytest.raises(InputError, match=r"l\.png is 7x5 but .*r\.png is 8x5"):
        read_pair(pair)
    pair.right.unlink()
    with pytest.raises(InputError, match=r"r\.png: cannot be read"):
        read_pair(pair)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "png", "tiff"])
def test_an_orientation_in_the_metadata_is_not_applied(here: Path, suffix: str) -> None:
    picture = Image.fromarray(np.repeat(np.arange(0, 256, 4, dtype=np.uint8)[None], 32, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    for name in ("l", "r"):
        picture.save(here / f"{name}.{suffix}", exif=exif)
    left, right = read_pair(StereoPair("x", here / f"l.{suffix}", here / f"r.{suffix}"))
    assert left.shape == right.shape == (3, 32, 64)
    assert (left[0, :, -1] > 0.9).all()
