"""Means, deviations and rank correlations of the results of several runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from scipy.stats import rankdata, spearmanr


def mean(values: Sequence[float]) -> float | None:
    """Returns the mean; None of nothing."""
    return fmean(values) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Returns the sample standard deviation (n - 1); None of fewer than two values."""
    return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with an interval."""

    value: float
    low: float
    high: float
    """Ends of the interval of 95 %; NaN if it is undefined."""
    pairs: int

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}] over {self.pairs} pairs"


def rank_correlation(pairs: Sequence[tuple[float, float]], *, resamples: int = 2000) -> Correlation | None:
    """Computes Spearman's rank correlation with the percentile interval of a bootstrap over the pairs.

    Args:
        pairs: finite numbers.
        resamples: number of resamples, which are always the same.

    Returns:
        The correlation; None if it is undefined: fewer than three pairs, or one side constant.
    """
    if len(pairs) < 3 or any(len({pair[side] for pair in pairs}) < 2 for side in (0, 1)):
        return None
    values = np.array(pairs, dtype=float).T
    drawn = np.random.default_rng(0).integers(len(pairs), size=(resamples, len(pairs)))
    first, second = (rankdata(side[drawn], axis=1) - (len(pairs) + 1) / 2 for side in values)
    with np.errstate(invalid="ignore"):  # a resample with a constant side has no correlation
        found = (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))
    known = found[np.isfinite(found)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (math.nan, math.nan)
    value = float(spearmanr(*values).statistic)
    return Correlation(value, float(low), float(high), len(pairs))
