"""Corrections of a predicted disparity by OpenCV's semi-global matching: ``correction=residual`` and ``fusion``.

A network finds the right surface but is imprecise; semi-global matching is precise where it finds a match, but needs a
wide search and fails without texture. Residual matching warps the right view by the prediction and searches the rest
within 8 pixels, a twelfth of a range of 192. Fusion adds a search of the whole range, and takes from it what the
network confirms or is not sure of.

The settings were chosen out of about 40 and 60 by the errors on seven real pairs (EXPERIMENTS, "Corrections"), which
change little around them.
"""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autodisp.errors import InputError
from autodisp.networks.confidence import visible
from autodisp.networks.stereo_geometry import warp_right_to_left
from autodisp.prediction.image_models import in_unit_range
from autodisp.prediction.inference import StereoMatcher, WrappedMatcher, clipped
from autodisp.prediction.scales import AGREEMENT
from autodisp.prediction.semi_global_matching import LARGEST, SemiGlobalMatching, fill_from_background

REACH = 4.0
"""Largest correction, pixels; larger ones are wrong more often than the prediction."""
_RANGE = 8
"""Residuals searched on either side of 0, pixels; OpenCV takes a multiple of 16 in all."""
_BLOCK, _FILTER, _MEDIAN = 5, 31, 5
_SMALL, _LARGE = 8 * _BLOCK**2, 32 * _BLOCK**2
"""Penalties of a change by one pixel and by more, OpenCV's recommendation for grey images."""
_GREY = (0.299, 0.587, 0.114)

SURE, DOUBTFUL = 0.8, 0.3
"""Confidence from which on a network is right against a match, and below which it is worse than a filled hole."""
_SHARE, _MARGIN = 99.9, 16
"""Percentage of the predictions below the searched range, and what is added to it, pixels."""

_Map = npt.NDArray[np.float32]


class ResidualMatcher(WrappedMatcher):
    """Calls a network, and corrects its disparity by residual matching on the CPU; the confidence is the network's."""

    def _matched(self, left: Tensor, right: Tensor, *, confident: bool = False) -> Tensor:
        found = self.matcher._matched(left, right, confident=confident)
        cv2.setNumThreads(torch.get_num_threads())
        views = zip(_grey(left), _grey(right), found[:, 0].cpu().numpy(), strict=True)
        corrected = torch.from_numpy(np.stack([correct(*each) for each in views]))
        return torch.cat([clipped(corrected[:, None]).to(found.device), found[:, 1:]], dim=1)


class FusionMatcher(ResidualMatcher):
    """Corrects like ``ResidualMatcher``, and joins the result with semi-global matching by ``fuse``.

    Args:
        matcher: of a network with a confidence.

    Raises:
        InputError: the network has no confidence.
    """

    def __init__(self, matcher: StereoMatcher) -> None:
        super().__init__(matcher)
        if not self.has_confidence:
            raise InputError(
                "correction=fusion: needs a network with a confidence (network.head=matching or refined, exported with "
                "confidence=true); take correction=residual"
            )

    def _matched(self, left: Tensor, right: Tensor, *, confident: bool = False) -> Tensor:
        found = super()._matched(left, right, confident=True)
        fused = []
        colours = (in_unit_range(view).expand(-1, 3, -1, -1) for view in (left, right))
        views = zip(*colours, found.cpu().numpy(), strict=True)
        for left_view, right_view, (disparity, confidence) in views:
            matcher = SemiGlobalMatching(max_disparity=_most(disparity), mode="3way", penalty=1.0)
            joined = fuse(disparity, confidence, *matcher.match(left_view, right_view))
            fused.append(torch.from_numpy(np.stack(joined)))
        result = torch.stack(fused).to(found.device)
        result[:, :1] = clipped(result[:, :1])  # a match may lie beyond the border
        return result if confident else result[:, :1]


def correct(left: npt.NDArray[np.uint8], right: npt.NDArray[np.uint8], disparity: _Map) -> _Map:
    """Corrects the disparity of a pair by at most REACH pixels where both views see the point.

    Args:
        left, right: (H, W) grey levels.
        disparity: (H, W) of the left view, pixels, 0 or more; pixels that are not finite stay as they are.

    Returns:
        (H, W) pixels, 0 or more.
    """
    finite = np.isfinite(disparity)
    known = np.where(finite, disparity, np.float32(0))
    residual, matched = _residual(left, _warped(right, known).round().astype(np.uint8))
    # The residual belongs to the position in the warped view that it leads to, and so does the prediction to be added.
    corrected = residual + _warped(known, residual)
    kept = matched & finite & (corrected >= 0) & (np.abs(corrected - known) <= REACH)
    kept &= _visible(known) & _visible(corrected)
    return np.where(kept, corrected, disparity)


def fuse(disparity: _Map, confidence: _Map, matched: _Map, known: npt.NDArray[np.bool_]) -> tuple[_Map, _Map]:
    """Joins the disparity of a network with that of semi-global matching.

    Where both agree, takes their mean; elsewhere the network's where it is confident, else the match; where there is
    neither, fills from the background.

    Args:
        disparity, confidence: (H, W) of the network, pixels and 0..1.
        matched, known: (H, W) pixels, and whether there is a match.

    Returns:
        The disparity (H, W), in which pixels of the network that are not finite stay as they are, and its confidence:
        where there is a match, the mean of the network's and of the agreement, 1 or 0; elsewhere the network's.
    """
    agreed = known & (np.abs(matched - disparity) <= AGREEMENT)
    filled = fill_from_background(matched, known) if known.any() else disparity
    unsure = np.where(known, confidence < SURE, confidence < DOUBTFUL)
    joined = np.where(agreed, (matched + disparity) / 2, np.where(unsure, filled, disparity))
    joined = np.where(np.isfinite(disparity), joined, disparity)
    sure = np.where(known, (confidence + agreed) / 2, confidence)
    return joined.astype(np.float32), sure.astype(np.float32)


def _most(disparity: _Map) -> int:
    """Returns the largest disparity to search: what nearly all of the predictions are below, with a margin."""
    finite = disparity[np.isfinite(disparity)]
    if not finite.size:
        return _MARGIN
    return min(LARGEST, math.ceil(np.percentile(finite, _SHARE)) + _MARGIN)


def _residual(left: npt.NDArray[np.uint8], warped: npt.NDArray[np.uint8]) -> tuple[_Map, npt.NDArray[np.bool_]]:
    """Returns the disparity between both within -_RANGE.._RANGE, and where there is one."""
    matcher = cv2.StereoSGBM.create(
        minDisparity=-_RANGE,
        numDisparities=2 * _RANGE,
        blockSize=_BLOCK,
        P1=_SMALL,
        P2=_LARGE,
        disp12MaxDiff=-1,
        preFilterCap=_FILTER,
        mode=cv2.STEREO_SGBM_MODE_HH4,
    )
    border = 2 * _RANGE  # OpenCV finds nothing closer to the sides
    views = [cv2.copyMakeBorder(view, 0, 0, border, border, cv2.BORDER_REPLICATE) for view in (left, warped)]
    found = matcher.compute(*views)[:, border:-border].astype(np.float32) / np.float32(16)
    matched = found >= -_RANGE
    smooth: Any = cv2.medianBlur(np.where(matched, found, np.float32(0)), _MEDIAN)
    return smooth, matched


def _warped(values: npt.NDArray[Any], shift: _Map) -> _Map:
    view, disparity = (torch.from_numpy(plane)[None, None] for plane in (values.astype(np.float32), shift))
    warped: _Map = warp_right_to_left(view, disparity)[0, 0].numpy()
    return warped


def _visible(disparity: _Map) -> npt.NDArray[np.bool_]:
    seen: npt.NDArray[np.bool_] = visible(torch.from_numpy(disparity)[None, None])[0, 0].numpy()
    return seen


def _grey(views: Tensor) -> npt.NDArray[np.uint8]:
    """Converts (B, C, H, W) to (B, H, W) grey levels."""
    views = in_unit_range(views).cpu()
    if views.shape[1] == 3:
        views = (views * views.new_tensor(_GREY)[:, None, None]).sum(dim=1, keepdim=True)
    levels: npt.NDArray[np.uint8] = (views[:, 0].clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return levels
