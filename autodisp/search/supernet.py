"""A task's network with its architecture parameters, and the losses of both levels of the search."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from autodisp import distributed
from autodisp.cells.architecture import Architecture, EdgeWeights, single_path
from autodisp.cells.cell import without_drop_path
from autodisp.cells.genotype import Genotype, derive
from autodisp.cells.mixture import Mixture
from autodisp.search.costs import CostPenalty
from autodisp.search.curvature import frozen_statistics
from autodisp.search.relaxations import Phase, Relaxation, Softmax
from autodisp.tasks.base import Sums, Task, means, move, pool, pooled_over_processes


class Supernet:
    """Task, network and alphas together.

    Args:
        task: defines inputs, loss and metrics.
        network: built by the task from mixed cells, on its device.
        architecture: of the same space, on the same device.
        relaxation: computes edge weights from the architecture's parameters; by default the softmax.
        alpha_penalty: (architecture, progress) -> a term of the alphas' loss in addition to the relaxation's own.
        cost_penalty: a term of the alphas' loss for the cost of the found network.

    Attributes:
        projection: a selection's decisions so far, applied to all edge weights; None while the search runs.
    """

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        architecture: Architecture,
        relaxation: Relaxation | None = None,
        alpha_penalty: Callable[[Architecture, float], Tensor] | None = None,
        cost_penalty: CostPenalty | None = None,
    ) -> None:
        self.task = task
        self.network = network
        self.architecture = architecture
        self.relaxation = relaxation or Softmax()
        self.alpha_penalty = alpha_penalty
        self.cost_penalty = cost_penalty
        self.projection: Callable[[Mixture], Mixture] | None = None
        self.device = next(network.parameters()).device

    @property
    def alphas(self) -> list[nn.Parameter]:
        """The architecture parameters: a vector per kind of cell, and one for its edges if they have alphas."""
        return list(self.architecture.parameters())

    def mean(self) -> Mixture:
        """The relaxation's mean edge weights under the current alphas."""
        return self._projected(self.relaxation.mean(self.architecture))

    def weights(self, phase: Phase, progress: float, loss: Callable[[Mixture], Tensor] | None = None) -> Mixture:
        """The relaxation's edge weights of a forward pass; see ``Relaxation.weights``."""
        projected = None if loss is None else lambda mixture: loss(self._projected(mixture))
        return self._projected(self.relaxation.weights(self.architecture, phase, progress, projected))

    def _projected(self, mixture: Mixture) -> Mixture:
        return mixture if self.projection is None else self.projection(mixture)

    def penalty(self, progress: float) -> Tensor | None:
        """The terms added to the loss of the alphas, or None."""
        terms = [self.relaxation.penalty(self.architecture, progress)]
        if self.alpha_penalty is not None:
            terms.append(self.alpha_penalty(self.architecture, progress))
        if self.cost_penalty is not None:
            terms.append(self.cost_penalty(self.mean()))
        found = [term for term in terms if term is not None]
        return torch.stack(found).sum() if found else None

    def output(self, batch: Any, edge_weights: EdgeWeights | None = None) -> Any:
        """The network's output for a batch, by default under the mean edge weights."""
        weights = self.mean() if edge_weights is None else edge_weights
        return self.network(*self.task.inputs(batch), weights)

    def loss(
        self, batch: Any, parameters: Mapping[str, Tensor] | None = None, edge_weights: EdgeWeights | None = None
    ) -> Tensor:
        """The loss of a batch, by default with the network's weights and under the mean edge weights."""
        if parameters is None:
            return self.task.loss(self.output(batch, edge_weights), batch)
        inputs = (*self.task.inputs(batch), self.mean() if edge_weights is None else edge_weights)
        return self.task.loss(functional_call(self.network, dict(parameters), inputs), batch)

    def alpha_loss(self, batch: Any, edge_weights: EdgeWeights | None = None) -> Tensor:
        """Same value as ``loss``, for derivatives in the alphas only: the graph excludes gradients of weights."""
        detached = {name: weight.detach() for name, weight in self.network.named_parameters()}
        return self.loss(batch, detached, edge_weights)

    def to_device(self, batch: Any) -> Any:
        """The batch on the network's device."""
        return move(batch, self.device)

    def evaluate(self, batches: Iterable[Any], edge_weights: EdgeWeights | None = None) -> dict[str, float]:
        """Loss and metrics pooled over the batches, by default under the mean edge weights."""
        return self.evaluate_each(batches, [edge_weights])[0]

    def evaluate_each(
        self, batches: Iterable[Any], edge_weights: Sequence[EdgeWeights | None]
    ) -> list[dict[str, float]]:
        """Loss and metrics under several edge weights, without gradient, normalised as in train mode.

        Each batch is read once. A supernet's running statistics lag behind its weights and do not fit a discretised
        cell, so every batch is normalised by its own statistics, as in the search. Running statistics are not changed.
        """
        pooled: list[Sums] = [{} for _ in edge_weights]
        mine = distributed.share(batches)
        with distributed.agreed(), distributed.alone():
            for batch in map(self.to_device, mine):
                for sums, weights in zip(pooled, edge_weights, strict=True):
                    output = self.predict(batch, weights)
                    loss = self.task.loss(output, batch).to(torch.float64)
                    pool(sums, {"loss": torch.stack([loss, torch.ones_like(loss)]), **self.task.measure(output, batch)})
        return [means(sums) for sums in pooled_over_processes(pooled)]

    @torch.no_grad()
    def predict(self, batch: Any, edge_weights: EdgeWeights | None = None) -> Any:
        """The output without gradient or drop-path; running statistics are not changed."""
        with frozen_statistics(self.network), without_drop_path(self.network):
            return self.output(batch, edge_weights)

    def genotype(self) -> Genotype:
        """The cells with the largest mean edge weights."""
        return derive(self.architecture.space, self.mean().ranked())

    def discretised(self, genotype: Genotype | None = None) -> Mixture:
        """Edge weights of one on the genotype, by default the current one, and zero elsewhere."""
        return single_path(self.architecture.space, genotype or self.genotype(), self.device)
