"""The loss without ground truth against plain loops, and on images whose disparity is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from autodisp.datasets.samples import StereoSample
from autodisp.networks.disparity import StereoPrediction
from autodisp.tasks.base import means
from autodisp.tasks.disparity import DisparityTask
from autodisp.tasks.disparity.photometric import (
    EDGES,
    SSIM_SHARE,
    WINDOW,
    PhotometricDisparity,
    consistent,
    photometric_error,
)

SHIFT = 3


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def task(**arguments: object) -> PhotometricDisparity:
    plain = DisparityTask(channels=2, stem_scale=1, encoder_cells=2, decoder_cells=2, max_displacement=4)
    return PhotometricDisparity(**vars(plain), **arguments)  # type: ignore[arg-type]


def unlabelled(left: Tensor, right: Tensor) -> StereoSample:
    nowhere = torch.zeros_like(left[:, :1], dtype=torch.bool)
    return StereoSample(left, right, torch.zeros_like(left[:, :1]), nowhere, nowhere, nowhere)


def shifted(height: int = 12, width: int = 20) -> tuple[Tensor, Tensor]:
    """Two views of a plane whose disparity is SHIFT."""
    texture = random(1, 3, height, width + SHIFT, seed=3)
    return texture[..., :width], texture[..., SHIFT:]


def prediction(disparity: Tensor) -> StereoPrediction:
    return StereoPrediction(disparity, (), (1,), None)


def ssim_by_loop(one: Tensor, other: Tensor, y: int, x: int) -> float:
    """SSIM of two planes (H, W) in the Gaussian window around a pixel, mirrored at the border without repeating it."""
    height, width = one.shape
    radius = WINDOW // 2

    def mirrored(place: int, size: int) -> int:
        place = abs(place)
        return place if place < size else 2 * (size - 1) - place

    sums, total = [0.0] * 5, 0.0
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            weight = math.exp(-(dy**2 + dx**2) / (2 * 1.5**2))
            a = one[mirrored(y + dy, height), mirrored(x + dx, width)].item()
            b = other[mirrored(y + dy, height), mirrored(x + dx, width)].item()
            total += weight
            for index, value in enumerate((a, b, a * a, b * b, a * b)):
                sums[index] += weight * value
    mean_a, mean_b, square_a, square_b, product = (value / total for value in sums)
    first = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    covariance = product - mean_a * mean_b
    return first * (2 * covariance + 0.03**2) / (square_a - mean_a**2 + square_b - mean_b**2 + 0.03**2)


def warped_by_loop(right: Tensor, disparity: Tensor, y: int, x: int) -> list[float]:
    place = x - disparity[0, 0, y, x].item()
    first = math.floor(place)
    share = place - first
    width = right.shape[-1]

    def at(channel: int, column: int) -> float:
        return right[0, channel, y, column].item() if 0 <= column < width else 0.0

    return [at(c, first) * (1 - share) + at(c, first + 1) * share for c in range(3)]


@pytest.mark.parametrize("masked", [False, True])
def test_the_photometric_error_against_loops(masked: bool) -> None:
    height, width = 7, 9
    left, right = random(1, 3, height, width), random(1, 3, height, width, seed=1)
    disparity = 4 * random(1, 1, height, width, seed=2)
    valid = random(1, 1, height, width, seed=4) < 0.7
    warped = torch.zeros_like(left)
    for y in range(height):
        for x in range(width):
            seen = valid[0, 0, y, x] or not masked
            warped[0, :, y, x] = (
                torch.tensor(warped_by_loop(right, disparity, y, x)).double() if seen else left[0, :, y, x]
            )
    found = photometric_error(left, right, disparity, valid if masked else None)
    assert found.shape == (1, 1, height, width)
    for y, x in ((0, 0), (3, 4), (6, 8), (0, 5), (5, 0), (2, 7)):
        dissimilarity = [(1 - ssim_by_loop(left[0, c], warped[0, c], y, x)) / 2 for c in range(3)]
        difference = [abs(left[0, c, y, x].item() - warped[0, c, y, x].item()) for c in range(3)]
        expected = SSIM_SHARE * sum(dissimilarity) / 3 + (1 - SSIM_SHARE) * sum(difference) / 3
        assert found[0, 0, y, x].item() == pytest.approx(expected, abs=1e-6)


def test_it_is_zero_at_the_true_disparity_only() -> None:
    left, right = shifted()
    visible = (torch.arange(left.shape[-1]) >= SHIFT).expand(1, 1, *left.shape[-2:])
    errors = {
        disparity: float(
            photometric_error(left, right, torch.full_like(left[:, :1], disparity), visible)[visible].mean()
        )
        for disparity in (0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0)
    }
    assert errors.pop(SHIFT) < 1e-9
    assert min(errors.values()) > 0.05


def scene() -> tuple[Tensor, Tensor]:
    """Disparities of both views of a square (6 px) before a wall (2 px)."""
    wall, near, columns = 2, 6, range(10, 16)
    left, right = torch.full((1, 1, 3, 24), float(wall)), torch.full((1, 1, 3, 24), float(wall))
    left[..., 1, columns.start : columns.stop] = near
    right[..., 1, columns.start - near : columns.stop - near] = near
    return left, right


def test_a_square_before_a_wall_occludes_it() -> None:
    expected = torch.ones(3, 24, dtype=torch.bool)
    expected[:, :2] = False  # x - 2 < 0
    expected[1, 6:10] = False  # the wall at x meets column x - 2 of the right view, where the square is at 4 .. 9
    assert torch.equal(consistent(*scene())[0, 0], expected)


@pytest.mark.parametrize(("other", "agree"), [(3.0, False), (4.0, True), (4.5, True), (6.0, True), (6.5, False)])
def test_disparities_that_differ_by_a_pixel_agree(other: float, agree: bool) -> None:
    left = torch.full((1, 1, 2, 12), 5.0)
    found = consistent(left, torch.full_like(left, other))
    assert torch.equal(found[0, 0, 0], (torch.arange(12) >= 5) & agree)


class Teacher(nn.Module):
    """A disparity that depends on both views and on the column."""

    def forward(self, left: Tensor, right: Tensor) -> StereoPrediction:
        columns = torch.arange(left.shape[-1])
        return prediction(left.mean(1, keepdim=True) + 2 * right.mean(1, keepdim=True) + columns / 100 - 0.1)


def test_the_teacher_labels_the_left_view_and_checks_it_by_the_right_one() -> None:
    left, right = shifted()
    batch = unlabelled(left, right)
    found = task().labelled(Teacher(), batch)
    columns = torch.arange(left.shape[-1])
    of_left = (left.mean(1, keepdim=True) + 2 * right.mean(1, keepdim=True) + columns / 100 - 0.1).clamp(min=0)
    mirrored = columns.flip(0)
    of_right = (right.mean(1, keepdim=True) + 2 * left.mean(1, keepdim=True) + mirrored / 100 - 0.1).clamp(min=0)
    torch.testing.assert_close(found.disparity, of_left.float())
    assert torch.equal(found.valid, consistent(of_left.float(), of_right.float()))
    assert 0 < found.valid.float().mean() < 1
    assert found.left is left
    assert not found.disparity.requires_grad


def smoothness_by_loop(disparity: Tensor, left: Tensor) -> float:
    total = 0.0
    height, width = disparity.shape[-2:]
    for dy, dx in ((0, 1), (1, 0)):
        terms = []
        for y in range(height - dy):
            for x in range(width - dx):
                step = abs(disparity[0, 0, y, x].item() - disparity[0, 0, y + dy, x + dx].item())
                edge = (left[0, :, y, x] - left[0, :, y + dy, x + dx]).abs().mean().item()
                terms.append(step * math.exp(-EDGES * edge))
        total += math.fsum(terms) / len(terms)
    return total


def labelled() -> StereoSample:
    left, right = (view.float() for view in shifted(8, 16))
    near = 3 + random(1, 1, 8, 16, seed=8).float()
    valid = (random(1, 1, 8, 16, seed=5) > 0.2) & (torch.arange(16) >= SHIFT)
    return unlabelled(left, right)._replace(disparity=near, valid=valid)


@pytest.mark.parametrize(("smoothness", "teacher"), [(0.0, 0.0), (0.5, 0.0), (0.0, 2.0), (0.25, 0.5)])
def test_the_loss_is_the_sum_of_its_parts(smoothness: float, teacher: float) -> None:
    batch, disparity = labelled(), 5 * random(1, 1, 8, 16, seed=6).float()
    error = photometric_error(batch.left, batch.right, disparity, batch.valid)
    expected = float(error[batch.valid].double().mean())
    expected += smoothness * smoothness_by_loop(disparity, batch.left)
    expected += teacher * float((disparity - batch.disparity).abs()[batch.valid].double().mean())
    found = task(smoothness_weight=smoothness, teacher_weight=teacher).loss(prediction(disparity), batch)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_inconsistent_pixels_have_no_photometric_gradient() -> None:
    batch = labelled()
    disparity = (5 * random(1, 1, 8, 16, seed=6).float()).requires_grad_()
    task(smoothness_weight=0.0, teacher_weight=0.0).loss(prediction(disparity), batch).backward()
    assert disparity.grad is not None
    assert (disparity.grad[~batch.valid] == 0).all()
    assert (disparity.grad[batch.valid] != 0).float().mean() > 0.5


def test_a_batch_without_a_consistent_pixel_has_no_loss() -> None:
    batch = labelled()
    batch = batch._replace(valid=torch.zeros_like(batch.valid))
    disparity = random(1, 1, 8, 16).float().requires_grad_()
    loss = task(smoothness_weight=0.0).loss(prediction(disparity), batch)
    loss.backward()
    assert loss.item() == 0
    assert disparity.grad is not None
    assert not disparity.grad.any()


def test_descending_finds_the_shift() -> None:
    """From half a pixel away, the views alone lead to the true disparity."""
    left, right = (view.float() for view in shifted(12, 24))
    smooth = nn.AvgPool2d(3, 1, 1)
    left, right = smooth(left), smooth(right)  # the linear range of a gradient is that of the texture
    disparity = torch.full((1, 1, 12, 24), SHIFT + 0.5, requires_grad=True)
    batch = unlabelled(left, right)
    batch = batch._replace(valid=(torch.arange(24) > SHIFT).expand_as(batch.valid))
    optimizer = torch.optim.Adam([disparity], 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        task(teacher_weight=0.0).loss(prediction(disparity), batch).backward()
        optimizer.step()
    assert float((disparity.detach() - SHIFT).abs()[..., SHIFT + 2 :].mean()) < 0.15


def test_validation_measures_the_photometric_error_and_what_has_ground_truth() -> None:
    left, right = (view.float() for view in shifted())
    batch = unlabelled(left, right)
    true = prediction(torch.full_like(left[:, :1], SHIFT))
    wrong = prediction(torch.full_like(left[:, :1], SHIFT + 1))
    found = means(task().measure(true, batch))
    assert found["photometric"] < means(task().measure(wrong, batch))["photometric"]
    assert math.isnan(found["epe"])
    known = batch._replace(disparity=true.disparity + 2, valid=~batch.valid)
    found = means(task().measure(true, known))
    assert found["epe"] == 2
    assert set(found) == {"photometric", *means(DisparityTask.measure(task(), true, known))}


def test_disparities_beyond_the_border_do_not_lower_the_photometric_error() -> None:
    left, right = (view.float() for view in shifted())
    batch = unlabelled(left, right)
    beyond = prediction(torch.full_like(left[:, :1], 100.0))
    true = prediction(torch.full_like(left[:, :1], SHIFT))
    pixels = task().measure(beyond, batch)["photometric"]
    assert pixels[1] == left[0, 0].numel()
    assert means({"a": pixels})["a"] > 2 * means(task().measure(true, batch))["photometric"]


def test_the_ground_truth_of_a_batch_changes_no_loss() -> None:
    left, right = (view.float() for view in shifted())
    batch = unlabelled(left, right)
    other = batch._replace(disparity=torch.full_like(batch.disparity, math.nan), valid=~batch.valid)
    output = prediction(2 * random(1, 1, *left.shape[-2:]).float())
    losses = [task().loss(output, task().labelled(Teacher(), one)) for one in (batch, other)]
    assert torch.equal(*losses)


def test_no_constant_is_a_baseline() -> None:
    assert math.isnan(task().constant([]))
