"""What is to be exported, and where to, from the typed config."""

from pathlib import Path

from autodisp.cells.genotype import zoo_names
from autodisp.cells.spaces import SearchSpace
from autodisp.config.export import ExportConfig
from autodisp.export.found_cells import Found, of_genotype, of_run


def build_found(config: ExportConfig) -> Found:
    """The cells that the config names.

    Raises:
        InputError: there are none, or they cannot be read.
    """
    space = None if config.space_file is None else SearchSpace.load(Path(config.space_file).expanduser())
    if config.run is not None:
        return of_run(Path(config.run).expanduser(), space=space)
    name = str(config.genotype)
    return of_genotype(name if name in zoo_names() else str(Path(name).expanduser()), space=space)


def build_out(config: ExportConfig) -> Path:
    """The folder for the files: as the config says, or beside what is exported."""
    if config.out is not None:
        return Path(config.out).expanduser()
    if config.run is not None:
        return Path(config.run).expanduser() / "export"
    if config.genotype in zoo_names():
        return Path("export") / str(config.genotype)
    if config.checkpoint == "shipped":
        return Path("export")
    return Path(str(config.checkpoint or config.genotype)).expanduser().parent / "export"
