"""Builds the cost table of a search from its typed config: measured, read from a file, or that of the resumed run."""

from itertools import islice
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from autodisp.assembly.networks import build_device, build_style, use_threads
from autodisp.assembly.search import SearchData, build_search_task, build_space
from autodisp.atomic import replacing
from autodisp.checkpoints import Checkpoints
from autodisp.config.checks import naming
from autodisp.config.search import SearchConfig
from autodisp.errors import InputError
from autodisp.run_files import CHECKPOINTS, COSTS
from autodisp.search import costs
from autodisp.search.costs import CostTable
from autodisp.search.measuring import Deployment, measure
from autodisp.tasks.base import move


def build_deployment(config: SearchConfig, data: SearchData) -> Deployment:
    """Describes the network to be found, as wide as in the search, and its input for one sample."""
    space = build_space(config)
    task, style = build_search_task(config, data), build_style(config.network, space, affine=True)
    batch = move(next(iter(islice(data.validation, 1))), build_device(config.run.device))
    return Deployment(
        task, space, style, tuple(_of_one_sample(x, config.cost_penalty.size) for x in task.inputs(batch))
    )


def _of_one_sample(x: Tensor, size: list[int] | None) -> Tensor:
    """Returns the first sample of a batch, its images resized."""
    first = x[:1]
    return first if size is None or x.dim() < 4 else functional.interpolate(first, size)


def given_costs(config: SearchConfig, data: SearchData) -> CostTable | None:
    """Loads the table that the config names; None if it names none.

    Raises:
        InputError: the file is no cost table, or one of another space, network or input.
    """
    settings = config.cost_penalty
    if settings.name == "none" or settings.table is None:
        return None
    path = Path(settings.table).expanduser()
    with naming("cost_penalty.table", str(path)):
        return _loaded(path, config, build_deployment(config, data))


def build_costs(config: SearchConfig, data: SearchData, folder: Path, *, resume: bool = False) -> CostTable | None:
    """Builds the cost table of a search and writes it to its folder; None for a search without a cost penalty.

    A resumed run uses the table in the folder, since another measurement would change the search.

    Raises:
        InputError: a file is no cost table, or one of another space, network or input; or a resumed run has none.
    """
    if config.cost_penalty.name == "none":
        return None
    path = folder / COSTS
    if resume and (path.exists() or Checkpoints(folder / CHECKPOINTS).epochs()):
        return _loaded(path, config, build_deployment(config, data))
    use_threads(config.run.threads)
    table = given_costs(config, data) or measure(config.cost_penalty.name, build_deployment(config, data))
    save_costs(table, path)
    return table


def save_costs(table: CostTable, path: Path) -> None:
    """Writes a table.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            table.save(temporary)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or type(error).__name__})") from None


def _loaded(path: Path, config: SearchConfig, deployment: Deployment) -> CostTable:
    table, wanted = costs.load(path), config.cost_penalty.name
    if table.quantity != wanted:
        raise InputError(
            f"{path}: has the quantity {table.quantity}, but cost_penalty={wanted}; take a table of {wanted}"
        )
    differing = list(costs.differences(table.about, deployment.about))
    if table.space != deployment.space:
        differing.insert(0, f"the space is {table.space.name} there and {deployment.space.name} here")
    if differing:
        raise InputError(
            f"{path}: is of another search: {'; '.join(differing[:3])}; make one with plan=true cost_penalty.save=FILE"
        )
    cells = [(cell.name, cell.kind) for cell in table.cells]
    if cells != deployment.cells:
        found, needed = (", ".join(f"{name} ({kind})" for name, kind in each) for each in (cells, deployment.cells))
        raise InputError(f"{path}: its cells are {found}, those of the network {needed}; measure it again")
    return table
