"""Perturbed edge weights around a weight step (SDARTS; Chen and Hsieh 2020).

Facts of the published search: sota/cnn/train_search.py of xiangning-chen/SmoothDARTS, attacker/perturb.py and
linf_sgd.py as ruocwang/darts-pt carries them.

Departs from it in two ways: the ascent normalises by its own batch, as every step of a supernet here, while the
published one uses running statistics; the edge factors of partial channels are not perturbed.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from autodisp import distributed
from autodisp.cells.architecture import Architecture
from autodisp.cells.mixture import Mixture
from autodisp.search.relaxations import Loss, Phase, Relaxation

Attack = Literal["random", "adversarial"]
Tables = dict[str, Tensor]
FIRST_RADIUS = 0.03


class Perturbed(Relaxation):
    """Wraps another relaxation, and perturbs its operation weights within a box in weight steps.

    Args:
        base: computes the edge weights; each row of its tables adds up to 1.
        attack: "random", uniform within the box, or "adversarial", projected ascent on the training loss from a random
            start, used only if the loss does not fall.
        radius: half the side of the box at the end of the search, rising linearly from 0.03.
        steps: number of ascent steps, each by the sign of the gradient times 2 radius / steps.
    """

    def __init__(self, base: Relaxation, attack: Attack = "random", *, radius: float = 0.3, steps: int = 7) -> None:
        self.base = base
        self.attack = attack
        self.radius = radius
        self.steps = steps
        self.moves_alphas = base.moves_alphas

    def weights(self, architecture: Architecture, phase: Phase, progress: float, loss: Loss | None = None) -> Mixture:
        """Returns perturbed edge weights in a weight step, and those of the base in an alpha step.

        Raises:
            ValueError: an adversarial weight step without a loss.
        """
        mixture = self.base.weights(architecture, phase, progress, loss)
        if phase == "alphas":
            return mixture
        mixture = mixture.detach()
        radius = FIRST_RADIUS + (self.radius - FIRST_RADIUS) * progress
        tables = {
            kind: on_simplex(table + _noise(architecture, kind, radius), architecture.present(kind))
            for kind, table in mixture.items()
        }
        if self.attack == "random":
            return replace(mixture, operations=tables)
        if loss is None:
            raise ValueError("an adversarial perturbation needs the training loss of its step")
        return replace(mixture, operations=self._climbed(architecture, mixture, tables, radius, loss))

    def mean(self, architecture: Architecture) -> Mixture:
        """The base's."""
        return self.base.mean(architecture)

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        """The base's."""
        return self.base.penalty(architecture, progress)

    def _climbed(
        self, architecture: Architecture, mixture: Mixture, tables: Tables, radius: float, loss: Loss
    ) -> Tables:
        """Returns the tables after the ascent, or those of the mixture if the loss has fallen."""
        with torch.no_grad():
            before = distributed.mean([loss(mixture)])[0]
        for _ in range(self.steps):
            leaves = {kind: table.requires_grad_() for kind, table in tables.items()}
            value = loss(replace(mixture, operations=leaves))
            slopes = distributed.mean(torch.autograd.grad(value, list(leaves.values()), materialize_grads=True))
            with torch.no_grad():
                tables = {
                    kind: on_simplex(
                        mixture[kind] + (table + 2 * radius / self.steps * slope.sign() - mixture[kind]).clamp(
                            -radius, radius
                        ),
                        architecture.present(kind),
                    )
                    for (kind, table), slope in zip(leaves.items(), slopes, strict=True)
                }  # fmt: skip
        with torch.no_grad():
            after = distributed.mean([loss(replace(mixture, operations=tables))])[0]
            fell = after < before  # compared on the device, without synchronisation
            return {kind: torch.where(fell, mixture[kind], table) for kind, table in tables.items()}


def on_simplex(table: Tensor, present: Tensor) -> Tensor:
    """Clamps rows to 0..1 and divides them by their sum; a row without positive entries becomes 1 at its largest entry.

    Args:
        table: (edges, width).
        present: (edges, width), bool; other entries are padding and stay 0.
    """
    kept = table.clamp(0.0, 1.0) * present
    largest = table.masked_fill(~present, float("-inf")).argmax(dim=-1, keepdim=True)
    alone = torch.zeros_like(kept).scatter(-1, largest, 1.0)
    kept = torch.where(kept.sum(dim=-1, keepdim=True) > 0, kept, alone)
    return kept / kept.sum(dim=-1, keepdim=True)


def _noise(architecture: Architecture, kind: str, radius: float) -> Tensor:
    """(edges, width), uniform within the radius; 0 where an edge has no operation."""
    alphas = architecture.alphas[kind]
    # drawn on the CPU, whose generator is part of the run state
    noise = torch.empty(alphas.shape, dtype=alphas.dtype).uniform_(-radius, radius)
    return architecture.table(kind, noise.to(alphas.device), 0.0)
