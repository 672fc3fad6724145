"""Divides a training split into a weight split and an architecture split, and takes subsets of a dataset."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from autodisp.datasets.streams import MapDataset
from autodisp.errors import InputError

Sample = TypeVar("Sample")


def halves(
    groups_or_n: Sequence[str] | int,
    *,
    seed: int,
    fraction: float = 0.5,
    parts: str = "a weight split and an architecture split",
) -> tuple[list[int], list[int]]:
    """Divides samples into two splits: disjoint, complete, never empty, and reproducible for the same seed.

    Args:
        groups_or_n: one group per sample, such as its scene, if no group may be divided; or the number of samples, each
            of which may be assigned to either split.
        seed: determines the assignment.
        fraction: share of the samples for the weights. With groups, no other choice of whole groups is closer to it.
        parts: what they are divided into, for messages.

    Returns:
        Ascending indices of the samples for the weights and of those for the architecture.

    Raises:
        InputError: fraction is not within (0, 1), or there are fewer than two samples or groups.
    """
    if not 0 < fraction < 1:
        raise InputError(f"fraction={fraction}: the part of the samples for the weights must lie between 0 and 1")
    groups: Sequence[str] | range = range(groups_or_n) if isinstance(groups_or_n, int) else groups_or_n
    # Sorted before shuffling, so that the result does not depend on hashing or on the order of the files.
    sizes = sorted(Counter(groups).items())
    if len(sizes) < 2:
        what = "sample(s)" if isinstance(groups_or_n, int) else f"scene(s) in {len(groups)} sample(s)"
        raise InputError(
            f"{parts} need two or more, but there is {len(sizes)} {what}: give more data or raise dataset.limit"
        )
    shuffled = [sizes[i] for i in np.random.default_rng(seed).permutation(len(sizes))]
    if len(sizes) == len(groups):
        chosen = {name for name, _ in shuffled[: min(max(round(fraction * len(groups)), 1), len(groups) - 1)]}
    else:
        picked = _nearest_sum([size for _, size in shuffled], fraction * len(groups))
        chosen = {shuffled[i][0] for i in picked}
    weights = [i for i, group in enumerate(groups) if group in chosen]
    architecture = [i for i, group in enumerate(groups) if group not in chosen]
    return weights, architecture


def deal(groups_or_n: Sequence[str] | int, *, limit: int | None, seed: int) -> tuple[list[int], list[int]]:
    """Selects the samples of a search: at most `limit`, see `subset`, divided into two splits, see `halves`.

    Returns:
        Ascending indices, among all samples, of those for the weights and of those for the architecture.
    """
    n = groups_or_n if isinstance(groups_or_n, int) else len(groups_or_n)
    chosen = subset(n, limit=limit, seed=seed)
    among = len(chosen) if isinstance(groups_or_n, int) else [groups_or_n[index] for index in chosen]
    weights, architecture = halves(among, seed=seed)
    return [chosen[index] for index in weights], [chosen[index] for index in architecture]


def subset(n: int, *, limit: int | None, seed: int) -> list[int]:
    """Selects at most `limit` of n samples at random.

    With the same seed, a larger limit includes every sample of a smaller one.

    Returns:
        Ascending indices; all n if limit is None or not below n.

    Raises:
        InputError: limit is not positive.
    """
    if limit is not None and limit < 1:
        raise InputError(f"dataset.limit={limit}: must be 1 or more, or null to take all samples")
    if limit is None or limit >= n:
        return list(range(n))
    return sorted(int(i) for i in np.random.default_rng(seed).permutation(n)[:limit])


class Part(Generic[Sample]):
    """A subset of a dataset at given indices; a typed ``torch.utils.data.Subset``.

    Args:
        dataset: the dataset that is read.
        indices: indices in the dataset, in the order of the subset.
        transform: deterministic transform applied to every sample.
    """

    def __init__(
        self, dataset: MapDataset[Sample], indices: Sequence[int], transform: Callable[[Sample], Sample] | None = None
    ) -> None:
        self.dataset = dataset
        self.indices = list(indices)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        """Returns the sample at a position of the subset."""
        sample = self.dataset[self.indices[index]]
        return sample if self.transform is None else self.transform(sample)


def _nearest_sum(sizes: Sequence[int], target: float) -> list[int]:
    """Chooses some, but not all, of the sizes so that their sum is as close as possible to the target (subset sum)."""
    total = sum(sizes)
    # reached_by[s]: first item with which the sum s can be formed from the items up to it; -1 if not yet possible.
    reached_by: npt.NDArray[np.int64] = np.full(total + 1, -1, dtype=np.int64)
    reachable: npt.NDArray[np.bool_] = np.zeros(total + 1, dtype=np.bool_)
    reachable[0] = True
    for item, size in enumerate(sizes):
        shifted = np.zeros_like(reachable)
        shifted[size:] = reachable[: total + 1 - size]
        new = shifted & ~reachable
        reached_by[new] = item
        reachable |= new
    sums = np.flatnonzero(reachable)[1:-1]
    remaining = int(sums[np.abs(sums - target).argmin()])
    picked = []
    while remaining:
        picked.append(int(reached_by[remaining]))
        remaining -= sizes[picked[-1]]
    return picked
