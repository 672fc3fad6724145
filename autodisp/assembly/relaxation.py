"""The relaxation of a search from its config section."""

from autodisp.config.search import RelaxationConfig
from autodisp.search.relaxations import Dirichlet, Relaxation, Softmax, Uniform


def build_relaxation(config: RelaxationConfig) -> Relaxation:
    """The relaxation by name."""
    match config.name:
        case "dirichlet":
            return Dirichlet(*_given(config.penalty))
        case "uniform":
            return Uniform()
        case _:
            return Softmax()


def _given(value: float | None) -> tuple[float, ...]:
    """The argument of a constructor; none where the config leaves it to the constructor's default."""
    return () if value is None else (value,)
