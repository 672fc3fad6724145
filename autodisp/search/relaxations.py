"""Relaxations: functions from architecture parameters to the edge weights of a step.

The loop computes edge weights once per forward pass of a step, and uses their mean for everything else: validation,
curvature, derivation, heat maps.
"""

import random
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import kl_divergence

from autodisp.cells.architecture import Architecture, single_path
from autodisp.cells.genotype import Genotype
from autodisp.cells.mixture import Mixture

Phase = Literal["weights", "alphas"]
"""The step that edge weights are for. All losses of an alpha step, the unrolled one included, are "alphas"."""
Loss = Callable[[Mixture], Tensor]
"""The training loss of a batch as a function of the edge weights."""


@runtime_checkable
class Relaxation(Protocol):
    """Computes edge weights from an architecture's parameters."""

    moves_alphas: bool = True
    """False if the edge weights do not depend on the alphas: no alpha steps, no curvature, nothing to derive."""

    def weights(self, architecture: Architecture, phase: Phase, progress: float, loss: Loss | None = None) -> Mixture:
        """Returns the edge weights of a forward pass, differentiable in the alphas; by default the mean.

        Random numbers are drawn from torch's CPU generator, which is part of the run state, and which a second-order
        gradient seeds identically for each of its evaluations of the training loss.

        Args:
            architecture: the architecture parameters.
            phase: "weights" or "alphas".
            progress: epoch over epochs, from 0 to below 1.
            loss: in a weight step, that of its batch, for adversarial relaxations.
        """
        return self.mean(architecture)

    @abstractmethod
    def mean(self, architecture: Architecture) -> Mixture:
        """Returns the deterministic edge weights for validation, curvature, derivation and heat maps."""

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """Returns a scalar to be added to the loss of the alphas, or None."""
        return None


class Softmax(Relaxation):
    """The softmax of each edge's alphas (DARTS; Liu et al. 2019)."""

    def mean(self, architecture: Architecture) -> Mixture:
        """The softmax."""
        return Mixture(architecture.weights())


class Frozen(Softmax):
    """The softmax of alphas that never move, for a selection by perturbation without a search (Wang et al. 2021)."""

    moves_alphas = False


class Dirichlet(Relaxation):
    """Samples of a Dirichlet distribution on each edge (DrNAS; Chen et al. 2021).

    The concentrations are elu(alpha) + 1, so that an alpha of 0 is the uniform distribution over the simplex. Facts
    of the published search: DARTS-space/model_search.py, utils.py and architect.py of xiangning-chen/DrNAS.

    Departs from it in two ways: validation and derivation take the distribution's mean instead of a sample and the
    softmax of the alphas; there is neither progressive pruning nor a growing share of channels.

    Args:
        penalty: weight of the Kullback-Leibler divergence to the uniform distribution, summed over all edges.
    """

    def __init__(self, penalty: float = 1e-3) -> None:
        self.scale = penalty

    def weights(self, architecture: Architecture, phase: Phase, progress: float, loss: Loss | None = None) -> Mixture:
        """Returns a sample of every edge, differentiable in the alphas by torch.distributions' reparameterisation."""
        tables = {}
        for kind, alphas in architecture.alphas.items():
            # drawn on the CPU, whose generator is part of the run state
            samples = torch.cat([found.rsample() for found in self._distributions(architecture, kind, alphas.cpu())])
            tables[kind] = architecture.table(kind, samples.to(alphas.device), 0.0)
        return Mixture(tables)

    def mean(self, architecture: Architecture) -> Mixture:
        """The concentrations of each edge over their sum."""
        tables = {}
        for kind, alphas in architecture.alphas.items():
            table = architecture.table(kind, _concentrations(alphas), 0.0)
            tables[kind] = table / table.sum(dim=-1, keepdim=True)
        return Mixture(tables)

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """Returns the weighted divergence from the start of the search, the uniform distribution; None for weight 0."""
        if self.scale == 0:
            return None
        terms = [
            kl_divergence(found, DirichletDistribution(torch.ones_like(found.concentration), validate_args=False))
            for kind, alphas in architecture.alphas.items()
            for found in self._distributions(architecture, kind, alphas)
        ]
        return self.scale * torch.stack(terms).sum()

    @staticmethod
    def _distributions(architecture: Architecture, kind: str, alphas: Tensor) -> list[DirichletDistribution]:
        """Returns one distribution per edge."""
        sizes = [len(edge.operations) for edge in architecture.space.cells[kind].edges]
        # the check of arguments would wait for the device
        return [DirichletDistribution(part, validate_args=False) for part in _concentrations(alphas).split(sizes)]


def _concentrations(alphas: Tensor) -> Tensor:
    """elu(alpha) + 1, without the cancellation that makes it 0 below -17."""
    return torch.where(alphas > 0, alphas + 1, alphas.clamp(max=0.0).exp())


class Gumbel(Softmax):
    """One operation per edge by a hard Gumbel-softmax sample, and no other is run (GDAS; Dong and Yang 2019).

    The forward pass has a weight of 1 on the drawn operation; the gradient is that of the relaxed sample
    softmax((log softmax(alpha) + g) / temperature) in its place (straight-through). The temperature falls linearly.
    Facts of the published search: xautodl/models/cell_searchs/search_model_gdas_frc_nasnet.py and
    exps/NATS-algos/search-cell.py of D-X-Y/AutoDL-Projects.

    Departs from it in two ways: reduction cells are searched too; validation and curvature take the softmax, which
    evaluates all operations.

    Args:
        first: temperature of the first epoch.
        last: temperature that the last epoch comes near.
    """

    def __init__(self, first: float = 10.0, last: float = 0.1) -> None:
        self.first = first
        self.last = last

    def weights(self, architecture: Architecture, phase: Phase, progress: float, loss: Loss | None = None) -> Mixture:
        """A hard sample of every edge."""
        temperature = self.first + (self.last - self.first) * progress
        tables, active = {}, {}
        for kind, alphas in architecture.alphas.items():
            table = torch.log_softmax(architecture.table(kind, alphas, float("-inf")), dim=-1)
            # drawn on the CPU, whose generator is part of the run state
            noise = -torch.empty(table.shape, dtype=table.dtype).exponential_().log().to(table.device)
            relaxed = torch.softmax((table + noise) / temperature, dim=-1)
            drawn = relaxed.argmax(dim=-1, keepdim=True)
            hard = torch.zeros_like(relaxed).scatter(-1, drawn, 1.0)
            tables[kind] = hard + relaxed - relaxed.detach()
            active[kind] = drawn.tolist()
        return Mixture(tables, active=active)


class Partial(Softmax):
    """The softmax of each edge's alphas, and of the edges' own alphas over those that enter a node (PC-DARTS).

    The network passes a share of the channels through the operations; the others bypass them (``MixedOperation``). The
    cells are derived from the products of both weights. Facts of the published search (Xu et al. 2020):
    model_search.py and train_search.py of yuhuixu1993/PC-DARTS.
    """

    def mean(self, architecture: Architecture) -> Mixture:
        """Returns both softmaxes.

        Raises:
            ValueError: the architecture has no alphas for its edges.
        """
        if not architecture.edges:
            raise ValueError("partial channels need an architecture with alphas of its edges: Architecture(edges=True)")
        return Mixture(architecture.weights(), edges=architecture.edge_weights())


class Sigmoid(Relaxation):
    """The sigmoid of each alpha: operations of an edge do not compete (FairDARTS; Chu et al. 2020).

    The penalty is its zero-one loss, times a weight, which drives the sigmoids away from 1/2. Facts of the published
    search: fairdarts/model_search.py, separate_loss.py and train_search.py of xiaomi-automl/FairDARTS.

    Departs from it in two ways: alphas begin near 0 instead of at 0; every node keeps as many edges as its space
    defines, each with one operation, while the published derivation omits operations below a threshold.
    """

    def __init__(self, penalty: float = 10.0) -> None:
        self.scale = penalty

    def mean(self, architecture: Architecture) -> Mixture:
        """The sigmoids."""
        return Mixture({
            kind: architecture.table(kind, alphas.sigmoid(), 0.0) for kind, alphas in architecture.alphas.items()
        })  # fmt: skip

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """Returns minus the weighted mean squared distance of the sigmoids from 1/2; None for weight 0."""
        if self.scale == 0:
            return None
        values = torch.cat([alphas.sigmoid() for alphas in architecture.alphas.values()])
        return -self.scale * (values - 0.5).square().mean()


class Uniform(Relaxation):
    """One random architecture in each step: random search with weight sharing (Li and Talwalkar 2019).

    A node draws as many of its edges as it keeps, without replacement, and an operation for each, ``none`` included,
    as the searches of RobustDARTS do. Weights are 1 on them and 0 elsewhere, and nothing else is evaluated.
    """

    moves_alphas = False

    def weights(self, architecture: Architecture, phase: Phase, progress: float, loss: Loss | None = None) -> Mixture:
        """Returns a random architecture, a new one at each call."""
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
            tables[kind] = architecture.table(kind, torch.tensor(shares).to(architecture.alphas[kind]), 0.0)
        return Mixture(tables)
