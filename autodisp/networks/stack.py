"""Disparity networks in a row (Saikia et al. 2019): CSS and css are a DisparityNetwork and two RefinementNetworks.

Each refinement is given the previous stage's disparity at full resolution. The stack says what its last stage says,
so that losses, measures and programs need not know that there are others.

Trained stage by stage, as FlowNet 2.0 was (Ilg et al. 2017): first the network alone, then a stack of it and one
refinement with ``frozen_stages=1``, and so on. A stack's state holds that of the shorter stack under the same names
(``stages.0.`` ...). A frozen stage is a fixed function: no gradient, eval mode whatever the stack's mode. Stages that
are not frozen are trained side by side, each by the loss of its own prediction: no gradient passes from one to the
next, as in the released networks, where resampling the disparity stops it.
"""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from autodisp.networks.disparity import DisparityNetwork, StereoPrediction
from autodisp.networks.refinement import RefinementNetwork


class StackedDisparityNetwork(nn.Module):
    """A disparity network and the refinements that follow it.

    Args:
        first: says the first disparity, with either head.
        refinements: correct it one after the other, at least one.
        frozen_stages: that many, from the first one on, are not trained.

    Attributes:
        stages: the networks in their order.
        stride: the coarsest of any stage; images of multiples of it are padded by none.
        frozen_stages: as set by ``freeze``.
    """

    def __init__(
        self, first: DisparityNetwork, refinements: Iterable[RefinementNetwork], *, frozen_stages: int = 0
    ) -> None:
        super().__init__()
        stages = [first, *refinements]
        if len(stages) < 2:
            raise ValueError("a stack without refinements is its first network: use that, or give it one")
        self.stages = nn.ModuleList(stages)
        self.stride = max(stage.stride for stage in stages)
        self.freeze(frozen_stages)

    def freeze(self, count: int) -> None:
        """Freezes so many stages, from the first one on; the others can be trained (again).

        Raises:
            ValueError: there are fewer stages, or none would be left to train.
        """
        if not 0 <= count < len(self.stages):
            raise ValueError(
                f"frozen_stages is {count} but must be 0 to {len(self.stages) - 1}: of {len(self.stages)} stages "
                "the last one is always trained"
            )
        self.frozen_stages = count
        for index, stage in enumerate(self.stages):
            stage.requires_grad_(index >= count)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of the stages that are not frozen."""
        super().train(mode)
        for stage in self.stages[: self.frozen_stages]:
            stage.eval()
        return self

    def forward(self, left: Tensor, right: Tensor, weights: Mapping[str, Tensor] | None = None) -> StereoPrediction:
        """The disparity of the left view, as the last stage sees it.

        Args:
            left, right: (B, 3, H, W), RGB in 0..1, any H and W.
            weights: edge weights of the supernet, the same for all stages; None for a found network.
        """
        predictions: list[StereoPrediction] = []
        for index, stage in enumerate(self.stages):
            given = (left, right, *(said.disparity.detach() for said in predictions[-1:]))
            with torch.no_grad() if index < self.frozen_stages else nullcontext():
                predictions.append(stage(*given, weights))
        return predictions[-1]._replace(earlier=tuple(predictions[self.frozen_stages : -1]))
