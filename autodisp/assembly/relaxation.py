"""The relaxation of a search and the penalty on its alphas, from their config sections."""

from collections.abc import Callable

from torch import Tensor

from autodisp.cells.architecture import Architecture
from autodisp.config.search import AlphaPenaltyConfig, RelaxationConfig
from autodisp.search.penalties import PENALTIES
from autodisp.search.perturbed import Perturbed
from autodisp.search.relaxations import Dirichlet, Frozen, Gumbel, Partial, Relaxation, Sigmoid, Softmax, Uniform


def build_relaxation(config: RelaxationConfig) -> Relaxation:
    """The relaxation by name."""
    if config.name == "perturbed":
        return Perturbed(
            _build_method(config),
            config.attack,  # type: ignore[arg-type]
            radius=config.radius,
            steps=config.steps,
        )
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


def build_alpha_penalty(config: AlphaPenaltyConfig) -> Callable[[Architecture, float], Tensor] | None:
    """The penalty by name; None for none."""
    if config.name == "none":
        return None
    penalty = PENALTIES[config.name]
    return lambda architecture, progress: penalty(architecture, progress, config.weight)


def _given(value: float | None) -> tuple[float, ...]:
    """The argument of a constructor; none where the config leaves it to the constructor's default."""
    return () if value is None else (value,)
