"""KITTI on files written here in the official layouts, 16-bit PNGs encoded by another library than the reader's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from autodisp.datasets.kitti import Kitti
from autodisp.errors import InputError
from tests.image_files import put, rgb
from tests.made_data import colours, rng

HEIGHT, WIDTH = 6, 9
FOLDERS = {
    2012: ("colored_0", "colored_1", "disp_occ", "disp_noc"),
    2015: ("image_2", "image_3", "disp_occ_0", "disp_noc_0"),
}
STEMS = ("000000_10", "000001_10", "000007_10")
YEARS = pytest.mark.parametrize("year", [2012, 2015])


def truth(stem: str) -> np.ndarray:
    """Sparse, as a laser scanner has it: about half of the pixels, up to 7 px."""
    random = rng(stem)
    levels = random.integers(1, 7 * 256, (HEIGHT, WIDTH))
    return np.where(random.random((HEIGHT, WIDTH)) < 0.5, levels, 0).astype(np.uint16)


def visible(stem: str) -> np.ndarray:
    return np.where(rng(f"noc{stem}").random((HEIGHT, WIDTH)) < 0.7, truth(stem), 0).astype(np.uint16)


def write(root: Path, year: int, stems: tuple[str, ...] = STEMS) -> Path:
    left, right, occ, noc = FOLDERS[year]
    for stem in stems:
        for folder in (left, right):
            put(root / "training" / folder / f"{stem}.png", colours(f"{folder}{stem}"))
            put(root / "training" / folder / f"{stem[:-3]}_11.png", colours("the next frame, without a truth"))
        put(root / "training" / occ / f"{stem}.png", truth(stem))
        put(root / "training" / noc / f"{stem}.png", visible(stem))
    put(root / "testing" / left / "000000_10.png", colours("test"))
    return root


@YEARS
def test_every_frame_has_its_own_parts(tmp_path: Path, year: int) -> None:
    data = Kitti(write(tmp_path, year), year=year)
    assert tuple(data.names) == tuple(data.groups) == STEMS
    assert data.has_occlusion
    assert len(data) == 3
    kinds = set()
    for stem, sample in zip(STEMS, data, strict=True):
        torch.testing.assert_close(sample.left, rgb(colours(f"{FOLDERS[year][0]}{stem}")), rtol=1e-7, atol=0)
        torch.testing.assert_close(sample.right, rgb(colours(f"{FOLDERS[year][1]}{stem}")), rtol=1e-7, atol=0)
        stored, seen = truth(stem).tolist(), visible(stem).tolist()
        for y in range(HEIGHT):
            for x in range(WIDTH):
                disparity = stored[y][x] / 256
                hidden = stored[y][x] > 0 and seen[y][x] == 0
                assert float(sample.disparity[0, y, x]) == disparity
                assert bool(sample.valid[0, y, x]) == (stored[y][x] > 0)
                assert bool(sample.out_of_frame[0, y, x]) == (hidden and x - disparity < 0)
                assert bool(sample.occluded[0, y, x]) == (hidden and x - disparity >= 0)
                kinds.add((hidden, x - disparity < 0))
        for plane in sample[2:]:
            assert plane.shape == (1, HEIGHT, WIDTH)
    assert len(kinds) == 4


def test_grey_views_of_2012_serve_where_no_coloured_ones_are(tmp_path: Path) -> None:
    write(tmp_path, 2012)
    for side in "01":
        for stem in STEMS:
            put(tmp_path / "training" / f"image_{side}" / f"{stem}.png", colours(f"grey{side}{stem}")[..., 0])
    assert torch.equal(Kitti(tmp_path, year=2012)[0].left, rgb(colours(f"colored_0{STEMS[0]}")))
    for side in "01":
        (tmp_path / "training" / f"colored_{side}").rename(tmp_path / f"away_{side}")
    sample = Kitti(tmp_path, year=2012)[1]
    for side, picture in zip("01", sample[:2], strict=True):
        grey = colours(f"grey{side}{STEMS[1]}")[..., :1].repeat(3, axis=2)
        torch.testing.assert_close(picture, rgb(grey), rtol=1e-7, atol=0)
    with pytest.raises(InputError, match=r"training/disp_occ, which is KITTI 2012.*kitti2012"):
        Kitti(tmp_path, year=2015)


def test_without_the_non_occluded_truth(tmp_path: Path) -> None:
    write(tmp_path, 2015)
    (tmp_path / "training/disp_noc_0").rename(tmp_path / "away")
    data = Kitti(tmp_path, year=2015)
    assert not data.has_occlusion
    assert not data[0].occluded.any()
    assert not data[0].out_of_frame.any()
    assert torch.equal(data[0].valid[0], torch.tensor(truth(STEMS[0]) > 0))


@YEARS
@pytest.mark.parametrize("part", range(4))
def test_a_missing_file_is_named_and_shifts_nothing(tmp_path: Path, year: int, part: int) -> None:
    write(tmp_path, year)
    path = tmp_path / "training" / FOLDERS[year][part] / "000001_10.png"
    path.unlink()
    with pytest.raises(InputError, match=f"1 of 3.*training/{FOLDERS[year][part]}/000001_10.png missing"):
        Kitti(tmp_path, year=year)


def test_the_other_year_is_named(tmp_path: Path) -> None:
    write(tmp_path, 2015)
    with pytest.raises(InputError, match=r"KITTI 2015.*not training/disp_occ of 2012.*kitti2015"):
        Kitti(tmp_path, year=2012)
    both = write(tmp_path, 2012, ("000000_10",))
    assert len(Kitti(both, year=2012)) == 1
    assert len(Kitti(both, year=2015)) == 3


@pytest.mark.parametrize(
    ("folder", "pixels", "says"),
    [
        ("image_3", np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8), "10x6.*9x6"),
        ("disp_occ_0", np.ones((HEIGHT + 2, WIDTH), np.uint16), "9x8.*9x6"),
        ("disp_noc_0", np.ones((HEIGHT, WIDTH - 1), np.uint16), "8x6.*9x6"),
        ("disp_occ_0", np.ones((HEIGHT, WIDTH), np.uint8), "8 bits.*16 bits"),
        ("disp_noc_0", np.ones((HEIGHT, WIDTH), np.uint8), "8 bits.*16 bits"),
    ],
)
def test_files_that_do_not_fit_are_named_when_read(tmp_path: Path, folder: str, pixels: np.ndarray, says: str) -> None:
    write(tmp_path, 2015)
    path = tmp_path / "training" / folder / "000001_10.png"
    put(path, pixels)
    data = Kitti(tmp_path, year=2015)
    assert data[0].valid.any()
    with pytest.raises(InputError, match=f"{path}.*{says}"):
        data[1]


@YEARS
def test_wrong_settings(tmp_path: Path, year: int) -> None:
    for root in (None, "", tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match=rf"dataset\.root.*training/{FOLDERS[year][0]}.*cvlibs.*shapes3d"):
            Kitti(root, year=year)
    for folder in FOLDERS[year]:
        (tmp_path / "training" / folder).mkdir(parents=True)
    put(tmp_path / "training" / FOLDERS[year][0] / "000000_11.png", colours("x"))
    with pytest.raises(InputError, match=r"no frame \*_10\.png"):
        Kitti(tmp_path, year=year)
    with pytest.raises(InputError, match=r"dataset\.year=2013.*2012, 2015"):
        Kitti(tmp_path, year=2013)  # type: ignore[arg-type]
