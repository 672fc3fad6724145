"""Penalties on the alphas for any relaxation: terms that ``alpha_penalty`` adds to the loss of the alphas."""

from collections.abc import Callable

import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture

Penalty = Callable[[Architecture, float, float], Tensor]
"""(architecture, progress from 0 to below 1, weight) -> a scalar, differentiable in the alphas."""


def beta(architecture: Architecture, progress: float, weight: float) -> Tensor:
    """Mean logsumexp of the edges' alphas, with a weight that rises linearly from 0 (beta-DARTS; Ye et al. 2022).

    It keeps large alphas from growing further; the softmax alone is invariant to a common offset. The published search,
    optimizers/darts/architect.py of Sunshine-Ye/Beta-DARTS, weights it by 50 epoch / 100: over its 50 epochs that is
    weight 25.
    """
    sums = [
        torch.logsumexp(architecture.table(kind, alphas, float("-inf")), dim=-1)
        for kind, alphas in architecture.alphas.items()
    ]
    return weight * progress * torch.cat(sums).mean()


PENALTIES: dict[str, Penalty] = {"beta": beta}
"""Penalties by name in a config."""
