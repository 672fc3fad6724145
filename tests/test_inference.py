"""The matcher against the network called by hand, and what it says of images it cannot use."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autodisp.cells.operations import Style
from autodisp.networks.disparity import DisparityNetwork, StereoPrediction
from autodisp.prediction.inference import StereoMatcher
from tests.made_models import found_cells


@pytest.fixture(scope="module")
def network() -> DisparityNetwork:
    torch.manual_seed(0)
    return DisparityNetwork(
        found_cells(Style("dense")), channels=2, stem_scale=1, encoder_cells=2, decoder_cells=2, max_displacement=4,
        head="matching", max_disparity=32,
    )  # fmt: skip


class Difference(nn.Module):
    """Predicts left - right, and keeps what it was given."""

    def forward(self, left: Tensor, right: Tensor) -> StereoPrediction:
        self.given = (left, right)
        return StereoPrediction((left - right).mean(1, keepdim=True), (), (), None)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    left, right = torch.rand(2, *shape, generator=generator)
    return left, right


@pytest.mark.parametrize(("batch", "size"), [(1, (1, 1)), (1, (5, 90)), (2, (33, 47))])
def test_is_the_network_on_padded_images(network: DisparityNetwork, batch: int, size: tuple[int, int]) -> None:
    left, right = pair(batch, 3, *size)
    disparity = StereoMatcher(network.train())(left, right)
    assert not network.training
    assert disparity.shape == (batch, 1, *size)
    assert disparity.dtype == torch.float32
    padding = (0, -size[1] % network.stride, 0, -size[0] % network.stride)
    with torch.no_grad():
        padded = [functional.pad(view, padding, mode="replicate") for view in (left, right)]
        expected = network(*padded).disparity[..., : size[0], : size[1]].clamp(max=size[1])
    torch.testing.assert_close(disparity, expected, rtol=1e-4, atol=1e-4)
    assert size == (1, 1) or expected.std() > 0


def test_no_disparity_is_larger_than_the_picture_is_wide() -> None:
    class Row(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return torch.tensor([-9.0, 3, 4, 5, 75, math.inf]).expand_as(left[:, :1])

    disparity = StereoMatcher(Row())(*pair(1, 3, 4, 6))
    assert disparity[0, 0, 0].tolist() == [0, 3, 4, 5, 6, math.inf]


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "float64", "float16", ">u2", ">f4"])
def test_every_kind_of_array_is_the_same_picture(kind: str) -> None:
    left, right = (np.random.default_rng(seed).integers(0, 256, (4, 5, 3)) for seed in (0, 1))
    dtype = np.dtype(kind)
    factor = {"u1": 1, "u2": 257}.get(dtype.str[1:], 1 / 255)
    matcher = StereoMatcher(Difference())
    disparity = matcher((left * factor).astype(dtype), (right * factor).astype(dtype))
    assert isinstance(disparity, np.ndarray)
    assert disparity.dtype == np.float32
    expected = ((left - right) / 255).mean(-1).clip(0)
    np.testing.assert_allclose(disparity[0, 0], expected, atol=1e-3 if kind == "float16" else 1e-6)
    assert 0 < (disparity == 0).sum() < disparity.size, "negative disparities become 0"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64, torch.bfloat16])
def test_every_kind_of_tensor_is_the_same_picture(dtype: torch.dtype) -> None:
    left, right = (torch.randint(0, 256, (3, 4, 5), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    factor = {torch.uint8: 1, torch.uint16: 257}.get(dtype, 1 / 255)
    disparity = StereoMatcher(Difference())(*((view * factor).to(dtype) for view in (left, right)))
    assert isinstance(disparity, Tensor)
    expected = ((left - right) / 255).mean(0).clamp(min=0)
    torch.testing.assert_close(disparity[0, 0], expected, rtol=0, atol=1e-2 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize(
    ("shape", "batch"), [((4, 5), 1), ((4, 5, 1), 1), ((4, 5, 3), 1), ((2, 4, 5, 3), 2), ((2, 4, 5, 1), 2)]
)
def test_shapes_of_arrays(shape: tuple[int, ...], batch: int) -> None:
    network = Difference()
    left, right = (np.random.default_rng(seed).random(shape, dtype=np.float32) for seed in (0, 1))
    assert StereoMatcher(network)(left, right).shape == (batch, 1, 4, 5)
    for given, view in zip(network.given, (left, right), strict=True):
        rgb = np.broadcast_to(view.reshape(batch, 4, 5, -1), (batch, 4, 5, 3))
        assert np.array_equal(given.permute(0, 2, 3, 1).numpy(), rgb)
        assert given.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("shape", "batch"), [((3, 4, 5), 1), ((1, 4, 5), 1), ((2, 3, 4, 5), 2), ((2, 1, 4, 5), 2)])
def test_shapes_of_tensors(shape: tuple[int, ...], batch: int) -> None:
    network = Difference()
    left, right = pair(*shape)
    assert StereoMatcher(network)(left, right).shape == (batch, 1, 4, 5)
    for given, view in zip(network.given, (left, right), strict=True):
        assert torch.equal(given, view.reshape(batch, -1, 4, 5).expand(batch, 3, 4, 5))


class Alone(nn.Module):
    """Predicts the disparity and nothing else, as exported networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.layer(left) - self.layer(right)


def test_an_exported_network() -> None:
    network = Alone()
    sides = {2: torch.export.Dim("height", min=2, max=99), 3: torch.export.Dim("width", min=2, max=99)}
    exported = torch.export.export(network, pair(1, 3, 8, 9), dynamic_shapes=(sides, sides))
    left, right = pair(3, 5, 6)
    with torch.no_grad():
        expected = network(left, right)[None].clamp(min=0)
    for found in (network, exported.module()):
        torch.testing.assert_close(StereoMatcher(found)(left, right), expected, rtol=1e-5, atol=1e-6)
    assert expected.max() > 0


def test_arrays_have_a_confidence_like_tensors(network: DisparityNetwork) -> None:
    matcher, views = StereoMatcher(network), pair(2, 3, 20, 40)
    arrays = [view.permute(0, 2, 3, 1).numpy() for view in views]
    assert np.array_equal(matcher.with_confidence(*arrays), matcher.with_confidence(*views).numpy())


def test_a_grey_and_a_coloured_view() -> None:
    left, right = np.random.default_rng(0).random((2, 4, 5, 3), dtype=np.float32)
    grey = right[..., 1]
    expected = StereoMatcher(Difference())(left, np.dstack([grey] * 3))
    assert np.array_equal(StereoMatcher(Difference())(left, grey), expected)


def test_views_that_are_not_contiguous_or_writable() -> None:
    left, right = (np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8) for seed in (0, 1))
    expected = StereoMatcher(Difference())(left[::2, ::-1].copy(), right[::2, ::-1].copy())
    left.flags.writeable = False
    assert np.array_equal(StereoMatcher(Difference())(left[::2, ::-1], right[::2, ::-1]), expected)
    still = np.asfortranarray(left)
    still.flags.writeable = False
    assert StereoMatcher(Difference())(still, still).max() == 0
    grey = left[..., 0].copy()
    grey.flags.writeable = False
    assert StereoMatcher(Difference())(grey, grey).max() == 0


def test_arguments_are_left_as_they_are_and_the_result_is_the_users() -> None:
    left, right = (view.requires_grad_() for view in pair(3, 4, 5))
    disparity = StereoMatcher(Difference())(left, right)
    assert not disparity.requires_grad
    (disparity * torch.ones(1, requires_grad=True)).sum().backward()  # an inference tensor would refuse
    views = [np.full((4, 5), value, np.uint8) for value in (9, 7)]
    StereoMatcher(Difference())(*views)[:] = 3
    assert [view.mean() for view in views] == [9, 7]


def test_colours_may_overshoot_by_rounding_only() -> None:
    left, right = pair(3, 4, 5)
    assert StereoMatcher(Difference())(left * 1.005, right - 0.005).isfinite().all()


ARRAY, TENSOR = np.zeros((4, 5, 3), np.float32), torch.zeros(3, 4, 5)


@pytest.mark.parametrize(
    ("left", "right", "kind", "words"),
    [
        (ARRAY, TENSOR, TypeError, "left is a ndarray and right a Tensor"),
        (TENSOR, ARRAY, TypeError, "left is a Tensor and right a ndarray"),
        ("a.png", "b.png", TypeError, "left is a str"),
        (ARRAY, ARRAY[1:], ValueError, "left is 1x4x5 and right 1x3x5"),
        (TENSOR, TENSOR.expand(2, 3, 4, 5), ValueError, "left is 1x4x5 and right 2x4x5"),
        (ARRAY, ARRAY[..., 1:, :], ValueError, "left is 1x4x5 and right 1x4x4"),
        (np.zeros((4, 5, 4), np.uint8), ARRAY, ValueError, r"left has the shape \(4, 5, 4\).*drop the alpha"),
        (ARRAY, np.zeros((3, 4, 5), np.uint8), ValueError, r"right has the shape \(3, 4, 5\).*moveaxis"),
        (np.zeros(5), ARRAY, ValueError, r"left has the shape \(5,\)"),
        (torch.zeros(4, 5, 3), TENSOR, ValueError, r"left has the shape \(4, 5, 3\).*permute"),
        (torch.zeros(4, 5), TENSOR, ValueError, r"left has the shape \(4, 5\)"),
        (np.zeros((0, 5), np.uint8), ARRAY, ValueError, "holds no pixel"),
        (torch.zeros(0, 3, 4, 5), TENSOR, ValueError, "holds no pixel"),
        (np.zeros((4, 0, 3), np.uint8), ARRAY, ValueError, "holds no pixel"),
        (torch.zeros(3, 0, 5), TENSOR, ValueError, "holds no pixel"),
        (ARRAY.astype(np.int64), ARRAY, TypeError, "left is of int64"),
        (ARRAY.astype(bool), ARRAY, TypeError, "left is of bool"),
        (ARRAY.astype(np.uint32), ARRAY, TypeError, "left is of uint32"),
        (ARRAY.astype(complex), ARRAY, TypeError, "left is of complex128"),
        (ARRAY.astype(object), ARRAY, TypeError, "left is of object"),
        (TENSOR, TENSOR.long(), TypeError, "right is of int64"),
        (TENSOR + 255, TENSOR, ValueError, "255 to 255, .*divide by .* 255"),
        (ARRAY, ARRAY + 1023, ValueError, "right holds values of 1023 .*or 65535"),
        (ARRAY - 2.1, ARRAY, ValueError, "-2.1 .*normalised"),
        (ARRAY + np.nan, ARRAY, ValueError, "nan"),
        (TENSOR, TENSOR + torch.inf, ValueError, "inf"),
    ],
)
def test_images_that_cannot_be_used(left: Any, right: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        StereoMatcher(Difference())(left, right)
    assert "\n" not in str(caught.value)
