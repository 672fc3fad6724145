"""Relaxations: how architecture parameters become the edge weights of a step.

The loop asks for edge weights once in each forward pass of a step and takes everything else on their mean:
validation, curvature, derivation, heat maps.
"""

import random
from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture, single_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture

Phase = Literal["weights", "alphas"]
"""The step that edge weights are for. All losses of an alpha step, the unrolled one included, are "alphas"."""


class Relaxation(Protocol):
    """Makes edge weights of an architecture's parameters."""

    moves_alphas: bool
    """False where the edge weights do not depend on the alphas: no alpha steps, no curvature, nothing to derive."""

    def weights(
        self,
        architecture: Architecture,
        phase: Phase,
        progress: float,
        loss: Callable[[Mixture], Tensor] | None = None,
    ) -> Mixture:
        """The edge weights of a forward pass, differentiable in the alphas.

        Whatever is drawn comes from torch's random generator of the CPU, which is part of the run state, and which
        a second-order gradient seeds alike for each of its evaluations of the training loss.

        Args:
            architecture: whose parameters they are made of.
            phase: "weights" or "alphas".
            progress: epoch over epochs, from 0 to below 1.
            loss: in a weight step the training loss of its batch as a function of the edge weights, for relaxations
                that search for bad ones.
        """
        ...

    def mean(self, architecture: Architecture) -> Mixture:
        """The edge weights without chance, of validation, curvature, derivation and heat maps."""
        ...

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """A scalar that is added to the loss of the alphas; None where there is none."""
        ...


class Softmax:
    """The softmax of each edge's alphas (DARTS; Liu et al. 2019)."""

    moves_alphas = True

    def weights(
        self,
        architecture: Architecture,
        phase: Phase,
        progress: float,
        loss: Callable[[Mixture], Tensor] | None = None,
    ) -> Mixture:
        """The softmax, whatever the step."""
        return self.mean(architecture)

    def mean(self, architecture: Architecture) -> Mixture:
        """The softmax."""
        return Mixture(architecture.weights())

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """None."""
        return None


class Uniform:
    """One random architecture in each step: random search with weight sharing (Li and Talwalkar 2019).

    A node draws as many of its edges as it keeps, without replacement, and an operation for each, ``none`` included,
    as the searches of RobustDARTS do. Weights are 1 on them and 0 elsewhere, and nothing else is evaluated.
    """

    moves_alphas = False

    def weights(
        self,
        architecture: Architecture,
        phase: Phase,
        progress: float,
        loss: Callable[[Mixture], Tensor] | None = None,
    ) -> Mixture:
        """A random architecture, another one at each call."""
        space = architecture.space
        draw = random.Random(int(torch.randint(2**62, ()).item()))
        device = next(architecture.parameters()).device
        return single_path(space, Genotype(space.name, space.draw(draw)), device)

    def mean(self, architecture: Architecture) -> Mixture:
        """The expectation of the weights: on an edge of n, of which k are kept, k / n over its operations."""
        tables = {}
        for kind, cell in architecture.space.cells.items():
            shares = [
                keep / len(node) / len(edge.operations)
                for node, keep in zip(cell.nodes, cell.keep, strict=True)
                for edge in node
                for _ in edge.operations
            ]
            tables[kind] = architecture.table(kind, architecture.alphas[kind].new_tensor(shares), 0.0)
        return Mixture(tables)

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """None."""
        return None
