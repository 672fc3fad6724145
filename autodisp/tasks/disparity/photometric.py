"""Disparity estimation without ground truth: from the views alone, with a teacher of averaged weights.

The loss of a batch is the mean of

- the photometric error between the left view and the right view warped by the student's disparity, over the pixels
  where the teacher's disparities of both views are consistent;
- the edge-aware smoothness of the student's disparity (``kornia.losses.inverse_depth_smoothness_loss``);
- the task's own loss against the teacher's disparity, over the same pixels.

The teacher is the network with averaged weights.

The photometric error and the share of structural similarity in it are those of monodepth (Godard et al. 2017;
github.com/mrharicot/monodepth, ``monodepth_model.py``); SSIM has kornia's Gaussian window instead of a mean of 3x3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from kornia.losses import inverse_depth_smoothness_loss, ssim_loss
from torch import Tensor, nn

from autodisp.datasets.samples import StereoSample
from autodisp.networks.disparity import StereoPrediction
from autodisp.networks.stereo_geometry import warp_right_to_left
from autodisp.tasks.base import Figure, Sums, mean_over, sum_of
from autodisp.tasks.disparity.task import DisparityTask

SSIM_SHARE = 0.85
"""Share of the structural dissimilarity in the photometric error; the rest is the absolute difference."""
WINDOW = 7
"""Side of the window of SSIM, pixels."""
EDGES = 10.0
"""Factor on the views in the smoothness: a step of 0.1 in 0..1 reduces its weight to 1 / e."""
CONSISTENT = 1.0
"""Largest difference between the disparities of both views at a match, pixels, as SGBM's ``disp12MaxDiff``."""


@dataclass(kw_only=True, eq=False)
class PhotometricDisparity(DisparityTask):
    """The disparity task on batches whose ground truth is not used for training.

    Validation selects by the photometric error, as there may be no ground truth. The other metrics are those of the
    task, over the pixels with ground truth.

    Args:
        smoothness_weight: weight of the smoothness, which is in pixels of disparity per pixel.
        teacher_weight: weight of the task's loss against the teacher's disparity.
    """

    smoothness_weight: float = 0.01
    teacher_weight: float = 0.3

    figure = Figure("photometric", "min", "%")
    unstored = DisparityTask.unstored | {"smoothness_weight", "teacher_weight"}

    def labelled(self, teacher: nn.Module, batch: StereoSample) -> StereoSample:
        """Returns the batch with the teacher's disparity in place of the ground truth, valid where it is consistent.

        The teacher, in evaluation mode, predicts the disparity of the right view from the mirrored, swapped views.
        """
        with torch.no_grad():
            left = _predicted(teacher, batch.left, batch.right)
            right = _predicted(teacher, batch.right.flip(-1), batch.left.flip(-1)).flip(-1)
        return batch._replace(disparity=left, valid=consistent(left, right))

    def loss(
        self, output: StereoPrediction, batch: StereoSample, level_weights: Sequence[float] | None = None
    ) -> Tensor:
        """Computes the loss of the student on a batch of ``labelled``, see the module."""
        with torch.autocast(batch.left.device.type, enabled=False):  # SSIM is a difference of nearly equal numbers
            disparity = output.disparity.float()
            error = photometric_error(batch.left, batch.right, disparity, batch.valid)
            total = mean_over(torch.where(batch.valid, error, 0.0).sum(), batch.valid.sum())
            if self.smoothness_weight > 0:
                smoothness = inverse_depth_smoothness_loss(disparity, EDGES * batch.left)
                total = total + self.smoothness_weight * smoothness
        if self.teacher_weight > 0:
            total = total + self.teacher_weight * super().loss(output, batch, level_weights)
        return total

    def measure(self, output: StereoPrediction, batch: StereoSample) -> Sums:
        """Sums the photometric error (percent) over all pixels, and the task's metrics over those with ground truth.

        A match beyond the border is compared with the border, since a mask could be enlarged by wrong disparities.
        """
        columns = torch.arange(batch.left.shape[-1], device=batch.left.device, dtype=torch.float32)
        inside = output.disparity.detach().float().clamp(min=0.0).minimum(columns)
        with torch.autocast(batch.left.device.type, enabled=False):
            error = photometric_error(batch.left, batch.right, inside)
        return {"photometric": sum_of(100.0 * error), **super().measure(output, batch)}

    def constant(self, batches: Iterable[StereoSample]) -> float:
        """Returns NaN: no constant disparity is a baseline of the photometric error."""
        return float("nan")


def _predicted(network: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    disparity: Tensor = network(left, right).disparity
    return disparity.float().clamp(min=0.0)


def consistent(left: Tensor, right: Tensor) -> Tensor:
    """Finds the pixels of the left view whose match has the same disparity, up to ``CONSISTENT``, in the right view.

    Occluded pixels and those without a match in the frame are not consistent.

    Args:
        left: disparity of the left view, (B, 1, H, W) pixels: x in it matches x - d in the right view.
        right: disparity of the right view, (B, 1, H, W) pixels: x in it matches x + d in the left view.

    Returns:
        (B, 1, H, W) bool.
    """
    inside = torch.arange(left.shape[-1], device=left.device) - left >= 0
    return inside & ((warp_right_to_left(right, left) - left).abs() <= CONSISTENT)


def photometric_error(left: Tensor, right: Tensor, disparity: Tensor, visible: Tensor | None = None) -> Tensor:
    """Computes the photometric error of each pixel: 0.85 DSSIM + 0.15 |left - warped right|, mean over the channels.

    Args:
        left, right: (B, 3, H, W) in 0..1, each side longer than half a window.
        disparity: (B, 1, H, W), pixels.
        visible: (B, 1, H, W) bool; other pixels count as equal, so that they do not spoil the windows of their
            neighbours. None for all pixels.

    Returns:
        (B, 1, H, W) in 0..1; 0 where the warped right view equals the left one in a whole window.
    """
    warped = warp_right_to_left(right, disparity)
    if visible is not None:
        warped = torch.where(visible, warped, left)
    dissimilarity = ssim_loss(left, warped, WINDOW, reduction="none").mean(1, keepdim=True)
    difference = (left - warped).abs().mean(1, keepdim=True)
    error: Tensor = SSIM_SHARE * dissimilarity + (1 - SSIM_SHARE) * difference
    return error
