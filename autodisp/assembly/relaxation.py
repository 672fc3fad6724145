"""Builds the relaxation of a search and the penalties on its alphas from their config sections."""

import math
from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor

from autodisp.cells.architecture import Architecture
from autodisp.cells.mixture import Mixture
from autodisp.config.search import AlphaPenaltyConfig, CostPenaltyConfig, RelaxationConfig
from autodisp.datasets.own import run_file
from autodisp.errors import InputError, WrongSetting, in_one_line
from autodisp.search.costs import CostPenalty, CostTable
from autodisp.search.penalties import PENALTIES
from autodisp.search.perturbed import Perturbed
from autodisp.search.relaxations import (
    Dirichlet,
    Frozen,
    Gumbel,
    Loss,
    Partial,
    Phase,
    Relaxation,
    Sigmoid,
    Softmax,
    Uniform,
)


def build_relaxation(config: RelaxationConfig) -> Relaxation:
    """Builds the relaxation by name.

    Raises:
        WrongSetting: a user-defined relaxation cannot be constructed, or lacks a member.
    """
    if config.factory is not None:
        return _build_own(config.factory)
    if config.name == "perturbed":
        return Perturbed(_build_method(config), config.attack, radius=config.radius, steps=config.steps)
    return _build_method(config)


def _build_method(config: RelaxationConfig) -> Relaxation:
    match config.method:
        case "dirichlet":
            return Dirichlet(*_given(config.penalty))
        case "gumbel":
            return Gumbel(config.first_temperature, config.last_temperature)
        case "partial":
            return Partial()
        case "sigmoid":
            return Sigmoid(*_given(config.penalty))
        case "frozen":
            return Frozen()
        case "uniform":
            return Uniform()
        case _:
            return Softmax()


def _build_own(factory: str) -> Relaxation:
    """Constructs the class of that name in the file. The file is executed, so only a setting may name it."""
    where, _, name = factory.rpartition(":")
    origin = f"relaxation.factory={factory}"
    try:
        make = getattr(run_file(where) if where.endswith(".py") else import_module(where), name, None)
        made = None if make is None else make()
    except (Exception, SystemExit) as error:  # unknown code may raise anything
        raise WrongSetting(
            f"{origin}: constructing it raised {type(error).__name__}: {in_one_line(error)}; fix the file"
        ) from error
    if made is None:
        raise WrongSetting(f"{origin}: {where} has no class '{name}'; write FILE.py:CLASS")
    if not isinstance(made, Relaxation):
        missing = [member for member in ("moves_alphas", "weights", "mean", "penalty") if not hasattr(made, member)]
        raise WrongSetting(f"{origin}: has no {', '.join(missing)}; see autodisp.search.relaxations.Relaxation")
    if not made.moves_alphas:
        raise WrongSetting(f"{origin}: its moves_alphas is False, must be True; without alphas take relaxation=frozen")
    return _Checked(made, origin)


class _Checked(Relaxation):
    """A custom relaxation whose results are checked where they are returned: the engine would fail elsewhere."""

    def __init__(self, made: Relaxation, origin: str) -> None:
        self.made, self.origin = made, origin
        self.padded = set[str]()
        """Names of the results whose padding was checked, once each since it waits for the device."""

    def weights(self, architecture: Architecture, phase: Phase, progress: float, loss: Loss | None = None) -> Mixture:
        found = self.made.weights(architecture, phase, progress, loss)
        return self._mixture("weights", architecture, found, moves=phase == "alphas")

    def mean(self, architecture: Architecture) -> Mixture:
        return self._mixture("mean", architecture, self.made.mean(architecture), moves=True)

    def penalty(self, architecture: Architecture, progress: float) -> Tensor | None:
        found: object = self.made.penalty(architecture, progress)
        if found is None or (isinstance(found, Tensor) and found.ndim == 0):
            return found
        raise self._wrong("penalty", found, "a scalar tensor or None")

    def _mixture(self, name: str, architecture: Architecture, found: object, *, moves: bool) -> Mixture:
        wanted = {kind: tuple(architecture.present(kind).shape) for kind in architecture.space.kinds}
        if not isinstance(found, Mixture):
            raise self._wrong(name, found, "a Mixture")
        if (shapes := {kind: tuple(table.shape) for kind, table in found.items()}) != wanted:
            raise self._wrong(name, shapes, f"tables {wanted}")
        if moves and torch.is_grad_enabled() and not any(table.requires_grad for table in found.tensors):
            raise self._wrong(name, "constant tables", "differentiable in the alphas")
        if name not in self.padded and any(bool(found[kind][~architecture.present(kind)].any()) for kind in wanted):
            must = "0 there, as after a softmax of architecture.table(kind, alphas, float('-inf'))"
            raise self._wrong(name, "weights in columns that an edge lacks", must)
        self.padded.add(name)
        return found

    def _wrong(self, name: str, found: object, wanted: str) -> InputError:
        shown = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else in_one_line(found, at_most=100)
        return InputError(f"{self.origin}: {name} returns {shown}, must be {wanted}")


def build_alpha_penalty(config: AlphaPenaltyConfig) -> Callable[[Architecture, float], Tensor] | None:
    """Builds the penalty by name; None for none."""
    if config.name == "none":
        return None
    penalty = PENALTIES[config.name]
    return lambda architecture, progress: penalty(architecture, progress, config.weight)


def build_cost_penalty(config: CostPenaltyConfig, table: CostTable | None) -> CostPenalty | None:
    """Builds the penalty on the cost; None for none. Without a target, as in a plan, it is 0.

    Raises:
        ValueError: there is no table.
    """
    if config.name == "none":
        return None
    if table is None:
        raise ValueError(f"cost_penalty={config.name} needs a table of costs: pass that of assembly.costs.build_costs")
    return CostPenalty(table, math.inf if config.target is None else config.target, config.weight)


def _given(value: float | None) -> tuple[float, ...]:
    """The argument of a constructor; empty if the config leaves it to the constructor's default."""
    return () if value is None else (value,)
