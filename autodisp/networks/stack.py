"""Stacked disparity networks (Saikia et al. 2019): CSS and css are a DisparityNetwork and two RefinementNetworks.

Each refinement receives the disparity of the previous stage at full resolution. The stack returns the prediction of its
last stage, so losses, metrics and programs do not depend on the others.

Trained stage by stage, as FlowNet 2.0 was (Ilg et al. 2017): first the network alone, then a stack of it and one
refinement with ``frozen_stages=1``, and so on. The state of a stack contains that of the shorter stack under the same
names (``stages.0.`` ...). A frozen stage has no gradient and stays in eval mode. Stages that are not frozen are trained
together, each by the loss of its own prediction: no gradient passes between stages, as in the released networks, where
resampling the disparity stops it.
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
        first: predicts the first disparity, with either head.
        refinements: applied in order; at least one.
        frozen_stages: number of leading stages that are not trained.

    Attributes:
        stages: the networks, in order.
        stride: the largest stride of any stage; images whose sides are multiples of it are not padded.
        frozen_stages: as set by ``freeze``.
    """

    def __init__(
        self, first: DisparityNetwork, refinements: Iterable[RefinementNetwork], *, frozen_stages: int = 0
    ) -> None:
        super().__init__()
        stages = [first, *refinements]
        if len(stages) < 2:
            raise ValueError(
                "refinements is empty, must contain at least one network: use the first network by itself, or add one"
            )
        self.stages = nn.ModuleList(stages)
        self.stride = max(stage.stride for stage in stages)
        self.freeze(frozen_stages)

    def freeze(self, count: int) -> None:
        """Freezes the first ``count`` stages and unfreezes the others.

        Raises:
            ValueError: count is negative, or leaves no stage to train.
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
        """Predicts the disparity of the left view; the result is that of the last stage.

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
