import numpy as np
import pytest
import torch
from kornia import enhance

from autodisp.datasets.samples import StereoSample
from autodisp.datasets.shapes3d import Shapes3D
from autodisp.datasets.stereo_transforms import CenterCrop, StereoAugmentation, matched_within, recolour, reframe
from autodisp.errors import InputError
from tests.image_files import photometric_error
from tests.programs import differences, same

SHAPES = Shapes3D(length=6, seed=0, height=96, width=192)


def cut(sample: StereoSample, y: int, x: int, height: int, width: int) -> StereoSample:
    """A crop by hand, the frame's border included."""
    planes = [plane[:, y : y + height, x : x + width] for plane in sample]
    gone = torch.arange(width) - planes[2] < 0
    return StereoSample(*planes[:4], planes[4] & ~gone, gone)


def ramps(height: int, width: int) -> StereoSample:
    """Red is the column and green the row, over 256; the disparity is a slanted plane."""
    y, x = torch.meshgrid(torch.arange(height) / 256, torch.arange(width) / 256, indexing="ij")
    view = torch.stack([x, y, 0.5 + 0 * x])
    disparity = (3.3 + 10 * x + 25 * y)[None]
    nothing = torch.zeros(1, height, width, dtype=torch.bool)
    gone = torch.arange(width) - disparity < 0
    return StereoSample(view, view.clone(), disparity, ~nothing, nothing, gone)


@pytest.mark.parametrize("crop", [None, (96, 192)])
def test_scale_zero_leaves_a_sample_of_the_right_size_unchanged(crop: tuple[int, int] | None) -> None:
    sample = SHAPES[0]
    assert differences(StereoAugmentation(scale=0, crop=crop)(sample, np.random.default_rng(0)), sample) == []
    assert differences(CenterCrop(crop=crop)(sample), sample) == []


def test_scale_zero_crops_the_same_window_everywhere() -> None:
    sample = SHAPES[1]
    windows = [cut(sample, y, x, 90, 181) for y in range(7) for x in range(12)]
    seen = set()
    for seed in range(60):
        after = StereoAugmentation(scale=0, crop=(90, 181))(sample, np.random.default_rng(seed))
        matches = [k for k, window in enumerate(windows) if torch.equal(window.left, after.left)]
        assert len(matches) == 1
        assert differences(after, windows[matches[0]]) == []
        seen.add(matches[0])
    assert len(seen) > 30


@pytest.mark.parametrize("size", [(24, 36), (35, 51), (15, 54), (60, 25), (1, 1)])
def test_right_x_is_left_x_minus_d_after_resizing(size: tuple[int, int]) -> None:
    """Ramps survive interpolation exactly, so the views tell the source column of any position."""
    sample = ramps(30, 46)
    top, left, window = 4, 7, (24, 36)
    after = reframe(sample, corner=(top, left), window=window, size=size)
    fy, fx = size[0] / window[0], size[1] / window[1]
    for y in range(size[0]):
        for x in range(size[1]):
            source_y, source_x = (y + 0.5) / fy - 0.5 + top, (x + 0.5) / fx - 0.5 + left
            inside = 1 <= (x + 0.5) / fx <= window[1] - 1 and 1 <= (y + 0.5) / fy <= window[0] - 1
            if inside:
                assert after.left[0, y, x] * 256 == pytest.approx(source_x, abs=0.05)
                assert after.left[1, y, x] * 256 == pytest.approx(source_y, abs=0.05)
            d = float(after.disparity[0, y, x])
            row, column = top + int((y + 0.5) / fy), left + int((x + 0.5) / fx)
            nearby = sample.disparity[0, row - 1 : row + 2, column - 1 : column + 2]
            near_tie = min(abs((y + 0.5) / fy % 1 - k) for k in (0, 1)) < 1e-3 or (
                min(abs((x + 0.5) / fx % 1 - k) for k in (0, 1)) < 1e-3
            )
            assert d == pytest.approx(fx * float(sample.disparity[0, row, column]), rel=1e-5) or (
                near_tie and (nearby * fx - d).abs().min() < 1e-4
            )
            assert bool(after.out_of_frame[0, y, x]) >= (x - d < 0)
            match = x - d
            if inside and 1 <= (match + 0.5) / fx <= window[1] - 1 and match >= 0:
                first = int(match)
                ends = after.right[0, y, first : first + 2]
                red = float(ends[0] + (match - first) * (ends[-1] - ends[0])) * 256
                # The disparity is that of the source pixel, at most half a pixel off: 5/256 and 12.5/256 a pixel.
                assert red == pytest.approx(source_x - d / fx, abs=0.05)


def test_nothing_mixes_over_edges() -> None:
    sample = SHAPES[2]
    sample = sample._replace(valid=sample.disparity > 3, disparity=sample.disparity * (sample.disparity > 3))
    for size in ((80, 150), (140, 201), (70, 260)):
        after = reframe(sample, corner=(3, 5), window=(90, 180), size=size)
        known = sample.disparity.unique() * np.float32(size[1] / 180)
        assert torch.isin(after.disparity, known).all()
        assert torch.equal(after.disparity > 0, after.valid)


@pytest.mark.parametrize("scale", [0.5, 1, 2])
def test_augmentation_keeps_pairs_registered(scale: float) -> None:
    """Colours may differ a little between the views, but the error is least at the truth, to a third of a pixel."""
    offsets = np.arange(-2, 2.01, 1 / 3)
    totals = np.zeros((3, len(offsets)))
    before, after_still, after_mirrored = 0.0, 0.0, 0.0
    for index in range(4):
        for crop in (None, (64, 128), (96, 192)):
            after = StereoAugmentation(scale=scale, crop=crop)(SHAPES[index], np.random.default_rng(index))
            kind = (None, (64, 128), (96, 192)).index(crop)
            totals[kind] += [photometric_error(after, after.disparity + offset) for offset in offsets]
            before += photometric_error(after, after.disparity)
            after_still += photometric_error(after, 0 * after.disparity)
            after_mirrored += photometric_error(after, -after.disparity)
    assert (np.abs(offsets[totals.argmin(axis=1)]) < 0.01).all()
    assert before < 0.5 * after_still
    assert before < 0.5 * after_mirrored


@pytest.mark.parametrize("crop", [None, (64, 128), (91, 77)])
def test_what_comes_out_keeps_the_contract(crop: tuple[int, int] | None) -> None:
    height, width = crop or (96, 192)
    x = torch.arange(width)
    for seed in range(12):
        sample = SHAPES[seed % 6]
        before = [plane.clone() for plane in sample]
        one, two = (StereoAugmentation(scale=2, crop=crop)(sample, np.random.default_rng(seed)) for _ in range(2))
        assert differences(one, two) == []
        assert same(before, sample)
        assert isinstance(one, StereoSample)
        assert one.left.shape == one.right.shape == (3, height, width)
        assert all(plane.shape == (1, height, width) for plane in one[2:])
        assert [plane.dtype for plane in one] == 3 * [torch.float32] + 3 * [torch.bool]
        assert all(plane.is_contiguous() for plane in one)
        for view in (one.left, one.right):
            assert view.min() >= 0
            assert view.max() <= 1
        assert not (one.occluded & one.out_of_frame).any()
        assert (one.out_of_frame >= (x - one.disparity < 0)).all()
        # Resizing moves the border by less than a pixel.
        assert (one.out_of_frame <= (x - one.disparity < 1)).all()


def test_invalid_pixels_are_never_occluded_nor_out_of_frame_by_their_zero() -> None:
    sample = SHAPES[3]
    valid = torch.rand(1, 96, 192, generator=torch.Generator().manual_seed(0)) > 0.3
    nothing = torch.zeros_like(valid)
    sample = StereoSample(sample.left, sample.right, sample.disparity * valid, valid, nothing, nothing)
    for seed in range(10):
        after = StereoAugmentation(scale=2, crop=(60, 100))(sample, np.random.default_rng(seed))
        assert (after.disparity[~after.valid] == 0).all()
        assert not (after.occluded | after.out_of_frame)[~after.valid].any()
        assert 0.6 < after.valid.float().mean() < 0.8


def test_patches_hide_what_they_cover() -> None:
    """With a constant disparity the pixels that became occluded must show one colour in the right view."""
    rng = np.random.default_rng(0)
    view = torch.from_numpy(rng.random((3, 60, 120), dtype=np.float32))
    nothing = torch.zeros(1, 60, 120, dtype=torch.bool)
    disparity = torch.full((1, 60, 120), 7.0)
    gone = torch.arange(120) - disparity < 0
    right = torch.cat([view[:, :, 7:], view[:, :, :7]], dim=2)
    sample = StereoSample(view, right, disparity, ~nothing, nothing, gone)
    patched = 0
    for seed in range(40):
        after = StereoAugmentation(scale=1, crop=None)(sample, np.random.default_rng(seed))
        assert not (after.occluded & after.out_of_frame).any()
        rows, columns = torch.nonzero(after.occluded[0], as_tuple=True)
        d = after.disparity[0, rows, columns]
        beneath = after.right[:, rows, (columns - d).round().long()]
        if len(rows) > 20:
            patched += 1
            assert beneath.std(dim=1).max() < 0.03
            seen = (~after.occluded & ~after.out_of_frame)[0]
            assert after.left[:, seen].std(dim=1).min() > 0.05
    assert 10 <= patched <= 30


@pytest.mark.parametrize(("rows", "columns"), [((2, 9), (3, 11)), ((0, 12), (0, 4)), ((11, 12), (19, 20))])
def test_matched_within_equals_a_loop(rows: tuple[int, int], columns: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    disparity = 12 * torch.rand(1, 12, 20, generator=generator)
    disparity[0, :, ::5] = 2.5
    valid = torch.rand(1, 12, 20, generator=generator) > 0.2
    gone = valid & (torch.arange(20) - disparity < 0)
    view = torch.zeros(3, 12, 20)
    sample = StereoSample(view, view, disparity, valid, torch.zeros_like(valid), gone)
    found = matched_within(sample, slice(*rows), slice(*columns))
    for y in range(12):
        for x in range(20):
            match = x - float(disparity[0, y, x])
            inside = rows[0] <= y < rows[1] and columns[0] - 0.5 <= match < columns[1] - 0.5
            assert bool(found[0, y, x]) == (inside and bool(valid[0, y, x]) and not bool(gone[0, y, x]))


def test_colours_are_kornias_where_it_has_them() -> None:
    rng = np.random.default_rng(2)
    view = (0.3 + 0.3 * rng.random((13, 17, 3))).astype(np.float32)
    pixels = torch.from_numpy(view).permute(2, 0, 1)
    for _ in range(10):
        saturation, contrast, brightness, gamma = rng.uniform(-0.3, 0.3, 4)
        expected = enhance.adjust_saturation_with_gray_subtraction(pixels, 2**saturation)
        expected = enhance.adjust_contrast(expected, 2**contrast, clip_output=False)
        expected = enhance.adjust_gamma(enhance.adjust_brightness(expected, brightness), 2**gamma)
        found = recolour(view, saturation, 0.0, contrast, brightness, gamma)
        np.testing.assert_allclose(found, expected.permute(1, 2, 0).numpy(), atol=2e-4)


def test_hue_turns_about_grey() -> None:
    view = np.random.default_rng(3).random((5, 6, 3)).astype(np.float32)
    third = recolour(view, 0.0, 2 * np.pi / 3, 0.0, 0.0, 0.0)
    np.testing.assert_allclose(third, np.roll(view, 1, axis=2), atol=1e-5)
    np.testing.assert_allclose(recolour(view, 0.0, 0.0, 0.0, 0.0, 0.0), view, atol=1e-6)
    grey = np.full((2, 2, 3), 0.4, np.float32)
    np.testing.assert_allclose(recolour(grey, 0.5, 0.2, 0.0, 0.0, 0.0), grey, atol=1e-6)


def test_the_views_change_nearly_but_not_quite_alike() -> None:
    sample = SHAPES[4]
    twins = sample._replace(right=sample.left, disparity=0 * sample.disparity)
    apart, moved = [], []
    for seed in range(30):
        after = StereoAugmentation(scale=1, crop=None)(twins, np.random.default_rng(seed))
        seen = ~(after.occluded | after.out_of_frame)[0]
        apart.append(float((after.left.mean(dim=(1, 2)) - after.right.mean(dim=(1, 2))).abs().mean()))
        moved.append(float((after.left.mean(dim=(1, 2)) - sample.left.mean(dim=(1, 2))).abs().mean()))
        assert not torch.equal(after.left[:, seen], after.right[:, seen])
    # Noise alone would set the means of 18,432 pixels apart by less than a thousandth of the change.
    assert 0.03 * np.median(moved) < np.median(apart) < 0.3 * np.median(moved)


def test_a_larger_scale_changes_more() -> None:
    samples = [SHAPES[index] for index in range(6)]
    changes = []
    for scale in (0, 0.5, 1, 2, 4):
        augment = StereoAugmentation(scale=scale, crop=None)
        images = [augment(samples[k % 6], np.random.default_rng(k)).left for k in range(24)]
        changes.append(np.mean([float((image - samples[k % 6].left).abs().mean()) for k, image in enumerate(images)]))
    assert changes[0] == 0
    assert changes == sorted(changes)


def test_zoom_is_the_largest_enlargement_at_strength_one() -> None:
    sample = ramps(40, 50)
    for zoom, scale in ((1.0, 1.0), (2.0, 1.0), (2.0, 0.5)):
        augment = StereoAugmentation(scale=scale, crop=(8, 10), zoom=zoom)
        after = [augment(sample, np.random.default_rng(seed)).disparity.max() for seed in range(60)]
        factor = max(after).item() / sample.disparity.max().item()
        assert zoom**scale * 0.85 < factor < zoom**scale * 1.1  # with the stretch, and crops without the largest one


def test_a_small_sample_is_enlarged_with_its_proportions() -> None:
    sample = ramps(40, 50)
    after = StereoAugmentation(scale=0, crop=(60, 100))(sample, np.random.default_rng(0))
    assert after.left.shape == (3, 60, 100)
    # Twice the size in x, therefore in y: 30 of the 40 rows are seen.
    assert (after.left[1].max() - after.left[1].min()) * 256 == pytest.approx(29.5, abs=0.6)
    assert after.disparity.max() <= 2 * sample.disparity.max()
    assert after.disparity.max() > 1.5 * sample.disparity.max()
    assert after.valid.all()


@pytest.mark.parametrize(("crop", "corner"), [((50, 100), (23, 46)), ((95, 191), (0, 0)), ((1, 1), (47, 95))])
def test_center_crop_takes_the_middle(crop: tuple[int, int], corner: tuple[int, int]) -> None:
    for index in range(3):
        after = CenterCrop(crop=crop)(SHAPES[index])
        assert differences(after, cut(SHAPES[index], *corner, *crop)) == []


def test_center_crop_pads_what_is_too_small() -> None:
    sample = SHAPES[5]
    after = CenterCrop(crop=(100, 150))(sample)
    assert [tuple(plane.shape) for plane in after] == 2 * [(3, 100, 150)] + 4 * [(1, 100, 150)]
    assert differences(StereoSample(*(plane[:, :96] for plane in after)), cut(sample, 0, 21, 96, 150)) == []
    assert not torch.stack(after[3:])[:, :, 96:].any()
    assert (after.disparity[:, 96:] == 0).all()
    assert torch.equal(after.right[:, 96:], after.right[:, 95:96].expand(3, 4, 150))
    both = CenterCrop(crop=(97, 195))(sample)
    assert differences(StereoSample(*(plane[:, :96, :192] for plane in both)), sample) == []
    assert both.valid.sum() == 96 * 192


@pytest.mark.parametrize("scale", [-1, 4.5, float("nan"), float("inf")])
def test_strengths_out_of_range_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match=f"augmentation.scale={scale}"):
        StereoAugmentation(scale=scale, crop=None)


@pytest.mark.parametrize("crop", [(0, 10), (10, -1)])
def test_crops_without_pixels_are_refused(crop: tuple[int, int]) -> None:
    for build in (lambda: StereoAugmentation(scale=1, crop=crop), lambda: CenterCrop(crop=crop)):
        with pytest.raises(InputError, match=r"must be \(height, width\)"):
            build()
