"""What of a map is no disparity."""

import math

import pytest
import torch

from autodisp.datasets.flaws import DisparityFlaws


@pytest.mark.parametrize(
    ("pixels", "unknown", "expected"),
    [
        ([0.0, 1.0, 300.0], None, (0, 0)),
        ([-0.0, -1e-30, -5.0], None, (0, 2)),
        ([math.nan, math.inf, -math.inf, -1.0], None, (3, 1)),
        ([math.nan, math.inf, -math.inf, -1.0], math.inf, (2, 1)),
        ([], None, (0, 0)),
    ],
)
def test_counts(pixels: list[float], unknown: float | None, expected: tuple[int, int]) -> None:
    assert DisparityFlaws.of(torch.tensor(pixels), unknown=unknown) == expected
