import numpy as np
import pytest
import torch

from autodisp.datasets.image_transforms import ImageAugmentation
from autodisp.datasets.samples import LabelledImage
from autodisp.errors import InputError


def numbered(height: int = 32, width: int = 32) -> LabelledImage:
    """Every pixel has a value of its own in 0.25..0.75, none of them black or the fill colour."""
    pixels = 0.25 + 0.5 * torch.arange(3 * height * width).reshape(3, height, width) / (3 * height * width)
    return LabelledImage(pixels, 7)


def outcomes(count: int = 300, image: LabelledImage | None = None, **settings: object) -> list[torch.Tensor]:
    augment = ImageAugmentation(**settings)  # type: ignore[arg-type]
    image = image or numbered()
    rng = np.random.default_rng(0)
    return [augment(image, rng).image for _ in range(count)]


def test_scale_zero_changes_nothing() -> None:
    image = numbered()
    for seed in range(20):
        after = ImageAugmentation(scale=0)(image, np.random.default_rng(seed))
        assert torch.equal(after.image, image.image)
        assert after.label == 7


def test_the_same_generator_gives_the_same_image_and_the_input_stays() -> None:
    image = numbered()
    before = image.image.clone()
    one, two = (ImageAugmentation(scale=1)(image, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(one.image, two.image)
    assert torch.equal(image.image, before)
    assert one.label == 7
    assert one.image.is_contiguous()


@pytest.mark.parametrize(("scale", "padding"), [(0.5, 2), (1, 4), (2, 8)])
def test_every_crop_of_the_padded_image_occurs_and_no_other(scale: float, padding: int) -> None:
    image = numbered(8, 10)
    padded = np.pad(image.image.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    expected = {
        np.ascontiguousarray(padded[:, y : y + 8, x : x + 10]).tobytes()
        for y in range(2 * padding + 1)
        for x in range(2 * padding + 1)
    }
    found = {crop.numpy().tobytes() for crop in outcomes(4000, image, scale=scale, cutout=0, flip=False)}
    assert found <= expected
    assert len(found) > 0.95 * len(expected)


@pytest.mark.parametrize(("scale", "flip", "share"), [(0.5, True, 0.25), (1, True, 0.5), (2, True, 0.5), (2, False, 0)])
def test_flip_mirrors_left_and_right(scale: float, flip: bool, share: float) -> None:
    image = numbered(5, 7)
    images = outcomes(2000, image, scale=scale, padding=0, cutout=0, flip=flip)
    mirrored = [torch.equal(after, torch.flip(image.image, (2,))) for after in images]
    kept = [torch.equal(after, image.image) for after in images]
    assert sum(mirrored) + sum(kept) == 2000
    assert np.mean(mirrored) == pytest.approx(share, abs=0.05 if flip else 0)


@pytest.mark.parametrize(("scale", "side"), [(0.25, 3), (1, 6), (2, 8), (4, 12)])
def test_cut_out_is_one_square_around_any_pixel(scale: float, side: int) -> None:
    """Against a loop over the pixels for every possible centre (DeVries & Taylor 2017: the square may leave)."""
    fill = (0.9, 0.1, 0.0)
    image = numbered(9, 11)
    expected = set()
    for cy in range(9):
        for cx in range(11):
            covered = image.image.clone()
            for y in range(cy - side // 2, cy - side // 2 + side):
                for x in range(cx - side // 2, cx - side // 2 + side):
                    if 0 <= y < 9 and 0 <= x < 11:
                        covered[:, y, x] = torch.tensor(fill)
            expected.add(covered.numpy().tobytes())
    found = {
        after.numpy().tobytes()
        for after in outcomes(2500, image, scale=scale, padding=0, cutout=6, flip=False, fill=fill)
    }
    assert found == expected


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_cut_out_in_a_share_of_the_images(share: float) -> None:
    image = numbered(5, 7)
    always = ImageAugmentation(scale=1, padding=0, cutout=4, flip=False)
    augment, rng = always.covering(share), np.random.default_rng(0)
    covered = [not torch.equal(augment(image, rng).image, image.image) for _ in range(2000)]
    assert np.mean(covered) == pytest.approx(share, abs=0.05)
    assert not torch.equal(always(image, rng).image, image.image), "the one it comes from stays as it is"


def test_every_part_grows_with_the_scale() -> None:
    augmentations = [ImageAugmentation(scale=scale) for scale in (0, 0.25, 0.5, 1, 1.5, 2, 4)]
    for values in zip(*((a.padding, a.side, a.flip_share) for a in augmentations), strict=True):
        assert list(values) == sorted(values)
    assert (augmentations[3].padding, augmentations[3].side, augmentations[3].flip_share) == (4, 16, 0.5)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (32, 32)])
def test_size_stays(size: tuple[int, int]) -> None:
    assert all(after.shape == (3, *size) for after in outcomes(50, numbered(*size), scale=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": -0.1}, "scale=-0.1"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"scale": 5}, "scale=5"),
        ({"scale": 1, "padding": -1}, "padding=-1"),
        ({"scale": 1, "cutout": -2}, "cutout=-2"),
        ({"scale": 1, "fill": (0, 0, 2)}, r"fill is \(0, 0, 2\)"),
        ({"scale": 1, "fill": (0, 0)}, r"fill is \(0, 0\)"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageAugmentation(**settings)  # type: ignore[arg-type]
