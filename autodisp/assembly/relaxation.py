"""Builds the relaxation of a search and the penalties on its alphas from their config sections."""

import math
from collections.abc import Callable
from importlib import import_module

from torch import Tensor

from autodisp.cells.architecture import Architecture
from autodisp.config.search import AlphaPenaltyConfig, CostPenaltyConfig, RelaxationConfig
from autodisp.datasets.own import run_file
from autodisp.errors import WrongSetting, in_one_line
from autodisp.search.costs import CostPenalty, CostTable
from autodisp.search.penalties import PENALTIES
from autodisp.search.perturbed import Perturbed
from autodisp.search.relaxations import Dirichlet, Frozen, Gumbel, Partial, Relaxation, Sigmoid, Softmax, Uniform


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
    return made


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
